"""Load any data set by its configuration.

Importing this module and :func:`download_dataset` are free of torch as long as nothing has to be
downloaded; each source is imported when it is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from samsweep.config import ConfigError, DatasetConfig
from samsweep.data.dataset_info import required_path
from samsweep.data.folder_tree import read_tree

if TYPE_CHECKING:
    from samsweep.data.images import ImageData

_DOWNLOADED = ("cifar10", "cifar100")


def load_dataset(config: DatasetConfig, *, data_dir: Path, path: Path | None) -> ImageData:
    """The images that a cell trains and is tested on, on the CPU.

    Label noise, where there is any, is in the training labels only.

    Args:
        config: Which data set; augmentation is not applied here.
        data_dir: Folder of downloaded data sets.
        path: Folder of an image_folder; unused by the others.

    Raises:
        ConfigError: If the data cannot be had, or are not those that the configuration was
            made for.
    """
    data = _load_clean(config, data_dir, path)
    if config.label_noise == 0:
        return data
    from samsweep.data.label_noise import redraw_labels

    noisy = redraw_labels(
        data.train.labels, num_classes=data.num_classes, probability=config.label_noise
    )
    return replace(data, train=replace(data.train, labels=noisy))


def download_dataset(name: str, data_dir: Path) -> None:
    """Download a data set, by its key of ``DATASETS``, if it needs that and is not there yet.

    Raises:
        ConfigError: If the download fails.
    """
    if name in _DOWNLOADED:
        from samsweep.data.cifar import download

        download(name, data_dir)


def _load_clean(config: DatasetConfig, data_dir: Path, path: Path | None) -> ImageData:
    if config.name == "digits":
        from samsweep.data.digits import load_digits

        return load_digits()
    if config.name in _DOWNLOADED:
        from samsweep.data.cifar import load_cifar

        return load_cifar(config.name, data_dir)
    return _load_folder(config, data_dir, required_path(path))


def _load_folder(config: DatasetConfig, data_dir: Path, path: Path) -> ImageData:
    from samsweep.data.image_folder import load_folder

    found = read_tree(path).fingerprint
    if config.fingerprint not in (None, found):
        raise ConfigError(
            f"dataset.path={path} has the fingerprint {found}, but this cell was planned on "
            f"{config.fingerprint}: restore its images, or plan a new cell on the changed ones."
        )
    return load_folder(path, image_size=config.image_size, data_dir=data_dir)
