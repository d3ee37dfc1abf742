"""The effect of any factor of the configuration: one level less another, paired by seed.

Two cells are a pair if their seed and everything else that varies is equal. What only one level
has, as SAM has a radius and SGD none, makes a contrast for each of its values, all with the same
cell of the other level. What has one value at one level and another at the other changes with the
factor: it is named beside the contrast, which is of both.

Or every other level less one, the reference. Then what the reference has one value of, or none,
never parts pairs: each value that a level has of it makes a contrast of its own, which says in what
its cells differ from the reference's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from multirun_analysis.runs.keys import (
    is_of_model,
    is_of_recipe,
    keys_frame,
    resolve_key,
    separating_keys,
    text_of,
    varying_keys,
)
from multirun_analysis.runs.values import named_value
from multirun_analysis.stats.effects import (
    EFFECT_COLUMNS,
    Design,
    plain_and_adjusted,
)
from multirun_analysis.stats.families import with_families
from multirun_analysis.stats.outcomes import Outcome, outcomes_of, with_metric
from multirun_analysis.stats.pairing import (
    LEVELS,
    Roles,
    ends_of,
    pairs_of,
    roles_of,
    values_of_ends,
)
from multirun_analysis.stats.summary import ordered, without_unpruned
from multirun_analysis.wording.labels import natural_order, ranking, setting_text, short_names
from samsweep.config import OUTCOMES, VARIANTS, ConfigError, unknown_name

#: The second level less the first.
_DESIGN = Design(
    {"factor": {"level_b": 1, "level_a": -1}}, ("recipe_key", "model", "place"), LEVELS
)

#: Statistics of :func:`estimate_effects` that a factor's contrasts have too.
_STATISTICS = tuple(
    name
    for name in list(EFFECT_COLUMNS)[list(EFFECT_COLUMNS).index("estimate") :]
    if name != "interaction_large"
)


class Factor(NamedTuple):
    """A key of the configuration and some of its values."""

    key: str
    levels: tuple[Any, ...]  # as the frame has them, NA is none; each other one less the first
    every: bool = False  # whether they are all that the study has, less a reference

    @property
    def title(self) -> str:
        """What is compared, in words."""
        first, *others = map(setting_text, self.levels)
        return f"{self.key}: {'each other level' if self.every else others[0]} less {first}"


class FactorEffects(NamedTuple):
    """What a factor changes.

    Of a reference, the columns of ``effects`` before the outcome are the level, its ``name``, in
    what it ``differs`` from the reference, and ``keys``.
    """

    effects: pd.DataFrame  # what tells contrasts apart, outcome, statistics; a row per contrast
    keys: tuple[str, ...]  # the columns of ``effects`` that tell its contrasts apart
    confounded: tuple[str, ...]  # what else differs between two levels, in words
    unpaired: tuple[str, ...] = ()  # levels without a partner of the reference, in words


def parse_factor(text: str, runs: pd.DataFrame, study: str) -> Factor:
    """The factor that ``KEY:LEVEL_A,LEVEL_B`` means, or ``KEY:REFERENCE``.

    Args:
        text: As the user writes it.
        runs: Frame of :func:`.load_runs`.
        study: Its name, for messages.

    Raises:
        ConfigError: If the key does not vary in the study, or has no such values.
    """
    # A level may be a path, which has colons, or a list, which has commas.
    typed, _, levels = text.partition(":")
    parts = [part.strip() for part in re.split(r",(?![^\[{(]*[\]})])", levels)]
    if len(parts) > 2 or not all(parts) or len(set(parts)) < len(parts):
        raise ConfigError(
            f"effects={text}: write a key and two different values of it, effects=lr:0.1,0.5, or "
            "the one with which all others are compared, effects=lr:0.1."
        )
    keys = keys_frame(runs)
    key = resolve_key("effects", typed.strip(), keys, study)
    if key == "seed":
        raise ConfigError("effects: pairs have one seed: choose another key than seed.")
    found = [_level(key, part, keys[key], study) for part in parts]
    if len(found) == 2:
        return Factor(key, tuple(found))
    others = _others(key, keys[key], found[0])
    if not others:
        raise ConfigError(
            f"effects={text}: every cell of study {study} has {key}={parts[0]}: run others too, or "
            "choose another key."
        )
    return Factor(key, (found[0], *others), every=True)


def _others(key: str, column: pd.Series[Any], reference: Any) -> list[Any]:
    """The other values of a key: the study's optimizers first, then by their texts."""
    rank = ranking(VARIANTS if key == "opt" else ())
    others = [value for value in column.unique() if not _same(value, reference)]
    return sorted(others, key=lambda value: (rank(value), natural_order(setting_text(value))))


def _same(value: Any, other: Any) -> bool:
    return bool(pd.isna(other)) if pd.isna(value) else bool(not pd.isna(other) and value == other)


def _level(key: str, typed: str, column: pd.Series[Any], study: str) -> Any:
    """The value of a column that is meant.

    Raises:
        ConfigError: If the column has no such value.
    """
    values = list(column.unique())
    texts = {setting_text(value): value for value in values}
    parsed = _parsed(typed)
    # A column holds lists as texts of one spelling.
    meant = text_of(parsed) if isinstance(parsed, list | dict) else parsed
    for value in values:
        if typed == str(value) or (not pd.isna(value) and meant == value):
            return value
    none = "none" if typed == "null" else typed
    if none in texts:
        return texts[none]
    raise ConfigError(
        unknown_name(f"effects: {key} in study {study} has other values:", typed, texts)
    )


def _parsed(typed: str) -> Any:
    try:
        return float(typed)
    except ValueError:
        pass
    try:
        return yaml.safe_load(typed)
    except yaml.YAMLError:
        return typed


# --------------------------------------------------------------------------- contrasts


def factor_effects(
    runs: pd.DataFrame, measurements: pd.DataFrame, factor: Factor, *, value: str | None = None
) -> FactorEffects:
    """The contrasts of a factor with their intervals and tests, all exploratory.

    Args:
        runs: Frame of :func:`.load_runs`, of one study.
        measurements: Frame of :func:`.load_measurements`.
        factor: The key and its values.
        value: The outcome, a name of :func:`.named_value`; None is every one of
            :data:`~samsweep.config.OUTCOMES`.

    Raises:
        ConfigError: If no two cells are a pair, or the study has nothing of that name.
    """
    named = None if value is None else named_value(runs, measurements, value)
    chosen = keys_frame(runs)[factor.key]
    is_level = [_equal(chosen, level).to_numpy(dtype=bool) for level in factor.levels]
    cells = runs[np.logical_or.reduce(is_level)].reset_index(drop=True)
    keys = keys_frame(cells)
    codes = keys.apply(lambda column: pd.factorize(column)[0])
    reference, *others = (np.flatnonzero(_equal(keys[factor.key], one)) for one in factor.levels)
    sides = [(reference, of_level) for of_level in others]
    roles = [roles_of(factor.key, keys, codes, rows, against_one=factor.every) for rows in sides]
    cells = _by_stratum(cells, codes, roles)
    pairs = pd.concat(
        [
            pairs_of(cells, codes, rows, of_level).assign(level=level)
            for level, (rows, of_level) in enumerate(zip(sides, roles, strict=True))
        ],
        ignore_index=True,
    )
    place = pairs.groupby(["level", "place"], sort=False).ngroup()
    pairs = pairs.assign(place=place, point=place)

    found = _contrasts(pairs, outcomes_of(cells, _of_cells(measurements, cells), named), cells)
    if found is None:
        raise ConfigError(
            f"value={value}: no cell of effects={factor.key} has it: measure them first, "
            "or choose another value."
        )
    if found.empty:
        raise ConfigError(_without_pairs(factor, keys, roles))
    found = with_metric(without_unpruned(found), cells)
    found = with_families(found.assign(recipe_key="one family"), None)
    ends = ends_of(pairs, found["place"])
    told = values_of_ends(ends, keys, roles)
    if factor.every:
        return _against_one(factor, found, told, ends, cells, roles)
    shown = separating_keys(told)
    described = _described(told[shown], found)
    confounded = tuple(roles[0].confounded)
    return FactorEffects(_in_order(described, shown), tuple(shown), confounded)


def _equal(column: pd.Series[Any], level: Any) -> pd.Series[bool]:
    return column.isna() if pd.isna(level) else (column == level).fillna(False).astype(bool)


def _by_stratum(cells: pd.DataFrame, codes: pd.DataFrame, roles: Sequence[Roles]) -> pd.DataFrame:
    """Cells with a recipe for all that is of one data set, training and network.

    What changes with a level is no part of it: its cells and the reference's are adjusted together.
    """
    stratum = [
        key
        for key in map(str, codes)
        if (is_of_recipe(key) or is_of_model(key)) and all(key in one.shared for one in roles)
    ]
    names = codes.groupby(stratum).ngroup().astype(str) if stratum else "0"
    named = cells.assign(recipe_key=names, model="")
    return named.astype({"recipe_key": "string", "model": "string"})


def _of_cells(measurements: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The measurements of some cells, of these cells' recipes."""
    measured = measurements[measurements["cell_id"].isin(cells["cell_id"])]
    recipes = cells.set_index("cell_id")["recipe_key"]
    return measured.assign(recipe_key=measured["cell_id"].map(recipes))


def _contrasts(
    pairs: pd.DataFrame, outcomes: Iterable[Outcome], cells: pd.DataFrame
) -> pd.DataFrame | None:
    """The contrasts of all outcomes; None if there is no outcome."""
    parts = [plain_and_adjusted(pairs, outcome, cells, _DESIGN) for outcome in outcomes]
    return pd.concat(parts, ignore_index=True) if parts else None


def _without_pairs(factor: Factor, keys: pd.DataFrame, roles: Sequence[Roles]) -> str:
    first = setting_text(factor.levels[0])
    second = "another level" if factor.every else setting_text(factor.levels[1])
    shared = [key for key in varying_keys(keys) if any(key in one.shared for one in roles)]
    return (
        f"effects={factor.key}: no cell with {first} has a partner with {second} of the same "
        f"{', '.join([*shared, 'seed'])}: run both levels with equal values of these, or choose "
        "another factor."
    )


def _described(told: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """What tells the contrasts apart, with their outcomes and statistics."""
    columns = ["outcome", "settings_key", "settings_label", *_STATISTICS]
    columns += [name for name in found if name in ("n_pruned", "metric") and name not in told]
    return pd.concat([told, found.reindex(columns=columns)], axis=1)


def _in_order(effects: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Rows in the order of the outcomes, their measurements and the keys' values."""
    outcomes = pd.Categorical(effects["outcome"], ordered(effects["outcome"], OUTCOMES))
    ranks = effects.assign(outcome=outcomes)
    ranks = ranks.assign(**{key: _ranks(effects[key]) for key in keys})
    by = ["outcome", "settings_label", *keys]
    return effects.loc[ranks.sort_values(by, kind="stable").index].reset_index(drop=True)


def _ranks(column: pd.Series[Any]) -> pd.Series[int]:
    """The place of each value in the order of a column's values: none first, then by size."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.astype("float64").rank(method="dense").fillna(0).astype(int)
    texts = ["" if pd.isna(value) else str(value) for value in column]
    ranks = {text: place for place, text in enumerate(sorted(set(texts), key=natural_order))}
    return pd.Series([ranks[text] for text in texts], index=column.index)


# --------------------------------------------------------------------------- against a reference


def _against_one(
    factor: Factor,
    found: pd.DataFrame,
    told: pd.DataFrame,
    ends: pd.DataFrame,
    cells: pd.DataFrame,
    roles: Sequence[Roles],
) -> FactorEffects:
    """The contrasts of every other level, with its name and its differences in words."""
    keys = keys_frame(cells)
    # What the reference has several values of has columns; all else is among the differences.
    columns = {key for one in roles for key in (*one.shared, *one.first)}
    shown = separating_keys(told[[str(key) for key in told if key in columns]])
    others = [key for key in varying_keys(keys) if key not in columns]
    level_b = ends["level_b"].to_numpy()
    level = keys[factor.key].take(level_b).reset_index(drop=True)
    named = {
        factor.key: level,
        "name": _names(cells.take(level_b)) if factor.key == "opt" else level.map(setting_text),
        "differs": _differences(factor, keys[others], ends),
    }
    described = _described(pd.concat([pd.DataFrame(named), told[shown]], axis=1), found)
    ranked = described.assign(_level=ends["level"])
    effects = _in_order(ranked, ["_level", "differs", *shown]).drop(columns="_level")
    there = set(ends["level"])
    unpaired = [setting_text(one) for k, one in enumerate(factor.levels[1:]) if k not in there]
    return FactorEffects(effects, tuple(shown), (), tuple(unpaired))


def _names(cells: pd.DataFrame) -> list[str]:
    """The optimizers of some cells, as other tables name them."""
    return [
        label if pd.isna(granularity) else f"{label}, {granularity}"
        for label, granularity in zip(cells["optimizer"], cells["granularity"], strict=True)
    ]


def _differences(factor: Factor, keys: pd.DataFrame, ends: pd.DataFrame) -> list[str]:
    """In words, what each pair's second cell has that the first has not, or has otherwise."""
    # The granularity is in an optimizer's name.
    silent = (factor.key, "opt", "seed", *["granularity"] * (factor.key == "opt"))
    names = [str(key) for key in keys if key not in silent]
    compared = [name for name in names if not name.startswith("source.")]
    compared.sort(key=lambda key: not key.startswith(f"{factor.key}."))
    short = {key: name.replace("_", " ") for key, name in short_names(compared).items()}

    def text(first: int, second: int) -> str:
        values = ((key, keys[key].iloc[first], keys[key].iloc[second]) for key in compared)
        return ", ".join(
            f"{short[key]} {setting_text(theirs)}"
            for key, ours, theirs in values
            if not pd.isna(theirs) and not _same(ours, theirs)
        )

    return [text(*cells) for cells in zip(ends["level_a"], ends["level_b"], strict=True)]
