"""The outcomes of a study: a number of each cell, as trained and adjusted for how well it fits.

Curvature and accuracy go with the training loss: a network that fits less is flatter, whatever made
it fit less. The adjusted outcome is what a regression on the training loss leaves (analysis of
covariance): of the cells of one recipe and model, on the loss, its square and the seeds.

The training loss may be a *mediator*: if a variant makes flat minima by fitting less, adjusting for
the fit takes away a part of its effect. A contrast that vanishes so refutes nothing; it says that
these cells do not distinguish the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from multirun_analysis.runs.measurements import of_largest_eigenvalue
from multirun_analysis.runs.values import NamedValue
from multirun_analysis.stats.paired import Array
from samsweep.config import OUTCOMES

#: Outcomes of training: the last epoch's, but for the accuracy at best validation. The
#: generalisation gap is training accuracy (on the labels as trained) less test accuracy.
TRAINING_OUTCOMES = (
    "test_accuracy",
    "best_test_accuracy",
    "test_loss",
    "train_loss",
    "generalization_gap",
    "weight_norm",
)

#: What the outcomes are adjusted for: the last epoch's, on training images as they are.
COVARIATE = "train_loss"
#: Cells beyond the coefficients of a regression, below which nothing is adjusted.
MIN_FREEDOM = 10


@dataclass(frozen=True)
class Outcome:
    """A number of each cell."""

    name: str  # one of samsweep.config.OUTCOMES, or of named_value
    values: Array  # of shape (cells,), NaN where there is none
    unconverged: npt.NDArray[np.bool_]  # of shape (cells,): whether a value missed its tolerance
    described: Mapping[str, Any] = field(default_factory=dict)  # the measurement's columns
    recipe_key: str | None = None  # the one recipe that has it; None for all


def outcomes_of(
    cells: pd.DataFrame, measurements: pd.DataFrame, value: NamedValue | None = None
) -> Iterator[Outcome]:
    """Every outcome that a study has, or those that a name of the user's gives.

    Args:
        cells: Frame of :func:`.load_runs`, of a study or of some of its cells.
        measurements: Frame of :func:`.load_measurements`, of these cells.
        value: A name's numbers, taken as they are or as it says ``log_``.

    Yields:
        One for the numbers of trainings, and for measured ones one for each recipe and measurement
        settings.
    """
    if value is None:
        yield from _usual_outcomes(cells, measurements)
    elif value.name in OUTCOMES:
        found = _usual_outcomes(cells, measurements)
        yield from (outcome for outcome in found if outcome.name == value.name)
    else:
        yield from _outcomes_of_value(value, cells)


def _usual_outcomes(cells: pd.DataFrame, measurements: pd.DataFrame) -> Iterator[Outcome]:
    """All of :data:`~samsweep.config.OUTCOMES`.

    Yields:
        One for each of :data:`TRAINING_OUTCOMES`, and ``log_lambda_max`` for each recipe and
        measurement settings.
    """
    complete = cells["status"] == "complete"
    known = cells.assign(generalization_gap=cells["train_accuracy"] - cells["test_accuracy"])
    for name in TRAINING_OUTCOMES:
        values = known[name].where(complete).to_numpy(dtype=float)
        yield Outcome(name, _finite(values), np.zeros(len(cells), dtype=bool))
    eigenvalues = of_largest_eigenvalue(measurements)
    positive = eigenvalues["lambda_max"].where(eigenvalues["lambda_max"] > 0)
    yield from _measured("log_lambda_max", eigenvalues.assign(value=np.log(positive)), cells)


def _outcomes_of_value(value: NamedValue, cells: pd.DataFrame) -> Iterator[Outcome]:
    rows = value.rows.assign(value=value.rows[value.column])
    if not value.of_cells:
        recipes = cells.set_index("cell_id")["recipe_key"]
        yield from _measured(
            value.name, rows.assign(recipe_key=rows["cell_id"].map(recipes)), cells
        )
        return
    found = rows.set_index("cell_id")["value"].reindex(cells["cell_id"])
    numbers = found.to_numpy(dtype=float, na_value=np.nan)
    complete = (cells["status"] == "complete").to_numpy(dtype=bool)
    yield Outcome(
        value.name, _finite(np.where(complete, numbers, np.nan)), np.zeros(len(cells), dtype=bool)
    )


def _measured(name: str, rows: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Outcome]:
    """An outcome for each recipe and measurement settings of rows with a ``value``."""
    complete = (cells["status"] == "complete").to_numpy(dtype=bool)
    for (recipe_key, settings_key), of_settings in rows.groupby(["recipe_key", "settings_key"]):
        found = of_settings.drop_duplicates("cell_id").set_index("cell_id")
        found = found[["value", "converged"]].reindex(cells["cell_id"])
        values = np.where(complete, found["value"].to_numpy(dtype=float), np.nan)
        unconverged = ~found["converged"].astype("boolean").fillna(True).to_numpy(dtype=bool)
        label = of_settings["settings_label"].iloc[0]
        settings = {"settings_key": settings_key, "settings_label": label}
        yield Outcome(name, _finite(values), unconverged, settings, str(recipe_key))


def with_metric(effects: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Effects with each recipe's metric, in a column that is there if it is not the accuracy."""
    if (cells["metric"] == "accuracy").all():
        return effects
    metrics = cells.groupby("recipe_key")["metric"].unique().map(", ".join)
    return effects.assign(metric=effects["recipe_key"].map(metrics).astype("string"))


def adjusted_for_fit(
    outcome: Outcome, cells: pd.DataFrame, *, all_optimizers: bool = False
) -> tuple[Outcome, dict[tuple[str, str], float]]:
    """An outcome without what the training loss explains, in the cells of SGD, SAM and hybrids.

    Args:
        outcome: A number of each cell.
        cells: Frame of :func:`.load_runs`.
        all_optimizers: Whether it is over the cells of every optimizer instead.

    Returns:
        Residuals, NaN where the outcome or the loss is, and where fewer than :data:`MIN_FREEDOM`
        cells are left beyond the regression's coefficients; and the share of variance that the
        regression explains, by ``recipe_key`` and model.
    """
    residuals, shares = np.full(len(cells), np.nan), {}
    loss = cells[COVARIATE].to_numpy(dtype=float)
    # The training loss itself has nothing left to adjust.
    usable = np.isfinite(outcome.values) & np.isfinite(loss) & (outcome.name != COVARIATE)
    if not all_optimizers:
        usable &= (cells["curvature"].isna() & cells["direction"].notna()).to_numpy()
    for (recipe_key, model), rows in cells[usable].groupby(["recipe_key", "model"], sort=False):
        found = rows.index.to_numpy()
        residuals[found], shares[str(recipe_key), str(model)] = _regression(
            outcome.values[found], loss[found], rows["seed"].to_numpy(dtype=int)
        )
    return replace(outcome, values=residuals, described={}), shares


def _regression(values: Array, loss: Array, seeds: npt.NDArray[np.int_]) -> tuple[Array, float]:
    """Residuals of a least-squares fit on loss, its square and the seeds; and its R²."""
    x = (loss - loss.mean()) / (loss.std() or 1.0)
    of_seed = np.unique(seeds)[None, :] == seeds[:, None]
    design = np.column_stack([x, x**2, of_seed])
    if len(values) < design.shape[1] + MIN_FREEDOM:
        return np.full(len(values), np.nan), np.nan
    coefficients, *_ = np.linalg.lstsq(design, values, rcond=None)
    residuals = values - design @ coefficients
    spread = values.var()
    return residuals, float(1 - residuals.var() / spread) if spread else np.nan


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.nan)
