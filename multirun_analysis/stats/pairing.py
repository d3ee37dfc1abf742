"""Which cells of two levels are a pair: of one seed, and equal in everything else that varies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from multirun_analysis.runs.keys import varying_keys
from multirun_analysis.wording.labels import setting_text

#: Columns of the cells of a pair.
LEVELS = ("level_a", "level_b")

Rows = npt.NDArray[np.intp]


class Roles(NamedTuple):
    """What each key that varies between the cells of two levels is to their pairs."""

    shared: list[str]  # equal in both cells of a pair
    first: list[str]  # tells cells of the first level apart, each paired with those of the second
    second: list[str]  # likewise, of the second
    confounded: list[str]  # what changes with the factor, in words

    @property
    def keys(self) -> list[str]:
        """All keys that tell pairs apart."""
        return [*self.shared, *self.first, *self.second]


def roles_of(
    factor: str,
    keys: pd.DataFrame,
    codes: pd.DataFrame,
    rows: tuple[Rows, Rows],
    *,
    against_one: bool,
) -> Roles:
    """What each key is to the pairs of two levels.

    Args:
        factor: The key whose levels they are.
        keys: Of :func:`.keys_frame`, of the cells of all levels.
        codes: The same as numbers, -1 for none.
        rows: The cells of each level.
        against_one: Whether the first level is what others are compared with: then a key of which
            it has one value, or none, parts no pairs, whatever values the second level has.
    """
    roles = Roles([], [], [], [])
    for key in varying_keys(keys.iloc[np.concatenate(rows)]):
        values = [set(codes[key].to_numpy()[of_level]) for of_level in rows]
        # What an optimizer is called follows from its other keys.
        if key in (factor, "seed") or (key == "opt" and factor.startswith("opt.")):
            continue
        if values[0] == {-1} or (against_one and len(values[0]) == 1):
            roles.second.append(key)
        elif values[1] == {-1}:
            roles.first.append(key)
        elif len(values[0]) == len(values[1]) == 1 and values[0] != values[1]:
            if not key.startswith((f"{factor}.", "source.")):
                first, second = (setting_text(keys[key].iloc[of_level[0]]) for of_level in rows)
                roles.confounded.append(f"{key} {first} and {second}")
        else:
            roles.shared.append(key)
    return roles


def pairs_of(
    cells: pd.DataFrame, codes: pd.DataFrame, rows: tuple[Rows, Rows], roles: Roles
) -> pd.DataFrame:
    """A row per contrast and seed, as :func:`.plain_and_adjusted` takes them.

    A seed that only one level has counts as missing where it says what it is missing from.
    """
    sides = []
    for of_level, level, mine in zip(rows, LEVELS, (roles.first, roles.second), strict=True):
        by = [*roles.shared, *mine]
        side = codes.loc[of_level, by].assign(seed=cells["seed"].to_numpy()[of_level])
        sides.append(side.assign(**{level: of_level}).drop_duplicates([*by, "seed"]))
    on = [*roles.shared, "seed"]
    pairs = sides[0].merge(sides[1], on=on, how="outer", validate="many_to_many")
    pairs[list(LEVELS)] = pairs[list(LEVELS)].fillna(-1).astype(np.intp)
    keys = roles.keys
    place: Any = pairs.groupby(keys, dropna=False, sort=False).ngroup() if keys else 0
    row = pairs[list(LEVELS)].max(axis="columns")
    recipe_key = cells["recipe_key"].take(row.to_numpy()).to_numpy()
    return pairs[list(LEVELS)].assign(place=place, recipe_key=recipe_key, model="")


def ends_of(pairs: pd.DataFrame, places: pd.Series[Any]) -> pd.DataFrame:
    """A cell of each level, and the number of the pair of levels, of each of some contrasts."""
    ends = pairs.groupby("place")[[*LEVELS, "level"]].max()
    return ends.loc[places].reset_index(drop=True)


def values_of_ends(ends: pd.DataFrame, keys: pd.DataFrame, roles: Sequence[Roles]) -> pd.DataFrame:
    """The value of each key that tells pairs apart, a row for each contrast.

    Args:
        ends: Of :func:`ends_of`.
        keys: Of :func:`.keys_frame`.
        roles: Of each pair of levels.
    """
    told = {}
    for key in dict.fromkeys(key for of_level in roles for key in of_level.keys):
        of_first = np.array([key in of_level.first for of_level in roles])[ends["level"]]
        rows = np.where(of_first, ends["level_a"], ends["level_b"])
        told[key] = keys[key].take(rows).reset_index(drop=True)
    return pd.DataFrame(told, index=ends.index)
