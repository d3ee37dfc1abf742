"""Tables as pure functions of a tidy DataFrame.

:func:`summarize` is the arithmetic: mean, sd and n over the seeds of equal cells, and how many
seeds have no value and why. The tables lay its rows out and turn them into text:

* ``96.52`` is one seed, ``96.52 ± 0.31 (n=3)`` the mean and sample sd of three;
* ``96.52 ± 0.31 (n=2, 1 diverged)``: a third one left the numbers;
* ``diverged``, ``?? (failed)`` and ``??`` (missing, or not finished) are never a number;
* a blank: the row has no such cell (SGD has no rho).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pandas as pd

from multirun_analysis.labels import number, recipe_titles
from multirun_analysis.load import SETTINGS_COLUMNS, VALUE_COLUMNS
from samsweep.config import DATASETS, MODELS, VARIANTS, Granularity

MISSING = "??"
NO_RHO = "no rho"

#: Descriptions that are the same in all seeds of a summary's row.
_DESCRIPTION = ("model", "optimizer", "variant", "granularity", "ascent", "eta", "curvature")
_ORIGIN = ("formula", "recipe_key")
#: Columns of :func:`summarize`, before those of the measurement.
SUMMARY_COLUMNS = (
    "quantity",
    *_DESCRIPTION,
    "rho",
    "mean",
    "median",
    "sd",
    "n",
    "n_diverged",
    "n_failed",
    "n_missing",
    "n_unconverged",
    *_ORIGIN,
    "row_key",
)
_SETTINGS = tuple(SETTINGS_COLUMNS)

Format = Callable[[float, float | None], str]


# --------------------------------------------------------------------------- splitting, joining


def split_by_recipe(runs: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The cells that may stand in one table, and what they have in common as a title.

    Args:
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.

    Returns:
        Title and rows of each recipe. Different recipes have different titles.
    """
    titles = recipe_titles(runs)
    groups = {str(key): group for key, group in runs.groupby("recipe_key", sort=False)}
    order = sorted(groups, key=lambda key: _recipe_order(groups[key].iloc[0], titles[key]))
    return [(titles[key], groups[key]) for key in order]


def _recipe_order(recipe: pd.Series[Any], title: str) -> tuple[object, ...]:
    dataset = _rank(DATASETS, recipe["dataset"])
    return dataset, recipe["epochs"], recipe["batch_size"], recipe["lr"], title


def join_measurements(runs: pd.DataFrame, measurements: pd.DataFrame) -> pd.DataFrame:
    """Every cell with every measurement that any cell of its recipe has.

    A cell that lacks a measurement has a row for it without a value, so that tables can say so.

    Args:
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.
        measurements: Frame of :func:`~multirun_analysis.load.load_measurements`.

    Returns:
        Columns of both; ``error`` is the measurement's. Recipes without measurements drop out.
    """
    cells = runs.drop(columns="error")
    measured = measurements[measurements["cell_id"].isin(cells["cell_id"])]
    asked = measured[["recipe_key", *_SETTINGS]].drop_duplicates()
    values = measured[["cell_id", "settings_key", *VALUE_COLUMNS]]
    crossed = cells.merge(asked, on="recipe_key")
    return crossed.merge(values, on=["cell_id", "settings_key"], how="left")


# --------------------------------------------------------------------------- arithmetic


def summarize(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean, sd and n of a column over the seeds of cells that are otherwise equal.

    Args:
        runs: A row per cell, or per cell and measurement.
        column: The quantity. Only complete cells have one.

    Returns:
        A row per cell without its seed (and measurement), in the order of the tables, with
        ``mean``, ``median``, ``sd`` (sample, NaN for one seed), ``n``, and the numbers of seeds
        without a value: ``n_diverged``, ``n_failed``, ``n_missing`` (not trained or not measured
        yet). ``n_unconverged`` of the n did not reach their tolerance.
    """
    settings = [name for name in _SETTINGS if name in runs]
    keys = ["row_key", "rho", *settings]
    values = _with_counts(runs, column)
    groups = values.groupby(keys, sort=False, dropna=False, as_index=False)
    numbers = groups.agg(
        mean=("value", "mean"),
        median=("value", "median"),
        sd=("value", "std"),
        n=("value", "count"),
        n_diverged=("n_diverged", "sum"),
        n_failed=("n_failed", "sum"),
        n_missing=("n_missing", "sum"),
        n_unconverged=("n_unconverged", "sum"),
    )
    # Both are in the order in which the keys first appear.
    described = values.drop_duplicates(keys)[[*_DESCRIPTION, *_ORIGIN]].reset_index(drop=True)
    summary = pd.concat([numbers, described], axis="columns")
    summary["quantity"] = pd.Series(column, index=summary.index, dtype="string")
    return _in_order(summary, settings)[[*SUMMARY_COLUMNS, *settings]]


def _with_counts(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    status = runs["status"].astype("object")
    value = runs[column].astype("float64").where(status == "complete")
    value = value.where(np.isfinite(value))
    lost = {"diverged": status == "diverged", "failed": status == "failed"}
    counted = {
        "n_diverged": lost["diverged"],
        "n_failed": lost["failed"],
        "n_missing": value.isna() & ~lost["diverged"] & ~lost["failed"],
        "n_unconverged": value.notna() & _unconverged(runs),
    }
    return runs.assign(value=value, **{name: flag.astype(int) for name, flag in counted.items()})


def _unconverged(runs: pd.DataFrame) -> pd.Series[bool]:
    if "converged" not in runs:
        return pd.Series(False, index=runs.index)
    return ~runs["converged"].fillna(True).astype(bool)


def _in_order(summary: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """Rows in the order of the registries, then by label and rho."""
    ranks = summary.assign(
        _model=[_rank(MODELS, name) for name in summary["model"]],
        _variant=[_rank(VARIANTS, name) for name in summary["variant"]],
        _granularity=[_rank(get_args(Granularity), name) for name in summary["granularity"]],
    )
    by = ["recipe_key", *settings[-1:], "_model", "_variant", "optimizer", "_granularity"]
    order = ranks.sort_values([*by, "row_key", "rho"], kind="stable").index
    return summary.loc[order].reset_index(drop=True)


def _rank(names: Iterable[str], name: object) -> int:
    """Where a registry lists a name; unknown ones come last."""
    order = list(names)
    return order.index(name) if isinstance(name, str) and name in order else len(order)


# --------------------------------------------------------------------------- tables


def accuracy_table(runs: pd.DataFrame, column: str = "test_accuracy") -> pd.DataFrame:
    """Accuracies in percent, model and optimizer by rho.

    Args:
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.
        column: ``test_accuracy`` is the last epoch's, ``best_test_accuracy`` the one at best
            validation accuracy (the study's protocol).

    Returns:
        Text cells: ``model``, ``optimizer``, ``granularity``, ``no rho`` where an optimizer has
        none, ``rho=...`` in numerical order; first ``recipe`` where there are several.
    """
    return _named_recipes(_grid(summarize(runs, column), _two_decimals), runs)


def sharpness_table(measurements: pd.DataFrame) -> pd.DataFrame:
    """Largest Hessian eigenvalues, model and optimizer by rho.

    Args:
        measurements: Frame of :func:`join_measurements`, in which cells without the measurement
            show as missing; or of :func:`~multirun_analysis.load.load_measurements`.

    Returns:
        As :func:`accuracy_table`, after a column ``measurement`` where there are several.
    """
    return _named_recipes(_grid(summarize(measurements, "lambda_max"), _significant), measurements)


def sgd_table(runs: pd.DataFrame) -> pd.DataFrame:
    """SGD and SGDHESS: test accuracy in percent and sharpness, by rho.

    Args:
        runs: Frame of :func:`join_measurements`, or of :func:`~multirun_analysis.load.load_runs`
            where nothing was measured yet.

    Returns:
        Text cells: ``model``, ``optimizer``, ``rho``, ``test accuracy``, ``sharpness``; first
        ``recipe`` and ``measurement`` where there are several.
    """
    rows = runs[runs["variant"].isin(["sgd", "sgdhess"])]
    if "lambda_max" not in rows:
        rows = rows.assign(lambda_max=np.nan)
    accuracy, sharpness = summarize(rows, "test_accuracy"), summarize(rows, "lambda_max")
    table = accuracy[["recipe_key", *_settings_if_several(accuracy), "model", "optimizer"]].assign(
        rho=["" if pd.isna(rho) else number(rho) for rho in accuracy["rho"]],
        # Both are summaries of the same rows by the same keys, hence in the same order.
        **{"test accuracy": _texts(accuracy, _two_decimals)},
        sharpness=_texts(sharpness, _significant),
    )
    return _named_recipes(_named_measurements(table), rows)


def _grid(summary: pd.DataFrame, form: Format) -> pd.DataFrame:
    """A summary's rows laid out by rho, as text."""
    summary = summary.assign(text=_texts(summary, form))
    rhos = _rhos_by_kind(summary)
    columns: list[float] = sorted({rho for kind in rhos.values() for rho in kind})
    no_rho = bool(summary["rho"].isna().any())
    settings = _settings_if_several(summary)
    rows = [
        {
            **{name: group[name].iloc[0] for name in ("recipe_key", *settings, "model")},
            "optimizer": group["optimizer"].iloc[0],
            "granularity": _or_blank(group["granularity"].iloc[0]),
            **_row_cells(group, columns, rhos[_kind(group["variant"].iloc[0])]),
        }
        for _, group in summary.groupby(["row_key", *settings], sort=False)
    ]
    header = ["recipe_key", *settings, "model", "optimizer", "granularity"]
    header += [NO_RHO] * no_rho + [_rho_header(rho) for rho in columns]
    return _named_measurements(pd.DataFrame(rows, columns=header, dtype="object"))


def _row_cells(group: pd.DataFrame, columns: Sequence[float], kind: set[float]) -> dict[str, str]:
    texts = {
        NO_RHO if pd.isna(rho) else _rho_header(rho): text
        for rho, text in zip(group["rho"], group["text"], strict=True)
    }
    expected = kind if group["rho"].notna().any() else set()
    blank = {_rho_header(rho): MISSING if rho in expected else "" for rho in columns}
    return {NO_RHO: "", **blank, **texts}


def _kind(variant: str) -> str:
    """What rho means: the factor of a curvature term, or the radius of a perturbation.

    The study sweeps the two over different values. A radius that only SAM was given is no cell
    missing from SGDHESS.
    """
    return "factor" if variant == "sgdhess" else "radius"


def _rhos_by_kind(summary: pd.DataFrame) -> dict[str, set[float]]:
    rhos: dict[str, set[float]] = {"factor": set(), "radius": set()}
    for variant, rho in zip(summary["variant"], summary["rho"], strict=True):
        if not pd.isna(rho):
            rhos[_kind(variant)].add(float(rho))
    return rhos


def _rho_header(rho: float) -> str:
    return f"rho={number(rho)}"


def _settings_if_several(summary: pd.DataFrame) -> list[str]:
    """The columns that tell measurements apart, where there is more than one."""
    if "settings_key" not in summary or summary["settings_key"].nunique() < 2:
        return []
    return ["settings_key", "settings_label"]


def _named_measurements(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="settings_key", errors="ignore").rename(
        columns={"settings_label": "measurement"}
    )


def _named_recipes(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The recipe's title in place of its key, or neither where there is only one."""
    if runs["recipe_key"].nunique() < 2:
        return table.drop(columns="recipe_key")
    titles = recipe_titles(runs)
    named = [titles[key] for key in table["recipe_key"]]
    return table.assign(recipe_key=named).rename(columns={"recipe_key": "recipe"})


# --------------------------------------------------------------------------- text


def _texts(summary: pd.DataFrame, form: Format) -> list[str]:
    return [_cell_text(row, form) for row in summary.to_dict("records")]


def _cell_text(row: Mapping[Any, Any], form: Format) -> str:
    """One cell of a table, from one row of a summary."""
    n = row["n"]
    if n == 0:
        return _text_without_value(row)
    notes = [
        f"{row[f'n_{what}']} {said}"
        for what, said in (
            ("diverged", "diverged"),
            ("failed", "failed"),
            ("missing", "missing"),
            ("unconverged", "not converged"),
        )
        if row[f"n_{what}"]
    ]
    text = form(row["mean"], None if n == 1 else row["sd"])
    if n == 1 and not notes:
        return text
    return f"{text} ({', '.join([f'n={n}', *notes])})"


def _text_without_value(row: Mapping[Any, Any]) -> str:
    diverged, failed = row["n_diverged"], row["n_failed"]
    seeds = diverged + failed + row["n_missing"]
    if seeds == 1:
        return "diverged" if diverged else f"{MISSING} (failed)" if failed else MISSING
    notes = [f"{diverged} of {seeds}"] * bool(diverged) + [f"{failed} failed"] * bool(failed)
    text = "diverged" if diverged else MISSING
    return f"{text} ({', '.join(notes)})" if notes else text


def _two_decimals(mean: float, sd: float | None) -> str:
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def _significant(mean: float, sd: float | None, digits: int = 4) -> str:
    """Four significant digits of the mean, and the sd to the same place."""
    exponent = int(f"{mean:.{digits - 1}e}".split("e")[1])
    place = digits - 1 - exponent
    if not -3 <= exponent <= 5:
        shown = [f"{value:.{digits - 1}e}" for value in (mean, sd) if value is not None]
    else:
        decimals = max(0, place)
        shown = [f"{round(v, place):.{decimals}f}" for v in (mean, sd) if v is not None]
    return " ± ".join(shown)


def _or_blank(value: object) -> str:
    return value if isinstance(value, str) else ""
