"""How tables are laid out: rows by optimizer, columns by rho, the best of a column in bold.

A blank: the row has no such cell (SGD has no rho).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from multirun_analysis.runs.columns import SETTINGS_COLUMNS
from multirun_analysis.tables.entries import MISSING, or_blank
from multirun_analysis.tables.pages import Section
from multirun_analysis.wording.labels import recipe_titles
from multirun_analysis.wording.numbers import number

NO_RHO = "no rho"

#: Title of each recipe by its key, in the order of the tables.
Recipes = Mapping[str, str]
#: Which of a column's values is its best.
Better = Literal["high", "low"]

LEGEND = f"Mean ± sd over seeds (n). {MISSING} is a cell without a result; blank: no such rho."
_BOLD = "Bold: the {} of its column; cells with diverged or unconverged seeds do not compete."
HIGHEST, LOWEST = _BOLD.format("highest"), _BOLD.format("lowest")


class Grid(NamedTuple):
    """A table as text, and beside it the numbers that compete for the best of their column.

    Args:
        texts: What is shown.
        scores: Of the same rows; columns without a contest are left out, NaN does not compete.
    """

    texts: pd.DataFrame
    scores: pd.DataFrame


def by_rho(summary: pd.DataFrame, better: Better | None, label: str = "") -> Iterator[Section]:
    """A section for each model, and one for its SGDHESS, laid out by rho.

    A factor of the curvature is no radius: in one table, neither would fill the other's columns,
    and where they happen to be equal, they would compete.
    """
    is_factor = np.array([_kind(name) == "factor" for name in summary["variant"]], dtype=bool)
    yield from per_model(grid_by_rho(summary[~is_factor]), better, label)
    factors = grid_by_rho(summary[is_factor])
    plain = factors._replace(texts=factors.texts.drop(columns="granularity"))
    yield from per_model(plain, better, ", ".join(filter(None, [label, _FACTOR])))


_FACTOR = "SGDHESS, whose rho is a factor of the curvature"


def per_model(
    grid: Grid, better: Better | None | Mapping[str, Better], label: str = ""
) -> Iterator[Section]:
    """A section for each model, with the columns of the whole grid.

    Args:
        grid: Of several models.
        better: Which value of a column is its best: for all alike, or by column.
        label: What the heading says beside the model.
    """
    shown = grid.texts[[name for name in grid.texts if name not in ("recipe_key", "model")]]
    for model, rows in grid.texts.groupby("model", sort=False).indices.items():
        table = shown.iloc[rows]
        yield Section(
            heading=f"{model}, {label}" if label else str(model),
            level=3,
            table=table,
            best=_best(table, grid.scores.iloc[rows], better),
        )


def _best(
    table: pd.DataFrame, scores: pd.DataFrame, better: Better | None | Mapping[str, Better]
) -> pd.DataFrame:
    """True where a score is the best of its column, wherever at least two compete."""
    best = np.zeros(table.shape, dtype=bool)
    for name in scores.columns:
        which = better.get(str(name)) if isinstance(better, Mapping) else better
        score = scores[name].to_numpy()
        if which is not None and np.isfinite(score).sum() > 1:
            target = np.nanmax(score) if which == "high" else np.nanmin(score)
            best[:, table.columns.get_loc(name)] = score == target
    return pd.DataFrame(best, index=table.index, columns=table.columns)


def long_form(recipes: Recipes, *summaries: pd.DataFrame) -> pd.DataFrame:
    """Summaries below each other, with titles for people; the same columns in every file."""
    filled = [summary for summary in summaries if not summary.empty] or list(summaries[:1])
    long = pd.concat(filled, ignore_index=True)
    # A summary of the training alone has no measurement settings.
    others = [name for name in long.columns if name not in SETTINGS_COLUMNS]
    long = long.reindex(columns=[*others, *SETTINGS_COLUMNS])
    long.insert(0, "recipe", long["recipe_key"].map(recipes))
    return long


def rows_with_rho(summary: pd.DataFrame) -> pd.DataFrame:
    """What a row of its own says for each row of a summary."""
    return summary[["model", "optimizer"]].assign(
        granularity=[or_blank(name) for name in summary["granularity"]], rho=rho_texts(summary)
    )


def rho_texts(summary: pd.DataFrame) -> list[str]:
    """Each row's rho as text, blank where there is none."""
    return ["" if pd.isna(rho) else number(rho) for rho in summary["rho"]]


def grid_by_rho(summary: pd.DataFrame) -> Grid:
    """A summary's rows, with their texts, laid out by rho."""
    rhos = _rhos_by_kind(summary)
    by_rho = [NO_RHO] * bool(summary["rho"].isna().any())
    by_rho += [_rho_header(rho) for rho in sorted({rho for kind in rhos.values() for rho in kind})]
    settings = settings_if_several(summary)
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
                **{_rho_header(row["rho"]): row["text"] for row in group},
            }
        )
        scores.append({_rho_header(row["rho"]): row["score"] for row in group})
    header = ["recipe_key", *settings, "model", "optimizer", "granularity", *by_rho]
    return Grid(
        named_measurements(pd.DataFrame(rows, columns=header, dtype="object")),
        pd.DataFrame(scores, columns=by_rho, dtype="float64"),
    )


def _table_rows(summary: pd.DataFrame, settings: Sequence[str]) -> Iterable[list[dict[Any, Any]]]:
    """The rows of a summary that stand in one row of a table, in the order of the summary."""
    groups: dict[tuple[str, ...], list[dict[Any, Any]]] = {}
    for row in summary[[*_LAID_OUT, *settings]].to_dict("records"):
        key = tuple(row[name] for name in ("row_key", *settings))
        groups.setdefault(key, []).append(row)
    return groups.values()


_LAID_OUT = (
    "recipe_key", "row_key", "model", "optimizer", "variant", "granularity", "rho", "text", "score"
)  # fmt: skip


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


def settings_if_several(summary: pd.DataFrame) -> list[str]:
    """The columns that distinguish measurements, where there is more than one."""
    if "settings_key" not in summary or summary["settings_key"].nunique() < 2:
        return []
    return ["settings_key", "settings_label"]


def named_measurements(table: pd.DataFrame) -> pd.DataFrame:
    """With the label of the measurement in place of its key."""
    return table.drop(columns="settings_key", errors="ignore").rename(
        columns={"settings_label": "measurement"}
    )


def named_recipes(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The recipe's title in place of its key, or neither where there is only one."""
    if runs["recipe_key"].nunique() < 2:
        return table.drop(columns="recipe_key")
    titles = recipe_titles(runs)
    named = [titles[key] for key in table["recipe_key"]]
    return table.assign(recipe_key=named).rename(columns={"recipe_key": "recipe"})
