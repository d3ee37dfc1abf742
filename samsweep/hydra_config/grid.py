"""The points of a sweep: products, keys that vary together, and points that are left out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samsweep.config import (
    ConfigError,
    Options,
    rounded,
    sibling_keys,
    unknown_name,
    with_arguments_added,
)
from samsweep.config.arguments import written

#: Keys of the sweep itself, with what to do instead of giving several values.
_SINGLE = {
    "experiment": "each preset brings a grid of its own; run one after the other.",
    **dict.fromkeys(
        ("dry_run", "fail_fast", "detach", "on_code_change", "pruner", "hydra.sweep.dir"),
        "give one value for the whole sweep.",
    ),
}
#: Values by key: a list, or a text with commas as on the command line.
Values = Mapping[str, Any]
#: What a key has where there is no such key.
_ABSENT = object()


class Grids:
    """A union of grids.

    Args:
        params: Values of every grid.
        grids: Each its own values, which go before ``params``; and under ``zip`` and ``exclude``
            the same as below: its zip in place of that one, its exclusions beside those.
        zip: Values of keys that vary together, as many of each; they go before ``params``.
        exclude: Points that are left out: those that have, of every key of an entry, one of its
            values.
        loader: Reads overrides.
        compose: Gives the configuration of a point, for keys that its overrides do not name.
        strict: Whether an exclusion must match a point although the command line gives one of its
            keys.
    """

    def __init__(
        self,
        *,
        params: Values,
        grids: Sequence[Values],
        zip: Values,
        exclude: Sequence[Values],
        loader: ConfigLoader,
        compose: Callable[[Sequence[str]], DictConfig],
        strict: bool,
    ) -> None:
        self._params = params
        if not isinstance(grids, Sequence) or isinstance(grids, str):
            raise ConfigError(
                f"hydra.sweeper.grids={_text(grids)}: write a list of grids, [{{opt: sam}}]."
            )
        self._grids = [
            {"zip": zip, "exclude": (), **_mapping(grid, "hydra.sweeper.grids has an entry")}
            for grid in (grids or [{}])
        ]
        self._exclude = exclude
        self._parser = OverridesParser.create(config_loader=loader)
        self._parse = functools.cache(self._parser.parse_override)
        self._compose = compose
        self._strict = strict
        #: Points that were left out so far.
        self.num_excluded = 0

    def points(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of every point; those of the command line go before all others.

        Raises:
            ConfigError: With a sentence for everything that is wrong with the grids.
        """
        given = {override.key_or_group for override in self._parser.parse_overrides(arguments)}
        everywhere = self._exclusions(self._exclude, given)
        points, own = [], []
        for grid in self._grids:
            exclusions = self._exclusions(grid["exclude"], given)
            own += exclusions
            for overrides in self._product(grid, arguments):
                point = _Point(overrides, self._parse, self._compose)
                # All of them, since each must know whether it matches any point.
                if any([exclusion.matches(point) for exclusion in (*everywhere, *exclusions)]):
                    self.num_excluded += 1
                else:
                    points.append(overrides)
        problems = dict.fromkeys(p for e in (*everywhere, *own) if (p := e.problem) is not None)
        if problems:
            raise ConfigError(*problems)
        return points

    def _product(self, grid: Mapping[str, Any], arguments: list[str]) -> Iterator[list[str]]:
        together = _mapping(grid["zip"], "zip")
        apart = {
            key: values
            for key, values in {**self._params, **grid}.items()
            if key not in ("zip", "exclude", *together)
        }
        preset = [_override(key, values) for key, values in apart.items()]
        zipped = self._parser.parse_overrides([_override(*item) for item in together.items()])
        _refuse_several([*self._parser.parse_overrides([*preset, *arguments]), *zipped])
        for row in _rows(zipped):
            overrides = self._parser.parse_overrides([*preset, *row, *arguments])
            yield from BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]

    def _exclusions(self, entries: Any, given: set[str]) -> list[_Exclusion]:
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise ConfigError(
                f"exclude={_text(entries)}: write a list of points, "
                "[{model: resnet50, opt: sam}]."
            )
        found = []
        for entry in entries:
            if not _mapping(entry, "exclude"):
                raise ConfigError("exclude has an entry without keys, which is every point.")
            values = {
                key: [
                    _comparable(self._parse(value).value())
                    for value in _each(self._parse(_override(key, some)))
                ]
                for key, some in entry.items()
            }
            needed = self._strict or given.isdisjoint(entry)
            found.append(_Exclusion(entry, values, needed=needed))
        return found


class _Point:
    """What a point has of each key.

    Args:
        overrides: All of it that is not the default.
        parse: Reads one.
        compose: Gives the rest.
    """

    def __init__(
        self,
        overrides: Sequence[str],
        parse: Callable[[str], Override],
        compose: Callable[[Sequence[str]], DictConfig],
    ) -> None:
        self._overrides = overrides
        self._compose = compose
        parsed = [parse(override) for override in overrides]
        self._values = {o.key_or_group: _comparable(o.value()) for o in parsed}

    @functools.cached_property
    def _config(self) -> DictConfig | None:
        """None where it cannot be composed, of which planning will say more."""
        try:
            return self._compose(self._overrides)
        except (HydraException, OmegaConfBaseException, ConfigError):
            return None

    def value(self, key: str) -> Any:
        """Of a key, comparable with others."""
        if key in self._values:
            return self._values[key]
        config = self._config
        if config is None:
            return _ABSENT
        choices = config.hydra.runtime.choices
        if key in choices:
            return choices[key]
        return _comparable(OmegaConf.select(config, key, default=_ABSENT))


class _Exclusion:
    """Points that are left out.

    Args:
        entry: As it is written.
        values: Of each key those that are meant.
        needed: Whether it has to match a point.
    """

    def __init__(self, entry: Values, values: Mapping[str, list[Any]], *, needed: bool) -> None:
        self._entry = entry
        self._values = values
        self._needed = needed
        self._matched = False
        self._unknown = set(values)

    def matches(self, point: _Point) -> bool:
        """Whether a point is one of them."""
        found = {key: point.value(key) for key in self._values}
        self._unknown -= {key for key, value in found.items() if value is not _ABSENT}
        matches = all(found[key] in values for key, values in self._values.items())
        self._matched |= matches
        return matches

    @property
    def problem(self) -> str | None:
        """What is wrong with it, once it has seen every point."""
        if not self._needed or self._matched:
            return None
        unknown = sorted(self._unknown)
        if unknown:
            return f"exclude: {unknown_name('key', unknown[0], sibling_keys(Options, unknown[0]))}"
        entry = ", ".join(f"{key}: {_text(values)}" for key, values in self._entry.items())
        return f"exclude: no point of the grid has {{{entry}}}: correct its values or take it out."


def _mapping(values: Any, what: str) -> Values:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{what}={_text(values)}: write keys with their values, {{lr: '0.1,0.05'}}."
        )
    return values


def _rows(zipped: Sequence[Override]) -> list[list[str]]:
    """The overrides of each row of keys that vary together; one row without any if there are none.

    Raises:
        ConfigError: If they do not have as many values.
    """
    columns = [_each(override) for override in zipped]
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(
            f"{override.key_or_group} {len(column)}"
            for override, column in zip(zipped, columns, strict=True)
        )
        raise ConfigError(
            f"zip: keys that vary together need the same number of values, and here are {counts}."
        )
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[]]


def _each(override: Override) -> list[str]:
    """An override for each of the values.

    Raises:
        ConfigError: If they are an interval, which only an optimizer's sweeper draws from.
    """
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: give a list of values.")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _override(key: str, values: Any) -> str:
    return with_arguments_added(f"{key}={_text(values)}")


def _text(values: Any) -> str:
    """Values as the command line writes them."""
    if isinstance(values, list | tuple):
        return ",".join(map(written, values))
    return written(values)


def _comparable(value: Any) -> Any:
    """Numbers as they name cells; ``True`` is none."""
    if isinstance(value, bool):
        return str(value)
    return rounded(value) if isinstance(value, float) else value


def _refuse_several(overrides: Sequence[Override]) -> None:
    """Refuse several values of a key that a sweep has only once.

    Raises:
        ConfigError: With a sentence for each.
    """
    problems = [
        f"{override.input_line}: {_SINGLE[override.key_or_group]}"
        for override in overrides
        if override.is_sweep_override() and override.key_or_group in _SINGLE
    ]
    if problems:
        raise ConfigError(*problems)
