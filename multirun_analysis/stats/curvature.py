"""SGDHESS less SGD, paired by seed, at each factor of the curvature term."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from multirun_analysis.stats.outcomes import Outcome, outcomes_of
from multirun_analysis.stats.paired import describe_groups
from samsweep.config import OUTCOMES

#: Columns of :func:`curvature_effects`.
CURVATURE_COLUMNS: Mapping[str, str] = {
    "recipe_key": "string",
    "settings_key": "string",  # of the measurement; <NA> for outcomes of training
    "settings_label": "string",
    "model": "string",
    "curvature": "string",
    "outcome": "string",  # one of OUTCOMES
    "rho": "float64",
    "estimate": "float64",  # mean over seeds of SGDHESS less SGD
    "median": "float64",
    "n": "Int64",  # seeds with both values
    "t_low": "float64",  # 95 %
    "t_high": "float64",
    "bca_low": "float64",
    "bca_high": "float64",
    "p": "float64",  # sign flip; of single tests, adjusted for no number of them
}

_POINT = ["recipe_key", "model", "curvature", "rho"]


def curvature_effects(runs: pd.DataFrame, measurements: pd.DataFrame) -> pd.DataFrame:
    """What the curvature term changes, against SGD of the same seed.

    Returns:
        :data:`CURVATURE_COLUMNS`, a row per outcome (and its measurement), model and factor of
        which some seed has both cells' values.
    """
    cells = runs.reset_index(drop=True)
    pairs = _pairs(cells)
    parts = [_differences(pairs, outcome) for outcome in outcomes_of(cells, measurements)]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    found = found.reindex(columns=list(CURVATURE_COLUMNS)).astype(dict(CURVATURE_COLUMNS))
    ranked = found.assign(outcome=pd.Categorical(found["outcome"], list(OUTCOMES)))
    by = ["recipe_key", "outcome", "settings_key", "model", "curvature", "rho"]
    return found.loc[ranked.sort_values(by, kind="stable").index].reset_index(drop=True)


def _pairs(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows of SGDHESS and of SGD in ``cells``, of one recipe, model and seed."""
    placed = cells[[*_POINT, "variant", "seed"]].assign(row=cells.index)
    keys = ["recipe_key", "model", "seed"]
    sgd = placed.loc[placed["variant"] == "sgd", [*keys, "row"]].rename(columns={"row": "sgd"})
    return placed[placed["variant"] == "sgdhess"].merge(sgd, on=keys)


def _differences(pairs: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    values = outcome.values[pairs["row"]] - outcome.values[pairs["sgd"]]
    known = pairs[np.isfinite(values)]
    groups = known.groupby(_POINT, sort=False)
    described = describe_groups(
        values[np.isfinite(values)], groups.ngroup().to_numpy(), groups.ngroups
    )
    points = known.drop_duplicates(_POINT)[_POINT].reset_index(drop=True)
    return pd.concat([points, described], axis="columns").assign(
        outcome=outcome.name, **outcome.described
    )
