"""The effect of any factor of the configuration: one level less another, paired by seed.

Two cells are a pair if their seed and everything else that varies is equal. What only one level
has, as SAM has a radius and SGD none, makes a contrast for each of its values, all with the same
cell of the other level. What has one value at one level and another at the other changes with the
factor: it is named beside the contrast, which is of both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    varying_keys,
)
from multirun_analysis.runs.values import named_value
from multirun_analysis.stats.effects import (
    EFFECT_COLUMNS,
    Design,
    plain_and_adjusted,
)
from multirun_analysis.stats.families import with_families
from multirun_analysis.stats.outcomes import outcomes_of, with_metric
from multirun_analysis.stats.summary import ordered, without_unpruned
from multirun_analysis.wording.labels import natural_order, setting_text
from samsweep.config import OUTCOMES, ConfigError, unknown_name

_LEVELS = ("level_a", "level_b")
#: The second level less the first.
_DESIGN = Design(
    {"factor": {"level_b": 1, "level_a": -1}}, ("recipe_key", "model", "place"), _LEVELS
)

#: Statistics of :func:`estimate_effects` that a factor's contrasts have too.
_STATISTICS = tuple(
    name
    for name in list(EFFECT_COLUMNS)[list(EFFECT_COLUMNS).index("estimate") :]
    if name != "interaction_large"
)


class Factor(NamedTuple):
    """A key of the configuration and two of its values."""

    key: str
    levels: tuple[Any, Any]  # as the frame has them; NA is none

    @property
    def title(self) -> str:
        """What is compared, in words."""
        first, second = map(setting_text, self.levels)
        return f"{self.key}: {second} less {first}"


class FactorEffects(NamedTuple):
    """What a factor changes."""

    effects: pd.DataFrame  # keys, outcome and statistics, a row per contrast
    keys: tuple[str, ...]  # the columns of ``effects`` that tell its contrasts apart
    confounded: tuple[str, ...]  # what else differs between the levels, in words


def parse_factor(text: str, runs: pd.DataFrame, study: str) -> Factor:
    """The factor that ``KEY:LEVEL_A,LEVEL_B`` means.

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
    if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
        raise ConfigError(
            f"effects={text}: write a key and two different values of it, effects=lr:0.1,0.5."
        )
    keys = keys_frame(runs)
    key = resolve_key("effects", typed.strip(), keys, study)
    if key == "seed":
        raise ConfigError("effects: pairs have one seed: choose another key than seed.")
    first, second = (_level(key, part, keys[key], study) for part in parts)
    return Factor(key, (first, second))


def _level(key: str, typed: str, column: pd.Series[Any], study: str) -> Any:
    """The value of a column that is meant.

    Raises:
        ConfigError: If the column has no such value.
    """
    values = list(column.unique())
    texts = {setting_text(value): value for value in values}
    for value in values:
        if typed == str(value) or (not pd.isna(value) and _parsed(typed) == value):
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
        factor: The key and its two values.
        value: The outcome, a name of :func:`.named_value`; None is every one of
            :data:`~samsweep.config.OUTCOMES`.

    Raises:
        ConfigError: If no two cells are a pair, or the study has nothing of that name.
    """
    named = None if value is None else named_value(runs, measurements, value)
    chosen = keys_frame(runs)[factor.key]
    is_level = [_equal(chosen, level).to_numpy(dtype=bool) for level in factor.levels]
    cells = runs[is_level[0] | is_level[1]].reset_index(drop=True)
    keys = keys_frame(cells)
    codes = keys.apply(lambda column: pd.factorize(column)[0])
    rows = [np.flatnonzero(_equal(keys[factor.key], level)) for level in factor.levels]

    shared, own, confounded = _roles(factor, keys, codes, rows)
    stratum = [key for key in shared if is_of_recipe(key) or is_of_model(key)]
    cells = cells.assign(
        recipe_key=codes.groupby(stratum).ngroup().astype(str) if stratum else "0", model=""
    ).astype({"recipe_key": "string", "model": "string"})
    pairs = _pairs(cells, codes, rows, shared, own)

    measured = measurements[measurements["cell_id"].isin(cells["cell_id"])]
    synthetic = cells.set_index("cell_id")["recipe_key"]
    measured = measured.assign(recipe_key=measured["cell_id"].map(synthetic))
    outcomes = outcomes_of(cells, measured, named)
    parts = [plain_and_adjusted(pairs, outcome, cells, _DESIGN) for outcome in outcomes]
    if not parts:
        raise ConfigError(
            f"value={value}: no cell of effects={factor.key} has it: measure them first, "
            "or choose another value."
        )
    found = pd.concat(parts, ignore_index=True)
    if found.empty:
        first, second = map(setting_text, factor.levels)
        raise ConfigError(
            f"effects={factor.key}: no cell with {first} has a partner with {second} of the same "
            f"{', '.join([*(key for key in varying_keys(keys) if key in shared), 'seed'])}: run "
            "both levels with equal values of these, or choose another factor."
        )
    found = with_metric(without_unpruned(found), cells)
    found = with_families(found.assign(recipe_key="one family"), None)
    places = pairs.drop_duplicates("place").set_index("place")
    told = {}
    for key in [*shared, *own[0], *own[1]]:
        where = places["level_a"] if key in own[0] else places["level_b"]
        other = places["level_b"] if key in own[0] else places["level_a"]
        row = found["place"].map(where.where(where >= 0, other))
        told[key] = keys[key].take(row.to_numpy()).reset_index(drop=True)
    shown = separating_keys(pd.DataFrame(told, index=found.index))
    columns = ["outcome", "settings_key", "settings_label", *_STATISTICS]
    columns += [name for name in found if name in ("n_pruned", "metric") and name not in shown]
    described = pd.concat(
        [pd.DataFrame({key: told[key] for key in shown}), found.reindex(columns=columns)], axis=1
    )
    return FactorEffects(_in_order(described, shown), tuple(shown), tuple(confounded))


def _equal(column: pd.Series[Any], level: Any) -> pd.Series[bool]:
    return column.isna() if pd.isna(level) else (column == level).fillna(False).astype(bool)


def _roles(
    factor: Factor, keys: pd.DataFrame, codes: pd.DataFrame, rows: Sequence[np.ndarray[Any, Any]]
) -> tuple[list[str], tuple[list[str], list[str]], list[str]]:
    """Keys that pairs share, keys that one level alone has, and what changes with the factor."""
    shared: list[str] = []
    own: tuple[list[str], list[str]] = ([], [])
    confounded = []
    for key in varying_keys(keys):
        values = [set(codes[key].to_numpy()[of_level]) for of_level in rows]
        # What an optimizer is called follows from its other keys.
        if key in (factor.key, "seed") or (key == "opt" and factor.key.startswith("opt.")):
            continue
        if values[0] == {-1}:
            own[1].append(key)
        elif values[1] == {-1}:
            own[0].append(key)
        elif len(values[0]) == len(values[1]) == 1 and values[0] != values[1]:
            if not key.startswith((f"{factor.key}.", "source.")):
                first, second = (setting_text(keys[key].iloc[of_level[0]]) for of_level in rows)
                confounded.append(f"{key} {first} and {second}")
        else:
            shared.append(key)
    return shared, own, confounded


def _pairs(
    cells: pd.DataFrame,
    codes: pd.DataFrame,
    rows: Sequence[np.ndarray[Any, Any]],
    shared: list[str],
    own: tuple[list[str], list[str]],
) -> pd.DataFrame:
    """A row per contrast and seed, as :func:`.plain_and_adjusted` takes them.

    A seed that only one level has counts as missing where it says what it is missing from.
    """
    sides = []
    for of_level, level, mine in zip(rows, _LEVELS, own, strict=True):
        by = [*shared, *mine]
        side = codes.loc[of_level, by].assign(seed=cells["seed"].to_numpy()[of_level])
        sides.append(side.assign(**{level: of_level}).drop_duplicates([*by, "seed"]))
    pairs = sides[0].merge(sides[1], on=[*shared, "seed"], how="outer", validate="many_to_many")
    pairs[list(_LEVELS)] = pairs[list(_LEVELS)].fillna(-1).astype(np.intp)
    keys = [*shared, *own[0], *own[1]]
    place = pairs.groupby(keys, dropna=False, sort=False).ngroup() if keys else 0
    row = pairs[list(_LEVELS)].max(axis="columns")
    recipe_key = cells["recipe_key"].take(row.to_numpy()).to_numpy()
    return pairs[list(_LEVELS)].assign(place=place, point=place, recipe_key=recipe_key, model="")


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
