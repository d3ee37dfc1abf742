"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), downloaded once through torchvision.

Importing this module, and :func:`download` where nothing is missing, are free of torch.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from samsweep.config import DATASETS, ConfigError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

    from samsweep.data.images import ImageData, Split


@dataclass(frozen=True, kw_only=True)
class _Release:
    """One of the two data sets as published.

    Args:
        archive: File name of the archive.
        folder: Folder that the archive unpacks to.
        files: What that folder holds.
        mean: Of the 50,000 training images' channels, in the scale [0, 1].
        std: The same for the standard deviation.
    """

    archive: str
    folder: str
    files: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_RELEASES = {
    "cifar10": _Release(
        archive="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        files=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    # Mean and standard deviation as in the study's protocol.
    "cifar100": _Release(
        archive="cifar-100-python.tar.gz",
        folder="cifar-100-python",
        files=("train", "test", "meta"),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
}


def is_available(name: str, data_dir: Path) -> bool:
    """Whether the data set lies unpacked in ``data_dir``. Looks at file names only."""
    release = _RELEASES[name]
    return all((data_dir / release.folder / file).is_file() for file in release.files)


def download(name: str, data_dir: Path) -> None:
    """Fetch and unpack the data set unless it is there.

    Processes that ask at the same time wait for the first one. An archive that already lies in
    ``data_dir`` with the published checksum is unpacked without any network.

    Args:
        name: ``cifar10`` or ``cifar100``.
        data_dir: Folder of downloaded data sets; created if missing.

    Raises:
        ConfigError: If it can neither be found nor fetched.
    """
    if is_available(name, data_dir):
        return
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{name}.lock"):
            if not is_available(name, data_dir):
                _fetch_and_unpack(name, data_dir)
    # torchvision reports a wrong checksum as RuntimeError.
    except (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError) as error:
        _remove_traces(data_dir, name)
        raise _not_downloaded(name, data_dir, error) from error


def _remove_traces(data_dir: Path, name: str) -> None:
    """After a download that failed: no lock, and no folder if there is nothing in it."""
    with contextlib.suppress(OSError):
        (data_dir / f".{name}.lock").unlink(missing_ok=True)
        data_dir.rmdir()


def load_cifar(name: str, data_dir: Path) -> ImageData:
    """45,000 training, 5,000 validation and 10,000 test images of 3x32x32.

    Args:
        name: ``cifar10`` or ``cifar100`` (fine labels).
        data_dir: Folder of downloaded data sets.

    Raises:
        ConfigError: If the data set cannot be downloaded, or its files are damaged.
    """
    import torch

    from samsweep.data.images import ImageData, partition

    info = DATASETS[name]
    assert info is not None
    download(name, data_dir)
    published = _read(name, data_dir, train=True)
    train, val = partition(published, [info.num_train, info.num_val])
    return ImageData(
        train=train,
        val=val,
        test=_read(name, data_dir, train=False),
        mean=torch.tensor(_RELEASES[name].mean) * 255,
        std=torch.tensor(_RELEASES[name].std) * 255,
        num_classes=info.num_classes,
    )


def _torchvision_class(name: str) -> type[CIFAR10]:
    from torchvision.datasets import CIFAR10, CIFAR100

    classes: dict[str, type[CIFAR10]] = {"cifar10": CIFAR10, "cifar100": CIFAR100}
    return classes[name]


def _fetch_and_unpack(name: str, data_dir: Path) -> None:
    from torchvision.datasets.utils import download_url

    release, source = _RELEASES[name], _torchvision_class(name)
    download_url(source.url, data_dir, filename=release.archive, md5=source.tgz_md5)
    final = data_dir / release.folder
    final.mkdir(exist_ok=True)
    # Unpacked aside and moved, so that a file in its final place is always whole.
    with tempfile.TemporaryDirectory(dir=data_dir, prefix=f".{name}-") as aside:
        with tarfile.open(data_dir / release.archive) as archive:
            archive.extractall(aside, filter="data")
        for file in release.files:
            os.replace(Path(aside) / release.folder / file, final / file)


def _read(name: str, data_dir: Path, *, train: bool) -> Split:
    """All published training or test images. Checksums are verified before unpickling."""
    import torch

    from samsweep.data.images import Split

    try:
        part = _torchvision_class(name)(data_dir, train=train)
    except RuntimeError as error:
        folder = data_dir / _RELEASES[name].folder
        raise ConfigError(
            f"dataset={name} in {folder} does not have the published checksums: "
            "delete that folder and run again."
        ) from error
    images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()
    return Split(images=images, labels=torch.tensor(part.targets, dtype=torch.int64))


def _not_downloaded(name: str, data_dir: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"dataset={name} is not in {data_dir} and could not be downloaded ({error}): run once "
        f"where the network allows it or copy {_RELEASES[name].archive} into that folder, or use "
        "dataset=image_folder dataset.path=FOLDER, or dataset=digits, which needs no download."
    )
