r"""Direction or magnitude? The 2x2 design, per radius, model and granularity, paired by seed.

With Y(direction source, magnitude source) an outcome of one seed, S for SAM and G for SGD:

* direction D = ½[(Y_SS − Y_GS) + (Y_SG − Y_GG)], magnitude M = ½[(Y_SS − Y_SG) + (Y_GS − Y_GG)];
* interaction I = Y_SS − Y_SG − Y_GS + Y_GG;
* M − D = Y_GS − Y_SG, SAMMAGNITUDE less SAMDIRECTION: the headline needs two cells alone.

The unit is the seed. A seed without a value of a contrast is left out of it and counted. SGD has
one cell per seed whatever the radius and the granularity, SAM one whatever the granularity. Designs
of different recipes, ascents and granularities stay apart, ln lambda_max of different measurement
settings too.

Each contrast is given plain and, where there are cells enough, adjusted for the training loss
(:func:`.adjusted_for_fit`). Tests are the sign-flip tests of
:mod:`multirun_analysis.stats.paired`; p is adjusted in the families of
:mod:`multirun_analysis.stats.families`. Intervals are adjusted for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from multirun_analysis.runs.keys import DEFAULTS, recipe_keys
from multirun_analysis.runs.values import named_value
from multirun_analysis.stats.families import with_families
from multirun_analysis.stats.outcomes import Outcome, adjusted_for_fit, outcomes_of, with_metric
from multirun_analysis.stats.paired import ALPHA, Array, describe_groups
from multirun_analysis.stats.summary import LOST, in_order, without_unpruned
from multirun_analysis.wording.labels import recipe_titles
from samsweep.config import CORNERS, Confirmatory
from samsweep.config.cell import SAM_FAMILY

HYBRIDS = ("samdirection", "sammagnitude")

#: The contrasts, as weights of the corners' outcomes; the headline first.
EFFECTS: Mapping[str, Mapping[str, float]] = {
    "magnitude_minus_direction": {"sammagnitude": 1, "samdirection": -1},
    "direction": {"sam": 0.5, "sammagnitude": -0.5, "samdirection": 0.5, "sgd": -0.5},
    "magnitude": {"sam": 0.5, "samdirection": -0.5, "sammagnitude": 0.5, "sgd": -0.5},
    "interaction": {"sam": 1, "samdirection": -1, "sammagnitude": -1, "sgd": 1},
    "direction_at_sgd_magnitude": {"samdirection": 1, "sgd": -1},
    "direction_at_sam_magnitude": {"sam": 1, "sammagnitude": -1},
    "magnitude_at_sgd_direction": {"sammagnitude": 1, "sgd": -1},
    "magnitude_at_sam_direction": {"sam": 1, "samdirection": -1},
}
HEADLINE = next(iter(EFFECTS))
SIMPLE_EFFECTS = tuple(name for name in EFFECTS if "_at_" in name)

#: An interaction larger than this share of the larger main effect says that neither main effect
#: speaks for both levels of the other factor: simple effects belong beside them.
LARGE_INTERACTION = 0.5

#: What one 2x2 design is about; radii are its points.
DESIGN = ("recipe_key", "model", "ascent", "eta", "scaled", "granularity")
_POINT = (*DESIGN, "rho")

#: Columns of the keys that plain SAM is without; an ascent has arguments only if it is another.
_FAMILY_KEY = rf"opt\.({'|'.join((*SAM_FAMILY, 'ascent_args'))})(\.|$)"


class Design(NamedTuple):
    """Contrasts of cells that are paired by seed."""

    effects: Mapping[str, Mapping[str, float]]  # weights of the corners' outcomes
    keys: tuple[str, ...]  # what is the same in all corners of a point
    leads: tuple[str, ...]  # corners one of which a seed needs to count


FACTORIAL = Design(EFFECTS, _POINT, HYBRIDS)

#: Columns of :func:`estimate_effects`.
EFFECT_COLUMNS: Mapping[str, str] = {
    "recipe_key": "string",
    "recipe": "string",  # its title
    "dataset": "string",
    "epochs": "Int64",
    "settings_key": "string",  # of the measurement; <NA> for outcomes of training
    "settings_label": "string",
    "model": "string",
    "ascent": "string",
    "eta": "float64",  # NaN but for the adaptive ascent
    "scaled": "string",  # <NA> but for the adaptive ascent of all weights
    "granularity": "string",
    "outcome": "string",  # one of OUTCOMES
    "rho": "float64",
    "effect": "string",  # a key of EFFECTS
    "estimate": "float64",  # mean over seeds
    "median": "float64",
    "n": "Int64",  # seeds with all values
    "n_lost": "Int64",  # seeds left out: the sum of the next three, and of n_pruned
    "n_diverged": "Int64",  # a cell diverged
    "n_failed": "Int64",  # none did, but one failed
    "n_missing": "Int64",  # not trained or not measured yet, or not there at all
    "n_unconverged": "Int64",  # of the n: an eigenvalue did not reach its tolerance
    "t_low": "float64",  # 95 %, NaN for one seed or none, and where all seeds agree exactly
    "t_high": "float64",
    "bca_low": "float64",  # 95 %, NaN below eight seeds
    "bca_high": "float64",
    "p": "float64",  # sign flip
    "family": "string",  # confirmatory (Holm) or exploratory (Benjamini-Hochberg)
    "p_adjusted": "float64",
    "family_size": "Int64",
    "seeds_needed": "Int64",  # in all, for the family to be able to find anything
    "fit_estimate": "float64",  # the contrast adjusted for the training loss
    "fit_low": "float64",  # 95 % t
    "fit_high": "float64",
    "fit_p": "float64",  # sign flip, adjusted for no number of tests
    "fit_r2": "float64",  # share of the outcome's variance that loss and seeds explain
    "interaction_large": "boolean",  # significant, or larger than half the larger main effect
}

#: Columns of :func:`published_effects`.
PUBLISHED_COLUMNS: Mapping[str, str] = {
    "source": "string",
    "dataset": "string",
    "reading": "string",  # of the two names: by_name, or as_coded
    "model": "string",
    "granularity": "string",
    "outcome": "string",  # test_accuracy or log_sharpness
    "rho": "float64",
    "effect": "string",
    "estimate": "float64",  # NaN where a number was not published
}

_ORDER = (
    "dataset", "recipe", "outcome", "settings_label", "settings_key", "ascent", "eta", "scaled",
    "granularity", "effect", "model", "rho",
)  # fmt: skip

#: A contrast within this share of its largest outcome is rounding, and zero.
_ROUNDING = 1e-13


# --------------------------------------------------------------------------- public


def estimate_effects(
    runs: pd.DataFrame,
    measurements: pd.DataFrame,
    plan: Confirmatory | None = None,
    *,
    value: str | None = None,
) -> pd.DataFrame:
    """All contrasts of a study with their intervals and tests.

    Args:
        runs: Frame of :func:`.load_runs`, of one study.
        measurements: Frame of :func:`.load_measurements`.
        plan: The tests that were named beforehand; without, all are exploratory.
        value: The outcome, a name of :func:`.named_value`; None is every one of
            :data:`~samsweep.config.OUTCOMES`.

    Raises:
        ConfigError: If the study has nothing of that name.

    Returns:
        :data:`EFFECT_COLUMNS`, a row per design, outcome (and its measurement), radius and effect,
        wherever each of the effect's corners has a cell of whatever status. Empty without hybrids.
        Then ``n_pruned``, where a seed has no diverged or failed cell but a pruned one, and
        ``metric``, where a recipe has another than the accuracy.
    """
    cells = runs.reset_index(drop=True)
    quads = _quads(cells)
    named = None if value is None else named_value(cells, measurements, value)
    outcomes = outcomes_of(cells, measurements, named)
    parts = [plain_and_adjusted(quads, one, cells) for one in outcomes]
    effects = without_unpruned(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()
    more = [name for name in effects if name == "n_pruned"]
    effects = _described(effects.reindex(columns=[*EFFECT_COLUMNS, *more]), cells)
    effects = with_families(effects, plan).astype(dict(EFFECT_COLUMNS))
    effects = with_metric(effects, cells)
    return in_order(effects.assign(interaction_large=_large_interactions(effects)), _ORDER)


def published_effects(reference: pd.DataFrame) -> pd.DataFrame:
    """Point contrasts of published tables: single values allow neither intervals nor tests.

    Returns:
        :data:`PUBLISHED_COLUMNS`, under both readings of the names of the hybrids; ``attrs`` of the
        reference. The sharpness enters by its logarithm.
    """
    parts = [
        _published_part(reference, quantity, reading)
        for reading in _READINGS
        for quantity in ("accuracy", "sharpness")
    ]
    effects = pd.concat(parts, ignore_index=True)[list(PUBLISHED_COLUMNS)]
    effects = effects.astype(dict(PUBLISHED_COLUMNS))
    effects.attrs.update(reference.attrs)
    return effects


# --------------------------------------------------------------------------- cells of the design

#: What a corner's cell has in common with the other corners of its design.
_SHARED = {
    "sgd": ("recipe_key", "model", "seed"),
    "sam": ("recipe_key", "model", "ascent", "eta", "scaled", "rho", "seed"),
    **{hybrid: (*_POINT, "seed") for hybrid in HYBRIDS},
}


def _quads(cells: pd.DataFrame) -> pd.DataFrame:
    """The corners of every design, radius and seed of which there is a hybrid.

    Returns:
        A row per point and seed: the keys, ``point`` (a number), and for each corner the row of its
        cell in ``cells``, -1 where there is none.
    """
    placed = cells[list(_POINT) + ["seed"]].assign(corner=corners_of(cells), row=cells.index)
    # Two names of one's own for one ascent are one training.
    placed = placed.drop_duplicates([*_POINT, "seed", "corner"])
    hybrids = placed[placed["corner"].isin(HYBRIDS)]
    quads = hybrids[[*_POINT, "seed"]].drop_duplicates()
    for corner, shared in _SHARED.items():
        found = placed.loc[placed["corner"] == corner, [*shared, "row"]]
        found = found.rename(columns={"row": corner})
        # Two cells of one seed in one corner would count it twice.
        quads = quads.merge(found, on=list(shared), how="left", validate="many_to_one")
    quads[list(_SHARED)] = quads[list(_SHARED)].fillna(-1).astype(np.intp)
    return quads.assign(point=quads.groupby(list(_POINT), dropna=False, sort=False).ngroup())


def corners_of(cells: pd.DataFrame) -> pd.Series[str]:
    """Each cell's corner by what it computed, whatever its name.

    NA for SGDHESS, one's own, and SAM's family, which ascends otherwise than the 2×2 design.
    """
    sources = zip(cells["direction"], cells["magnitude"], strict=True)
    corners = pd.Series([CORNERS.get(pair) for pair in sources], index=cells.index, dtype="string")
    return corners.mask(cells["curvature"].notna() | _ascends_otherwise(cells))


def _ascends_otherwise(cells: pd.DataFrame) -> pd.Series[bool]:
    """Whether a cell has a value that plain and adaptive SAM are without."""
    found = pd.Series(False, index=cells.index)
    for key in cells.columns[cells.columns.str.match(_FAMILY_KEY)]:
        # A column may hold the default of cells that do not name the key.
        usual, known = DEFAULTS.get(key), cells[key].notna()
        pairs = zip(known, cells[key], strict=True)
        found |= np.array([has and value != usual for has, value in pairs], dtype=bool)
    return found


# --------------------------------------------------------------------------- contrasts


def plain_and_adjusted(
    quads: pd.DataFrame, outcome: Outcome, cells: pd.DataFrame, design: Design = FACTORIAL
) -> pd.DataFrame:
    """Rows of one outcome, with the same contrasts of what the training loss leaves of it.

    Args:
        quads: A row per point and seed: the design's keys, ``point`` (a number), and for each
            corner the row of its cell in ``cells``, -1 where there is none.
        outcome: A number of each cell.
        cells: Frame of :func:`.load_runs`, numbered from 0.
        design: Its contrasts.
    """
    residuals, explained = adjusted_for_fit(outcome, cells, all_optimizers=design is not FACTORIAL)
    plain = _outcome_effects(quads, outcome, cells, design)
    # Both are rows of the same points and effects, in one order.
    adjusted = _outcome_effects(quads, residuals, cells, design, bootstrap=False)
    return plain.assign(
        **{ours: adjusted[theirs] for ours, theirs in _ADJUSTED.items()},
        fit_r2=[
            explained.get((str(recipe), str(model)), np.nan)
            for recipe, model in zip(plain["recipe_key"], plain["model"], strict=True)
        ],
    )


_ADJUSTED = {"fit_estimate": "estimate", "fit_low": "t_low", "fit_high": "t_high", "fit_p": "p"}


def _outcome_effects(
    quads: pd.DataFrame,
    outcome: Outcome,
    cells: pd.DataFrame,
    design: Design = FACTORIAL,
    *,
    bootstrap: bool = True,
) -> pd.DataFrame:
    """Rows of one outcome: all effects at all points where they are planned."""
    if outcome.recipe_key is not None:
        quads = quads[quads["recipe_key"] == outcome.recipe_key]
    quads = quads.assign(point=pd.factorize(quads["point"])[0])
    points = quads.drop_duplicates("point")[list(design.keys)].reset_index(drop=True)
    seeds = pd.concat(
        [_contrast(quads, outcome, cells, design, effect) for effect in design.effects],
        ignore_index=True,
    )
    tests = seeds.drop_duplicates(["effect", "point"])[["effect", "point"]].reset_index(drop=True)
    numbers = seeds.groupby(["effect", "point"], sort=False).ngroup().to_numpy()
    found = seeds["value"].notna().to_numpy()
    values = seeds["value"].to_numpy(dtype=float)
    described = describe_groups(values[found], numbers[found], len(tests), bootstrap=bootstrap)
    counts = {
        name: np.bincount(numbers, weights=seeds[name], minlength=len(tests)).astype(int)
        for name in _COUNTS
    }
    rows = points.iloc[tests["point"]].reset_index(drop=True)
    return pd.concat([rows, tests[["effect"]], described], axis="columns").assign(
        outcome=outcome.name,
        **outcome.described,
        **counts,
        n_lost=sum(counts[name] for name in _LOST_COUNTS),
    )


_LOST_COUNTS = (*(f"n_{status}" for status in LOST), "n_missing")
_COUNTS = (*_LOST_COUNTS, "n_unconverged")


def _contrast(
    quads: pd.DataFrame, outcome: Outcome, cells: pd.DataFrame, design: Design, effect: str
) -> pd.DataFrame:
    """One effect on one outcome, a row per point and seed, where the effect is planned.

    A seed belongs to it once one of its hybrids has a cell: SGD and SAM alone may have more seeds.
    """
    weights = design.effects[effect]
    rows = quads[list(weights)].to_numpy()
    there = rows >= 0
    hybrid = there[:, [corner in design.leads for corner in weights]].any(axis=1)
    seeds = hybrid & _planned(quads["point"].to_numpy(), there)
    rows, there = rows[seeds], there[seeds]
    value = _combined(_taken(outcome.values, rows, np.nan), np.array(list(weights.values())))
    lost = np.isnan(value)
    statuses = cells["status"].to_numpy(dtype=object)
    # Each seed counts once, by the first of the states that explain it.
    missing, counts = lost, {}
    for status in LOST:
        explains = missing & _taken(statuses == status, rows, False).any(axis=1)
        counts[f"n_{status}"], missing = explains, missing & ~explains
    return pd.DataFrame(
        {
            "effect": effect,
            "point": quads["point"].to_numpy()[seeds],
            "value": value,
            **counts,
            "n_missing": missing,
            "n_unconverged": ~lost & _taken(outcome.unconverged, rows, False).any(axis=1),
        }
    )


def _planned(point: npt.NDArray[np.intp], there: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether each of the corners has a cell of some seed at a row's point."""
    found = np.zeros((point.max(initial=-1) + 1, there.shape[1]), dtype=bool)
    np.logical_or.at(found, point, there)
    return np.asarray(found.all(axis=1))[point]


def _taken(column: npt.NDArray[np.generic], rows: npt.NDArray[np.intp], absent: object) -> Array:
    """A column's entries at rows, of the shape of ``rows``; ``absent`` at -1."""
    return np.append(column, np.array([absent], dtype=column.dtype))[rows]


def _combined(outcomes: Array, weights: Array) -> Array:
    """The contrast of each row of outcomes, exactly zero where it is rounding alone."""
    contrast = outcomes @ weights
    scale = np.abs(outcomes).max(axis=1, initial=0.0)
    return np.where(np.abs(contrast) <= _ROUNDING * scale, 0.0, contrast)


# --------------------------------------------------------------------------- families


def _described(effects: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """With the names that go with a recipe's key."""
    recipes = cells.drop_duplicates("recipe_key").set_index("recipe_key")
    keys = effects["recipe_key"]
    return effects.assign(
        recipe=keys.map(recipe_titles(cells, recipe_keys(cells))),
        dataset=keys.map(recipes["dataset"]),
        epochs=keys.map(recipes["epochs"]),
    ).astype(dict(EFFECT_COLUMNS))


def _large_interactions(effects: pd.DataFrame) -> pd.Series[bool]:
    """Whether the interaction at a row's point asks for simple effects."""
    keys = ["settings_key", "outcome", *_POINT]
    point = effects.groupby(keys, dropna=False, sort=False).ngroup()
    by_point = effects.assign(point=point).set_index("point")
    significant = by_point["p_adjusted"] <= ALPHA
    size = by_point["estimate"].abs()
    interaction = by_point["effect"] == "interaction"
    main = by_point["effect"].isin(["direction", "magnitude"])
    largest = size[main].groupby(level="point").max()
    large = size[interaction] > LARGE_INTERACTION * largest.reindex(size[interaction].index)
    asks = large | significant[interaction]
    return point.map(asks).astype("boolean").fillna(False)


# --------------------------------------------------------------------------- published tables

_READINGS = {"by_name": "variant", "as_coded": "variant_as_coded"}
_PUBLISHED_OUTCOMES = {"accuracy": "test_accuracy", "sharpness": "log_sharpness"}


def _published_part(reference: pd.DataFrame, quantity: str, reading: str) -> pd.DataFrame:
    numbers = reference[reference["quantity"] == quantity].reset_index(drop=True)
    sources = {corner: pair for pair, corner in CORNERS.items()}
    names = numbers[_READINGS[reading]]
    directions, magnitudes = zip(*(sources.get(n, ("sgd", "sgd")) for n in names), strict=True)
    cells = numbers.assign(
        direction=directions,
        magnitude=magnitudes,
        curvature=names.where(~names.isin(list(sources))),
        ascent="plain",
        eta=np.nan,
        scaled=pd.Series(pd.NA, index=numbers.index, dtype="string"),
        recipe_key="published",
        seed=0,
        status="complete",
    )
    values = numbers["value"].to_numpy(dtype=float)
    values = np.log(values) if quantity == "sharpness" else values
    outcome = Outcome(_PUBLISHED_OUTCOMES[quantity], values, np.zeros(len(cells), dtype=bool))
    effects = _outcome_effects(_quads(cells), outcome, cells)
    described = {name: numbers[name].iloc[0] for name in ("source", "dataset")}
    return effects.assign(reading=reading, **described)
