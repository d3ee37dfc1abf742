"""Classes, sizes and counts of any data set, without loading it and without torch."""

from __future__ import annotations

from pathlib import Path

from samsweep.config import DATASETS, ConfigError, DataInfo, unknown_name
from samsweep.data.folder_tree import describe_folder


def describe(name: str, path: Path | None, image_size: int | None) -> DataInfo:
    """Classes, sizes and counts of a data set.

    Args:
        name: A key of :data:`samsweep.config.DATASETS`.
        path: Folder of an image_folder; None for the others.
        image_size: Side in pixels that an image_folder's images are resized to; None for the
            others and for images that keep their own size.

    Raises:
        ConfigError: If the name is unknown, a value is missing or given without effect, or the
            folder is not laid out as :mod:`samsweep.data.folder_tree` describes.
    """
    if name not in DATASETS:
        raise ConfigError(unknown_name("dataset", name, DATASETS))
    info = DATASETS[name]
    if info is None:
        return describe_folder(required_path(path), image_size)
    problems = [
        f"dataset.{key}={value} has no effect on dataset={name}: remove it or use "
        "dataset=image_folder."
        for key, value in (("path", path), ("image_size", image_size))
        if value is not None
    ]
    if problems:
        raise ConfigError(*problems)
    return info


def required_path(path: Path | None) -> Path:
    """The path, for a data set that cannot do without; None is a ConfigError."""
    if path is None:
        raise ConfigError(
            "dataset.path is missing: set dataset.path=FOLDER to the folder that holds "
            "train/<class>/*.png and test/<class>/*.png."
        )
    return path
