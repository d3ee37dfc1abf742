"""SAMMAGNITUDE less SAMDIRECTION at equal training loss, from the histories.

A network that fits less is flatter, whatever made it fit less. At the end of training the hybrids
have different losses; on their way there each passes through the other's. Here both are compared
in the first epoch whose training loss is at or below a level that all of them reach.

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

from multirun_analysis.stats.effects import HYBRIDS
from multirun_analysis.stats.paired import describe_groups

#: What is compared, by the column of the history and whether by its logarithm.
MATCHED_OUTCOMES: Mapping[str, tuple[str, bool]] = {
    "val_accuracy": ("val_accuracy", False),
    "log_directional_curvature": ("directional_curvature", True),
    "weight_norm": ("weight_norm", False),
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

_POINT = ["recipe_key", "model", "ascent", "eta", "scaled", "granularity", "rho"]


def matched_effects(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Headline contrasts at equal training loss.

    The level of a point (recipe, model, ascent, granularity, radius) is the lowest training loss
    that all complete cells of both hybrids reach there, so that no cell is left out.

    Returns:
        :data:`MATCHED_COLUMNS`, a row per point and outcome of which some seed has both values.
    """
    hybrids = runs[runs["variant"].isin(HYBRIDS) & (runs["status"] == "complete")]
    rows = history.merge(hybrids[["cell_id", "variant", "seed", *_POINT]], on="cell_id")
    rows = rows[np.isfinite(rows["train_loss"])].sort_values(["cell_id", "epoch"])
    parts = [part for _, point in rows.groupby(_POINT, dropna=False) for part in _matched(point)]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return found.reindex(columns=list(MATCHED_COLUMNS)).astype(dict(MATCHED_COLUMNS))


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
            described = describe_groups(
                contrast, np.zeros(len(contrast), dtype=int), 1, bootstrap=False
            )
            yield described.assign(
                **first[_POINT].iloc[0].to_dict(),
                outcome=outcome,
                level=level,
                **{f"epoch_{variant}": epochs[variant] for variant in HYBRIDS},
            )
