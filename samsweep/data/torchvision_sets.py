"""SVHN, Fashion-MNIST and STL-10, downloaded once through torchvision.

A tenth of the training images is set aside for validation; mean and standard deviation are those
of the others. Importing this module, and :func:`download` where nothing is missing, are free of
torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from samsweep.data.download import Release

if TYPE_CHECKING:
    from samsweep.data.splits import Split, SplitData


def _svhn() -> list[tuple[str, str]]:
    from torchvision.datasets import SVHN

    return [(url, md5) for url, _, md5 in (SVHN.split_list["train"], SVHN.split_list["test"])]


def _fashion_mnist() -> list[tuple[str, str]]:
    from torchvision.datasets import FashionMNIST

    return [(f"{FashionMNIST.mirrors[0]}{file}", md5) for file, md5 in FashionMNIST.resources]


def _stl10() -> list[tuple[str, str]]:
    from torchvision.datasets import STL10

    return [(STL10.url, STL10.tgz_md5)]


_IDX = tuple(
    f"FashionMNIST/raw/{part}-{kind}-ubyte"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)
_MAT = ("train_32x32.mat", "test_32x32.mat")

_RELEASES = {
    # Netzer et al. 2011; its 531,131 extra images are not used.
    "svhn": Release(archives=_MAT, files=_MAT, sources=_svhn),
    # Xiao et al. 2017, arXiv 1708.07747.
    "fashion_mnist": Release(
        archives=tuple(f"{file}.gz" for file in _IDX), files=_IDX, sources=_fashion_mnist
    ),
    # Coates et al. 2011; its unlabelled images are not used.
    "stl10": Release(
        archives=("stl10_binary.tar.gz",),
        files=tuple(
            f"stl10_binary/{part}_{axis}.bin" for part in ("train", "test") for axis in "Xy"
        ),
        sources=_stl10,
    ),
}


def download(name: str, data_dir: Path) -> None:
    """Fetch and unpack one of them; see :meth:`Release.download`.

    Raises:
        ConfigError: If it can neither be found nor fetched.
    """
    _RELEASES[name].download(name, data_dir)


def load(name: str, data_dir: Path) -> SplitData:
    """All images of ten classes, uint8 (N, C, H, W): 3x32x32, 1x28x28 or 3x96x96.

    Args:
        name: ``svhn``, ``fashion_mnist`` or ``stl10``.
        data_dir: Folder of downloaded data sets.

    Raises:
        ConfigError: If the data set cannot be downloaded, or its files are damaged.
    """
    from samsweep.data.splits import from_published

    download(name, data_dir)
    try:
        published, test = (_read(name, data_dir, train=train) for train in (True, False))
        return from_published(name, published, test)
    # Of a wrong checksum, or of idx files, which have none, a wrong header or length.
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _RELEASES[name].damaged(name, data_dir) from error


def _read(name: str, data_dir: Path, *, train: bool) -> Split:
    import torch
    from torchvision import datasets

    from samsweep.data.splits import Split

    class LabelledSTL10(datasets.STL10):  # type: ignore[misc]
        """Which does not look for the unlabelled images."""

        train_list = datasets.STL10.train_list[:2]

    split = "train" if train else "test"
    part: Any
    if name == "fashion_mnist":
        part = datasets.FashionMNIST(data_dir, train=train)
        images, labels = part.data[:, None], part.targets
    else:
        part = {"svhn": datasets.SVHN, "stl10": LabelledSTL10}[name](data_dir, split=split)
        images, labels = torch.from_numpy(part.data), torch.from_numpy(part.labels)
    return Split(inputs=images.contiguous(), labels=labels.to(torch.int64))
