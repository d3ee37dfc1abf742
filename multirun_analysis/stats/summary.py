"""From a row per cell to a row per table cell: mean, sd and n over the seeds of equal cells.

How many seeds have no value, and why, is counted beside them: nothing that is missing ever counts
as a number. Cells of different recipes, or measurements of different settings, are never averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd

from multirun_analysis.runs.columns import SETTINGS_COLUMNS, VALUE_COLUMNS
from multirun_analysis.runs.keys import recipe_keys
from multirun_analysis.wording.labels import Values, natural_order, ranking, recipe_titles
from samsweep.config import ASCENTS, CONTRASTS, DATASETS, MODELS, OUTCOMES, VARIANTS, Granularity

#: Descriptions that are the same in all seeds of a summary's row.
_DESCRIPTION = (
    "model", "optimizer", "variant", "granularity", "ascent", "eta", "scaled", "curvature"
)  # fmt: skip
_ORIGIN = ("formula", "recipe_key")
#: Columns of :func:`summarize`, before those of the measurement.
SUMMARY_COLUMNS = (
    "quantity", *_DESCRIPTION, "rho", "mean", "median", "sd",
    "n", "n_diverged", "n_failed", "n_pruned", "n_missing", "n_unconverged", *_ORIGIN, "row_key",
)  # fmt: skip
#: States of cells whose lack of a value they explain, in the order in which they do.
LOST = ("diverged", "failed", "pruned")
_SETTINGS = tuple(SETTINGS_COLUMNS)
#: What of a cell a summary needs beside the quantity.
NEEDED = ("cell_id", "status", *_DESCRIPTION, "rho", *_ORIGIN, "row_key")


# --------------------------------------------------------------------------- splitting, joining


def ordered_recipes(runs: pd.DataFrame) -> dict[str, str]:
    """A title for each ``recipe_key``, in the order of the tables; all different."""
    titles = recipe_titles(runs, recipe_keys(runs))
    recipes = runs.drop_duplicates("recipe_key").to_dict("records")
    recipes.sort(key=lambda recipe: _recipe_order(recipe, titles[recipe["recipe_key"]]))
    return {recipe["recipe_key"]: titles[recipe["recipe_key"]] for recipe in recipes}


def split_by_recipe(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The cells that may stand in one table, with what they have in common as a title."""
    groups = by_recipe(runs)
    return [(title, groups[key]) for key, title in ordered_recipes(runs).items()]


def by_recipe(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each recipe, by its key."""
    return {str(key): part for key, part in rows.groupby("recipe_key", sort=False)}


def _recipe_order(recipe: Values, title: str) -> tuple[object, ...]:
    dataset = ranking(DATASETS)(recipe["dataset"])
    return dataset, recipe["epochs"], recipe["batch_size"], recipe["lr"], title


def join_measurements(runs: pd.DataFrame, measurements: pd.DataFrame) -> pd.DataFrame:
    """Every cell with every measurement that any cell of its recipe has.

    A cell without a measurement has a row for it without a value, which tables print as missing.

    Returns:
        Columns of both; ``error`` is the measurement's. Recipes without measurements drop out.
    """
    cells = runs.drop(columns=["error", "loss"], errors="ignore")
    measured = measurements[measurements["cell_id"].isin(cells["cell_id"])]
    asked = measured[["recipe_key", *_SETTINGS]].drop_duplicates()
    values = measured[["cell_id", "settings_key", *VALUE_COLUMNS]]
    crossed = cells.merge(asked, on="recipe_key")
    return crossed.merge(values, on=["cell_id", "settings_key"], how="left")


# --------------------------------------------------------------------------- arithmetic


def summarize(runs: pd.DataFrame, column: str, quantity: str | None = None) -> pd.DataFrame:
    """Mean, sd and n of a column over the seeds of cells that are otherwise equal.

    Args:
        runs: A row per cell, or per cell and measurement.
        column: Only complete cells have a value.
        quantity: What the column holds; its name by default.

    Returns:
        A row per cell without its seed (and measurement), in the order of the tables, with
        ``mean``, ``median``, ``sd`` (sample, NaN for one seed), ``n``, and the numbers of seeds
        without a value: ``n_diverged``, ``n_failed``, ``n_pruned`` (a column if any was),
        ``n_missing`` (not trained or not measured yet). ``n_unconverged`` of the n did not reach
        their tolerance.
    """
    settings = [name for name in _SETTINGS if name in runs]
    keys = ["row_key", "rho", *settings]
    values = runs[[*NEEDED, *settings]].astype("object").assign(**_counts(runs, column))
    values["rho"] = runs["rho"]
    groups = values.groupby(keys, sort=False, dropna=False, as_index=False)
    statistics = {"mean": "mean", "median": "median", "sd": "std", "n": "count"}
    numbers = groups.agg(
        **{name: ("value", how) for name, how in statistics.items()},
        **{name: (name, "sum") for name in SUMMARY_COLUMNS if name.startswith("n_")},
    )

    # Both are in the order in which the keys first appear.
    described = values.drop_duplicates(keys)[[*_DESCRIPTION, *_ORIGIN]].reset_index(drop=True)
    summary = pd.concat([numbers, described], axis="columns")
    summary["quantity"] = pd.Series(quantity or column, index=summary.index, dtype="string")
    by = ["recipe_key", *settings[-1:], "model", "variant", "optimizer", "granularity"]
    columns = [*SUMMARY_COLUMNS, *settings]
    return without_unpruned(in_order(summary, [*by, "row_key", "rho"])[columns])


def num_lost(summary: pd.DataFrame) -> pd.Series[int]:
    """How many seeds of each row diverged, failed or were pruned."""
    return summary[[name for lost in LOST if (name := f"n_{lost}") in summary]].sum(axis="columns")


def without_unpruned(rows: pd.DataFrame) -> pd.DataFrame:
    """The same without ``n_pruned`` where no cell was pruned, as in most studies."""
    return rows if rows["n_pruned"].any() else rows.drop(columns="n_pruned")


def _counts(runs: pd.DataFrame, column: str) -> dict[str, pd.Series[Any]]:
    """The value of each row, and what it counts as."""
    status = runs["status"].astype("object")
    value = runs[column].astype("float64").where(status == "complete")
    value = value.where(np.isfinite(value))
    counted = {
        **{f"n_{name}": status == name for name in LOST},
        "n_missing": value.isna() & ~status.isin(LOST),
        "n_unconverged": value.notna() & _unconverged(runs),
    }
    return {"value": value, **{name: flag.astype(int) for name, flag in counted.items()}}


def _unconverged(runs: pd.DataFrame) -> pd.Series[bool]:
    if "converged" not in runs:
        return pd.Series(False, index=runs.index)
    return ~runs["converged"].fillna(True).astype(bool)


#: The order of the values of a column, where it is not that of letters; others come last, in that
#: of letters and of the numbers among them.
_REGISTRIES: Mapping[str, Iterable[str]] = {
    "dataset": DATASETS,
    "model": MODELS,
    "optimizer": (),
    "variant": VARIANTS,
    "ascent": list(ASCENTS),
    "granularity": get_args(Granularity),
    "outcome": OUTCOMES,
    "effect": CONTRASTS,
}


def ordered(values: pd.Series[Any], known: Iterable[str]) -> list[str]:
    """Every value, those that are known first."""
    others = {str(value) for value in values.dropna().unique()}.difference(known)
    return [*known, *sorted(others, key=natural_order)]


def in_order(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Rows sorted by some columns, in the order of the registries where a column has one."""
    ranked = rows.assign(
        **{
            name: pd.Categorical(rows[name], ordered(rows[name], _REGISTRIES[name]))
            for name in by
            if name in _REGISTRIES
        }
    )
    return rows.loc[ranked.sort_values([*by], kind="stable").index].reset_index(drop=True)
