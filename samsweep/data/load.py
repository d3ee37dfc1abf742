"""Load any data set by its configuration: its factory, checked, cut to splits and made noisy.

Importing this module and :func:`download_dataset` are free of torch as long as nothing has to be
downloaded; each source is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samsweep.config import DATASETS, ConfigError, DataInfo, DatasetConfig
from samsweep.config.factory import load_factory
from samsweep.data.arrays import Arrays, checked, info_of
from samsweep.data.dataset_info import describe, given, matching
from samsweep.data.inspection import forget

if TYPE_CHECKING:
    from samsweep.data.splits import SplitData


def load_dataset(config: DatasetConfig, *, data_dir: Path, path: Path | None) -> SplitData:
    """The examples that a cell trains and is tested on, on the CPU.

    Label noise, where there is any, is in the training labels only.

    Args:
        config: Which data set; augmentation is not applied here.
        data_dir: Folder of downloaded data sets.
        path: Of its data, for those that take one.

    Raises:
        ConfigError: If the data cannot be had, or are not those that the configuration was
            made for.
    """
    data = _load_clean(config, data_dir, path)
    if config.label_noise > 0:
        data = _with_label_noise(data, config.label_noise)
    # Last, so that every fraction has the same wrong labels.
    if config.train_fraction is not None:
        data = replace(data, train=data.train.share(config.train_fraction))
    return data


def download_dataset(name: str, data_dir: Path) -> None:
    """Download a data set, by its key of ``DATASETS``, if it needs that and is not there yet.

    Raises:
        ConfigError: If the download fails.
    """
    component = DATASETS.get(name)
    if component is not None and component.download is not None:
        download = load_factory(component.download)
        download(**matching(download, component.args, name, data_dir=data_dir))


def raw_arrays(
    function: Callable[..., Any], name: str, values: Mapping[str, Any], *, data_dir: Path | None
) -> Arrays:
    """What the factory of a data set gives, checked.

    Raises:
        ConfigError: If that is no data set.
    """
    raw = function(**matching(function, values, name, data_dir=data_dir))
    if not isinstance(raw, Mapping):
        raise ConfigError(
            f"dataset={name} gives {type(raw).__name__}: return a mapping of x_train, y_train, "
            "x_test and y_test to arrays."
        )
    return checked(raw, f"dataset={name}")


def _load_clean(config: DatasetConfig, data_dir: Path, path: Path | None) -> SplitData:
    component = DATASETS.find(config.name, config.factory)
    function, values = component.load(), given(config, path, component)
    if component.splits:
        if config.fingerprint is not None:
            _check_fingerprint(config, describe(config, path).fingerprint, path)
        data: SplitData = function(**matching(function, values, config.name, data_dir=data_dir))
        return data
    from samsweep.data.splits import from_arrays

    arrays = raw_arrays(function, config.name, values, data_dir=data_dir)
    loaded = info_of(arrays)
    if isinstance(component.info, DataInfo):
        _check_declared(config.name, component.info, loaded)
    found = loaded.fingerprint
    if component.fingerprint is not None:
        found = describe(config, path).fingerprint
    elif config.fingerprint not in (None, found):
        forget(component, values)
    _check_fingerprint(config, found, path)
    return from_arrays(arrays)


def _check_declared(name: str, declared: DataInfo, loaded: DataInfo) -> None:
    """Whether the data are what their registration says: plans and networks go by that.

    Raises:
        ConfigError: With a sentence for everything that differs.
    """
    problems = [
        f"dataset={name} has {field}={found}, and its registration says {said}: correct its info."
        for field, found in vars(loaded).items()
        if field != "fingerprint" and (said := getattr(declared, field)) != found
    ]
    if problems:
        raise ConfigError(*problems)


def _check_fingerprint(config: DatasetConfig, found: str | None, path: Path | None) -> None:
    if config.fingerprint not in (None, found):
        what = f"dataset={config.name}" if path is None else f"dataset.path={path}"
        raise ConfigError(
            f"{what} has the fingerprint {found}, but this cell was planned on "
            f"{config.fingerprint}: restore its data, or plan a new cell on the changed ones."
        )


def _with_label_noise(data: SplitData, probability: float) -> SplitData:
    from samsweep.data.label_noise import redraw_labels

    noisy = redraw_labels(data.train.labels, num_classes=data.num_classes, probability=probability)
    return replace(data, train=replace(data.train, labels=noisy))
