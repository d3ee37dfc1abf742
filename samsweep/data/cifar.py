"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), downloaded once through torchvision.

Importing this module, and :func:`download` where nothing is missing, are free of torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samsweep.data.download import Release

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

    from samsweep.data.splits import Split, SplitData


@dataclass(frozen=True, kw_only=True)
class _Cifar:
    """One of the two data sets.

    Args:
        release: Archive and files.
        mean: Of the 50,000 training images' channels, in the scale [0, 1].
        std: The same for the standard deviation.
    """

    release: Release
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _release(name: str, archive: str, folder: str, files: tuple[str, ...]) -> Release:
    def sources() -> list[tuple[str, str]]:
        source = _torchvision_class(name)
        return [(source.url, source.tgz_md5)]

    paths = tuple(f"{folder}/{file}" for file in files)
    return Release(archives=(archive,), files=paths, sources=sources)


_CIFAR = {
    "cifar10": _Cifar(
        release=_release(
            "cifar10",
            "cifar-10-python.tar.gz",
            "cifar-10-batches-py",
            (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
        ),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    # Mean and standard deviation as in the study's protocol.
    "cifar100": _Cifar(
        release=_release(
            "cifar100", "cifar-100-python.tar.gz", "cifar-100-python", ("train", "test", "meta")
        ),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
}


def download(name: str, data_dir: Path) -> None:
    """Fetch and unpack ``cifar10`` or ``cifar100``; see :meth:`Release.download`.

    Raises:
        ConfigError: If it can neither be found nor fetched.
    """
    _CIFAR[name].release.download(name, data_dir)


def load_cifar(name: str, data_dir: Path) -> SplitData:
    """45,000 training, 5,000 validation and 10,000 test images of 3x32x32.

    Args:
        name: ``cifar10`` or ``cifar100`` (fine labels).
        data_dir: Folder of downloaded data sets.

    Raises:
        ConfigError: If the data set cannot be downloaded, or its files are damaged.
    """
    import torch

    from samsweep.data.splits import from_published

    download(name, data_dir)
    published, test = (_read(name, data_dir, train=train) for train in (True, False))
    mean, std = (torch.tensor(part) * 255 for part in (_CIFAR[name].mean, _CIFAR[name].std))
    return from_published(name, published, test, moments=(mean, std))


def _torchvision_class(name: str) -> type[CIFAR10]:
    from torchvision.datasets import CIFAR10, CIFAR100

    classes: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
    return classes[name]


def _read(name: str, data_dir: Path, *, train: bool) -> Split:
    """All published training or test images. Checksums are verified before unpickling."""
    import torch

    from samsweep.data.splits import Split

    try:
        part = _torchvision_class(name)(data_dir, train=train)
    except RuntimeError as error:
        raise _CIFAR[name].release.damaged(name, data_dir) from error
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return Split(inputs=images, labels=torch.tensor(part.targets, dtype=torch.int64))
