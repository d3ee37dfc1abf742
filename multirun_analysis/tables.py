"""The tables of a study, as pure functions of its frames.

:mod:`multirun_analysis.summary` has the arithmetic, :mod:`multirun_analysis.text` the text of a
cell; here they are laid out. A blank: the row has no such cell (SGD has no rho).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from multirun_analysis.columns import SETTINGS_COLUMNS
from multirun_analysis.labels import number, recipe_titles
from multirun_analysis.load import middle_epoch
from multirun_analysis.pages import Page, Section
from multirun_analysis.study import Study
from multirun_analysis.summary import join_measurements, split_by_recipe, summarize
from multirun_analysis.text import (
    MISSING,
    Format,
    cell_score,
    cell_scores,
    cell_text,
    cell_texts,
    or_blank,
    significant,
    two_decimals,
)

__all__ = [
    "MISSING",
    "accuracy_page",
    "accuracy_table",
    "join_measurements",
    "sgd_table",
    "sharpness_table",
    "split_by_recipe",
    "study_pages",
    "summarize",
]

NO_RHO = "no rho"

#: Which of a column's values is its best.
Better = Literal["high", "low"]

_LEGEND = f"Mean ± sd over seeds (n). {MISSING} is a cell without a result; blank: no such rho."
_BOLD = "Bold: the {} of its column; cells with diverged or unconverged seeds do not compete."
_HIGHEST, _LOWEST = _BOLD.format("highest"), _BOLD.format("lowest")

#: Name and title of the page of each accuracy.
_ACCURACIES = {
    "test_accuracy": ("accuracy", "Test accuracy (%), last epoch"),
    "best_test_accuracy": (
        "accuracy_best",
        "Test accuracy (%) at best validation, the study's protocol",
    ),
}


class Grid(NamedTuple):
    """A table as text, and beside it the numbers that compete for the best of their column.

    Args:
        texts: What is shown.
        scores: Of the same rows; columns without a contest are left out, NaN does not compete.
    """

    texts: pd.DataFrame
    scores: pd.DataFrame


# --------------------------------------------------------------------------- pages


def study_pages(study: Study) -> list[Page]:
    """Every table of a study: accuracy, sharpness, SGD beside SGDHESS, amplified share.

    Args:
        study: The study, as :func:`~multirun_analysis.study.open_study` reads it.
    """
    joined = join_measurements(study.runs, study.measurements)
    return [
        *(accuracy_page(study.name, study.runs, column) for column in _ACCURACIES),
        _sharpness_page(study, joined),
        _sgd_page(study, joined),
        _amplified_page(study),
    ]


def accuracy_page(study: str, runs: pd.DataFrame, column: str = "test_accuracy") -> Page:
    """Accuracies in percent, a table per recipe and model.

    Args:
        study: Name of the study.
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.
        column: ``test_accuracy`` is the last epoch's, ``best_test_accuracy`` the one at best
            validation accuracy (the study's protocol).
    """
    name, title = _ACCURACIES[column]
    summary = summarize(runs, column)
    return Page(
        name=name,
        title=f"{title}: study {study}",
        legend=f"{_LEGEND} {_HIGHEST}",
        sections=tuple(_accuracy_sections(runs, summary)),
        data=_long(runs, summary),
    )


def _accuracy_sections(runs: pd.DataFrame, summary: pd.DataFrame) -> Iterator[Section]:
    rows = _by_recipe(summary)
    for recipe, cells in split_by_recipe(runs):
        yield Section(heading=recipe)
        yield from _per_model(_grid(rows[cells["recipe_key"].iloc[0]], two_decimals), "high")


def _sharpness_page(study: Study, joined: pd.DataFrame) -> Page:
    measured = _measured(joined)
    summaries = [summary for _, summary in measured] or [summarize(joined, "value")]
    return Page(
        name="sharpness",
        title=f"Sharpness, largest Hessian eigenvalue: study {study.name}",
        legend=f"{_LEGEND} {_LOWEST}",
        sections=tuple(_sharpness_sections(study.runs, measured)),
        data=_long(study.runs, *summaries),
    )


def _sharpness_sections(
    runs: pd.DataFrame, measured: Sequence[tuple[str, pd.DataFrame]]
) -> Iterator[Section]:
    parts = [(heading, _by_recipe(summary)) for heading, summary in measured]
    for recipe, cells in split_by_recipe(runs):
        key = cells["recipe_key"].iloc[0]
        found = [(heading, rows[key]) for heading, rows in parts if key in rows]
        yield Section(heading=recipe, text=() if found else ("Not measured yet.",))
        for heading, rows in found:
            yield from _per_model(_grid(rows, significant), _better(rows), heading)


def _measured(joined: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """A summary of each quantity of each measurement, with its heading."""
    found = []
    for label, rows in _by_settings(joined):
        quantity = _quantity(rows)
        named = quantity in (rows["name"].iloc[0], "lambda_max")
        heading = label if named else f"{label}: {quantity}"
        found.append((heading, summarize(rows, "value", quantity)))
        if rows["bulk_outlier_ratio"].notna().any():
            ratio = summarize(rows, "bulk_outlier_ratio")
            found.append((f"{label}: bulk-outlier ratio", ratio))
    return found


def _quantity(rows: pd.DataFrame) -> str:
    """What the headline number of a measurement is."""
    found = rows.loc[rows["value"].notna(), "quantity"]
    return str(found.iloc[0]) if len(found) else str(rows["name"].iloc[0])


def _better(summary: pd.DataFrame) -> Better | None:
    """Low is flat; a ratio of eigenvalues is neither."""
    return None if (summary["quantity"] == "bulk_outlier_ratio").any() else "low"


def _sgd_page(study: Study, joined: pd.DataFrame) -> Page:
    sgd, sgd_joined = _sgd_rows(study.runs), _sgd_rows(joined)
    sharpness = [summary for _, summary in _measured(sgd_joined)]
    return Page(
        name="sgdhess",
        title=f"SGD and SGDHESS, test accuracy (%) and sharpness: study {study.name}",
        legend=f"{_LEGEND} Bold: the highest accuracy and the lowest sharpness.",
        sections=tuple(_sgd_sections(sgd, sgd_joined)),
        data=_long(study.runs, summarize(sgd, "test_accuracy"), *sharpness),
    )


def _sgd_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["variant"].isin(["sgd", "sgdhess"])]


def _sgd_sections(sgd: pd.DataFrame, joined: pd.DataFrame) -> Iterator[Section]:
    if sgd.empty:
        yield Section(heading="", text=("No SGD or SGDHESS cells in this study.",))
    measured = _by_recipe(joined)
    for recipe, cells in split_by_recipe(sgd):
        yield Section(heading=recipe)
        found = measured.get(cells["recipe_key"].iloc[0])
        parts = [("not measured", cells)] if found is None else _by_settings(found)
        for label, rows in parts:
            yield from _per_model(_sgd_grid(rows), _SGD_BETTER, label)


_SGD_BETTER: Mapping[str, Better] = {"test accuracy": "high", "sharpness": "low"}


def _amplified_page(study: Study) -> Page:
    shares = study.runs.merge(study.amplified, on="cell_id", how="left")
    shares = shares[(shares["direction"] == "sam") | (shares["magnitude"] == "sam")]
    summaries = {name: summarize(shares, f"amplified_{name}") for name in _EPOCHS}
    return Page(
        name="amplified",
        title=f"Share of amplified elements (%), abs(h) > abs(g): study {study.name}",
        legend=(
            f"{_LEGEND} g is the gradient at w, h the one at w + epsilon; each number is the mean "
            "over an epoch's steps."
        ),
        sections=tuple(_amplified_sections(shares, summaries)),
        data=_long(study.runs, *summaries.values()),
    )


_EPOCHS = ("first", "middle", "last")


def _amplified_sections(
    shares: pd.DataFrame, summaries: Mapping[str, pd.DataFrame]
) -> Iterator[Section]:
    if shares.empty:
        yield Section(heading="", text=("No cells with a second gradient in this study.",))
    parts = {name: _by_recipe(summary) for name, summary in summaries.items()}
    for recipe, cells in split_by_recipe(shares):
        key, epochs = cells["recipe_key"].iloc[0], int(cells["epochs"].iloc[0])
        at = {"first": 1, "middle": middle_epoch(epochs), "last": epochs}
        # All are summaries of the same rows by the same keys, hence in the same order.
        texts = {
            f"epoch {at[name]}": cell_texts(rows[key], two_decimals) for name, rows in parts.items()
        }
        table = _rows_with_rho(parts["first"][key]).assign(**texts)
        yield Section(heading=recipe)
        yield from _per_model(Grid(table, pd.DataFrame(index=table.index)), {})


# --------------------------------------------------------------------------- parts of pages


def _by_recipe(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each recipe, by its key."""
    return {str(key): part for key, part in rows.groupby("recipe_key", sort=False)}


def _by_settings(joined: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each measurement, by its label."""
    return [(str(label), rows) for label, rows in joined.groupby("settings_label")]


def _per_model(
    grid: Grid, better: Better | None | Mapping[str, Better], label: str = ""
) -> Iterator[Section]:
    """A section for each model, with the columns of the whole grid.

    Args:
        grid: Of several models.
        better: Which value of a column is its best: for all alike, or by column.
        label: What the heading says beside the model.
    """
    for model, texts in grid.texts.groupby("model", sort=False):
        shown = texts.drop(columns=["model", "recipe_key"], errors="ignore")
        yield Section(
            heading=f"{model}, {label}" if label else str(model),
            level=3,
            table=shown,
            best=_best(shown, grid.scores.loc[texts.index], better),
        )


def _best(
    shown: pd.DataFrame, scores: pd.DataFrame, better: Better | None | Mapping[str, Better]
) -> pd.DataFrame:
    """True where a score is the best of its column, wherever at least two compete."""
    best = pd.DataFrame(False, index=shown.index, columns=shown.columns)
    for name, score in scores.items():
        which = better.get(str(name)) if isinstance(better, Mapping) else better
        if which is not None and score.notna().sum() > 1:
            best[name] = score == (score.max() if which == "high" else score.min())
    return best


def _long(runs: pd.DataFrame, *summaries: pd.DataFrame) -> pd.DataFrame:
    """Summaries below each other, with titles for people; the same columns in every file."""
    titles = recipe_titles(runs)
    filled = [summary for summary in summaries if not summary.empty] or list(summaries[:1])
    long = pd.concat(filled, ignore_index=True)
    # A summary of the training alone has no measurement settings.
    others = [name for name in long.columns if name not in SETTINGS_COLUMNS]
    long = long.reindex(columns=[*others, *SETTINGS_COLUMNS])
    long.insert(0, "recipe", [titles[key] for key in long["recipe_key"]])
    return long


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
    return _named_recipes(_grid(summarize(runs, column), two_decimals).texts, runs)


def sharpness_table(measurements: pd.DataFrame) -> pd.DataFrame:
    """Largest Hessian eigenvalues, model and optimizer by rho.

    Args:
        measurements: Frame of :func:`~multirun_analysis.summary.join_measurements`, in which cells
            without the measurement show as missing; or of
            :func:`~multirun_analysis.load.load_measurements`.

    Returns:
        As :func:`accuracy_table`, after a column ``measurement`` where there are several.
    """
    grid = _grid(summarize(measurements, "lambda_max"), significant)
    return _named_recipes(grid.texts, measurements)


def sgd_table(runs: pd.DataFrame) -> pd.DataFrame:
    """SGD and SGDHESS: test accuracy in percent and sharpness, by rho.

    Args:
        runs: Frame of :func:`~multirun_analysis.summary.join_measurements`, or of
            :func:`~multirun_analysis.load.load_runs` where nothing was measured yet.

    Returns:
        Text cells: ``model``, ``optimizer``, ``rho``, ``test accuracy``, ``sharpness``; first
        ``recipe`` and ``measurement`` where there are several.
    """
    rows = _sgd_rows(runs)
    return _named_recipes(_sgd_grid(rows).texts, rows)


def _sgd_grid(rows: pd.DataFrame) -> Grid:
    if "value" not in rows:
        rows = rows.assign(value=np.nan)
    accuracy, sharpness = summarize(rows, "test_accuracy"), summarize(rows, "value")
    several = _settings_if_several(accuracy)
    table = accuracy[["recipe_key", *several, "model", "optimizer"]].assign(
        rho=_rho_texts(accuracy),
        # Both are summaries of the same rows by the same keys, hence in the same order.
        **{"test accuracy": cell_texts(accuracy, two_decimals)},
        sharpness=cell_texts(sharpness, significant),
    )
    scores = {
        "test accuracy": cell_scores(accuracy, two_decimals),
        "sharpness": cell_scores(sharpness, significant),
    }
    return Grid(_named_measurements(table), pd.DataFrame(scores, index=table.index))


def _rows_with_rho(summary: pd.DataFrame) -> pd.DataFrame:
    """What a row of its own says for each row of a summary."""
    return summary[["model", "optimizer"]].assign(
        granularity=[or_blank(name) for name in summary["granularity"]], rho=_rho_texts(summary)
    )


def _rho_texts(summary: pd.DataFrame) -> list[str]:
    return ["" if pd.isna(rho) else number(rho) for rho in summary["rho"]]


def _grid(summary: pd.DataFrame, form: Format) -> Grid:
    """A summary's rows laid out by rho, as text."""
    rhos = _rhos_by_kind(summary)
    by_rho = [NO_RHO] * bool(summary["rho"].isna().any())
    by_rho += [_rho_header(rho) for rho in sorted({rho for kind in rhos.values() for rho in kind})]
    settings = _settings_if_several(summary)
    rows, scores = [], []
    for group in _table_rows(summary, settings):
        first = group[0]
        has_rho = not all(pd.isna(row["rho"]) for row in group)
        expected = rhos[_kind(first["variant"])] if has_rho else ()
        rows.append(
            {
                **{name: first[name] for name in ("recipe_key", *settings, "model", "optimizer")},
                "granularity": or_blank(first["granularity"]),
                **dict.fromkeys(by_rho, ""),
                **{_rho_header(rho): MISSING for rho in expected},
                **{_rho_header(row["rho"]): cell_text(row, form) for row in group},
            }
        )
        scores.append({_rho_header(row["rho"]): cell_score(row, form) for row in group})
    header = ["recipe_key", *settings, "model", "optimizer", "granularity", *by_rho]
    return Grid(
        _named_measurements(pd.DataFrame(rows, columns=header, dtype="object")),
        pd.DataFrame(scores, columns=by_rho, dtype="float64"),
    )


def _table_rows(summary: pd.DataFrame, settings: Sequence[str]) -> Iterable[list[dict[Any, Any]]]:
    """The rows of a summary that stand in one row of a table, in the order of the summary."""
    groups: dict[tuple[str, ...], list[dict[Any, Any]]] = {}
    for row in summary.to_dict("records"):
        key = tuple(row[name] for name in ("row_key", *settings))
        groups.setdefault(key, []).append(row)
    return groups.values()


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
    return NO_RHO if pd.isna(rho) else f"rho={number(rho)}"


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
