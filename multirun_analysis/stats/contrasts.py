"""Contrasts beside the 2x2 design, paired by seed: SGDHESS less SGD, and hybrids at equal loss.

A network that fits less is flatter, whatever made it fit less. At the end of training the hybrids
have different losses; on their way there each passes through the other's. :func:`matched_effects`
compares both in the first epoch whose training loss is at or below a level that all of them reach.

Only what a history holds can be matched: validation accuracy, the weights' norm, and the curvature
along g that SAM's two gradients give for nothing. The largest eigenvalue and the test accuracy are
taken at the end alone. A history's training loss is the mean over the epoch's mini-batches,
augmented and on the way, and at the matched epochs the two may have different learning rates: this
is a comparison along two trainings, not between two that have ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from multirun_analysis.stats.effects import DESIGN, HYBRIDS, corners_of
from multirun_analysis.stats.outcomes import Outcome, outcomes_of, with_metric
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

#: Columns of :func:`matched_effects`.
MATCHED_COLUMNS: Mapping[str, str] = {
    "recipe_key": "string",
    "model": "string",
    "ascent": "string",
    "eta": "float64",
    "scaled": "string",
    "granularity": "string",
    "rho": "float64",
    "outcome": "string",  # a key of MATCHED_OUTCOMES
    "level": "float64",  # training loss, nats
    "epoch_samdirection": "float64",  # mean over seeds of the matched epoch
    "epoch_sammagnitude": "float64",
    "estimate": "float64",  # mean over seeds of SAMMAGNITUDE less SAMDIRECTION
    "t_low": "float64",  # 95 %
    "t_high": "float64",
    "n": "Int64",  # seeds with both values
    "p": "float64",  # sign flip; of single tests, adjusted for no number of them
}


def _frame(parts: list[pd.DataFrame], columns: Mapping[str, str]) -> pd.DataFrame:
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return found.reindex(columns=list(columns)).astype(dict(columns))


# --------------------------------------------------------------------------- SGDHESS less SGD

_FACTOR = ["recipe_key", "model", "curvature", "rho"]


def curvature_effects(runs: pd.DataFrame, measurements: pd.DataFrame) -> pd.DataFrame:
    """What the curvature term changes, against SGD of the same seed.

    Returns:
        :data:`CURVATURE_COLUMNS`, a row per outcome (and its measurement), model and factor of
        which some seed has both cells' values.
    """
    cells = runs.reset_index(drop=True)
    pairs = _pairs(cells)
    parts = [_differences(pairs, outcome) for outcome in outcomes_of(cells, measurements)]
    found = _frame(parts, CURVATURE_COLUMNS)
    ranked = found.assign(outcome=pd.Categorical(found["outcome"], list(OUTCOMES)))
    by = ["recipe_key", "outcome", "settings_key", "model", "curvature", "rho"]
    ordered = found.loc[ranked.sort_values(by, kind="stable").index].reset_index(drop=True)
    return with_metric(ordered, cells)


def _pairs(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows of SGDHESS and of SGD in ``cells``, of one recipe, model and seed."""
    placed = cells[[*_FACTOR, "seed"]].assign(row=cells.index)
    keys = ["recipe_key", "model", "seed"]
    is_sgd = corners_of(cells) == "sgd"
    sgd = placed.loc[is_sgd.fillna(False), [*keys, "row"]].rename(columns={"row": "sgd"})
    return placed[placed["curvature"].notna()].merge(sgd.drop_duplicates(keys), on=keys)


def _differences(pairs: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    values = outcome.values[pairs["row"]] - outcome.values[pairs["sgd"]]
    known = pairs[np.isfinite(values)]
    groups = known.groupby(_FACTOR, sort=False)
    described = describe_groups(
        values[np.isfinite(values)], groups.ngroup().to_numpy(), groups.ngroups
    )
    points = known.drop_duplicates(_FACTOR)[_FACTOR].reset_index(drop=True)
    return pd.concat([points, described], axis="columns").assign(
        outcome=outcome.name, **outcome.described
    )


# --------------------------------------------------------------------------- at equal loss

#: What is compared, by the column of the history and whether by its logarithm.
MATCHED_OUTCOMES: Mapping[str, tuple[str, bool]] = {
    "val_accuracy": ("val_accuracy", False),
    "log_directional_curvature": ("directional_curvature", True),
    "weight_norm": ("weight_norm", False),
}

_POINT = [*DESIGN, "rho"]


def matched_effects(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Headline contrasts at equal training loss.

    The level of a point (recipe, model, ascent, granularity, radius) is the lowest training loss
    that all complete cells of both hybrids reach there, so that no cell is left out.

    Returns:
        :data:`MATCHED_COLUMNS`, a row per point and outcome of which some seed has both values.
    """
    runs = runs.assign(variant=corners_of(runs))
    hybrids = runs[runs["variant"].isin(HYBRIDS) & (runs["status"] == "complete")]
    hybrids = hybrids.drop_duplicates(["variant", "seed", *_POINT])
    rows = history.merge(hybrids[["cell_id", "variant", "seed", *_POINT]], on="cell_id")
    rows = rows[np.isfinite(rows["train_loss"])].sort_values(["cell_id", "epoch"])
    parts = [part for _, point in rows.groupby(_POINT, dropna=False) for part in _matched(point)]
    return with_metric(_frame(parts, MATCHED_COLUMNS), runs)


def _matched(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The contrasts of one point."""
    if rows["variant"].nunique() < len(HYBRIDS):
        return
    level = rows.groupby("cell_id")["train_loss"].min().max()
    first = rows[rows["train_loss"] <= level].groupby("cell_id", sort=False).head(1)
    epochs = first.groupby("variant")["epoch"].mean()
    for outcome, (column, logarithmic) in MATCHED_OUTCOMES.items():
        values = first.pivot(index="seed", columns="variant", values=column).astype(float)
        values = np.log(values.where(values > 0)) if logarithmic else values
        contrast = (values["sammagnitude"] - values["samdirection"]).dropna().to_numpy()
        if len(contrast):
            groups = np.zeros(len(contrast), dtype=int)
            yield describe_groups(contrast, groups, 1, bootstrap=False).assign(
                **first[_POINT].iloc[0].to_dict(),
                outcome=outcome,
                level=level,
                **{f"epoch_{variant}": epochs[variant] for variant in HYBRIDS},
            )
