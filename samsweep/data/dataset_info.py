"""Classes, shapes and counts of any data set, without loading it and without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from samsweep.config import DATASETS, ConfigError, DataInfo, DatasetComponent
from samsweep.config.factory import load_factory, match
from samsweep.data.inspection import inspected, key_of

#: Keys of the group that a data set may take beside its arguments, each by a parameter of its name.
_KEYS = ("path", "image_size")


class ChosenDataset(Protocol):
    """What is chosen of a data set: its options, or its part in a cell's identity."""

    @property
    def name(self) -> str:
        """A key of :data:`~samsweep.config.DATASETS`, or any name beside a factory."""

    @property
    def factory(self) -> str | None:
        """Path of the callable that loads it."""

    @property
    def args(self) -> Mapping[str, Any] | None:
        """Its arguments."""

    @property
    def image_size(self) -> int | None:
        """Side in pixels that images are resized to."""

    @property
    def train_fraction(self) -> float | None:
        """Share of the training examples that is used."""


def describe(dataset: ChosenDataset, path: Path | None) -> DataInfo:
    """Classes, shapes and counts of a data set.

    One that says nothing of itself is loaded in a process of its own, once.

    Args:
        dataset: Which.
        path: Of its data, for those that take one.

    Raises:
        ConfigError: If a value is missing or has no effect, or the data cannot be described.
    """
    component = DATASETS.find(dataset.name, dataset.factory)
    info = component.info
    if info is None:
        values = given(dataset, path, component)
        info = inspected(component, dataset.name, values)
    elif not isinstance(info, DataInfo):
        function = load_factory(info)
        info = function(**matching(function, given(dataset, path, component), dataset.name))
        assert isinstance(info, DataInfo)
    else:
        _refuse_keys(dataset.name, given(dataset, path, component), component)
    if component.fingerprint is not None:
        values = given(dataset, path, component)
        info = replace(info, fingerprint=_declared_fingerprint(component, values, dataset.name))
    fraction = dataset.train_fraction
    return info if fraction in (None, 1.0) else replace(info, num_train=part(info, fraction))


#: Fingerprints that were asked for, by what the data set is made from: a grid asks at every point.
_fingerprints: dict[tuple[Any, str], str] = {}


def _declared_fingerprint(component: DatasetComponent, values: Mapping[str, Any], name: str) -> str:
    """What a registration says of the contents.

    Raises:
        ConfigError: If that is no text, or its function needs what there is not, or raises.
    """
    declared = component.fingerprint
    if not callable(declared):
        return str(declared)
    key = (declared, key_of(component, values))
    if key not in _fingerprints:
        keywords, _, missing = match(declared, {}, values)
        if missing:
            raise ConfigError(*(_missing(key, name) for key in missing))
        try:
            found = declared(**keywords)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"dataset={name}: its fingerprint raised {type(error).__name__}: {error}."
            ) from error
        if not isinstance(found, str) or not found:
            raise ConfigError(
                f"dataset={name}: its fingerprint is {found!r}: return a text that changes with "
                "the contents."
            )
        _fingerprints[key] = found
    return _fingerprints[key]


def part(info: DataInfo, fraction: float | None) -> int:
    """Number of training examples that a fraction of them is, at least two."""
    return max(2, round(info.num_train * (1.0 if fraction is None else fraction)))


def given(dataset: ChosenDataset, path: Path | None, component: DatasetComponent) -> dict[str, Any]:
    """Everything that is given to a data set's callables, by the names of their parameters."""
    keys = {"path": path, "image_size": dataset.image_size}
    values = {key: value for key, value in keys.items() if value is not None}
    return {**component.args, **(dataset.args or {}), **values}


def matching(
    function: Callable[..., Any], values: Mapping[str, Any], name: str, **beside: Any
) -> dict[str, Any]:
    """Keyword arguments for a data set's callable.

    Args:
        function: Is called with them.
        values: What the user gave.
        name: Of the data set.
        beside: What it is given if it has a parameter of that name.

    Raises:
        ConfigError: If it has no parameter for a value, or there is no value for one.
    """
    keywords, unknown, missing = match(function, values, beside)
    problems = [_no_effect(key, values[key], name) for key in unknown]
    problems += [_missing(key, name) for key in missing]
    if problems:
        raise ConfigError(*problems)
    return keywords


def _refuse_keys(name: str, values: Mapping[str, Any], component: DatasetComponent) -> None:
    """Of one whose description is declared: what its factory does not take."""
    of_user = {key: value for key, value in values.items() if key not in component.args}
    if not of_user:
        # Its module need not be imported for a plan.
        return
    _, unknown, _ = match(component.load(), of_user, {})
    problems = [_no_effect(key, of_user[key], name) for key in unknown]
    if problems:
        raise ConfigError(*problems)


def _no_effect(key: str, value: Any, name: str) -> str:
    full = f"dataset.{key}" if key in _KEYS else f"dataset.args.{key}"
    remedy = "remove it or use dataset=image_folder" if key in _KEYS else "remove it"
    return f"{full}={value} has no effect on dataset={name}: {remedy}."


def _missing(key: str, name: str) -> str:
    full = f"dataset.{key}" if key in _KEYS else f"dataset.args.{key}"
    return f"{full} is missing: dataset={name} needs it; set {full}=VALUE."
