"""How tables are laid out: rows by optimizer, columns by rho, the best of a column in bold.

A blank: the row has no such cell (SGD has no rho).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import pandas as pd

from multirun_analysis.runs.columns import SETTINGS_COLUMNS
from multirun_analysis.tables.entries import MISSING, or_blank, rho_text
from multirun_analysis.tables.pages import Section
from multirun_analysis.wording.numbers import number

#: Title of each recipe by its key, in the order of the tables.
Recipes = Mapping[str, str]
#: Which of a column's values is its best; None for no contest.
Better = Literal["high", "low"] | None

LEGEND = f"Mean ± sd over seeds (n). {MISSING} is a cell without a result; blank: no such rho."
BOLD = "Bold: the {} of its column; cells with diverged or unconverged seeds do not compete."
HIGHEST, LOWEST = BOLD.format("highest"), BOLD.format("lowest")
_FACTOR = "SGDHESS, whose rho is a factor of the curvature"


def by_rho(rows: pd.DataFrame, better: Better, label: str = "") -> Iterator[Section]:
    """A section for each model, and one for its SGDHESS, with a column per rho.

    A factor of the curvature is no radius: in one table, neither would fill the other's columns,
    and where they happen to be equal, they would compete.

    Args:
        rows: Of :func:`.with_texts`, of one recipe and measurement.
        better: Which value of a column is its best.
        label: What the headings say beside the model.
    """
    is_factor = (rows["variant"] == "sgdhess").to_numpy(dtype=bool)
    yield from _per_model(*_by_rho(rows[~is_factor]), better, label)
    names, texts, scores = _by_rho(rows[is_factor])
    label = ", ".join(filter(None, [label, _FACTOR]))
    yield from _per_model(names.drop(columns="granularity"), texts, scores, better, label)


def _by_rho(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Names, texts and scores of one kind of rho, a row per optimizer and a column per rho."""
    rhos = sorted(rows["rho"].dropna().unique())
    columns = ["no rho"] * bool(rows["rho"].isna().any()) + [f"rho={number(rho)}" for rho in rhos]
    placed = rows.assign(
        column=["no rho" if pd.isna(rho) else f"rho={number(rho)}" for rho in rows["rho"]]
    )
    names = _names(placed.drop_duplicates("row_key").set_index("row_key"))
    texts, scores = (
        placed.pivot(index="row_key", columns="column", values=name).reindex(names.index)[columns]
        for name in ("text", "score")
    )
    swept = names.index.isin(rows.loc[rows["rho"].notna(), "row_key"])
    has_none = pd.Series([name == "no rho" for name in columns], index=texts.columns, dtype=bool)
    lacking = texts.isna() & swept[:, None] & ~has_none.to_numpy()[None, :]
    return names, texts.mask(lacking, MISSING).fillna(""), scores


def side_by_side(
    parts: Mapping[str, pd.DataFrame],
    better: Mapping[str, Better],
    label: str = "",
    *,
    with_granularity: bool = True,
) -> Iterator[Section]:
    """A section for each model, with a row for each rho and a column for each part.

    Args:
        parts: Rows of :func:`.with_texts` of the same cells, hence in the same order.
        better: Which value of a part is its best.
        label: What the headings say beside the model.
        with_granularity: Whether there is a column of granularities.
    """
    first = next(iter(parts.values()))
    texts, scores = (
        pd.DataFrame({name: list(rows[what]) for name, rows in parts.items()}, index=first.index)
        for what in ("text", "score")
    )
    names = _names(first).assign(rho=[rho_text(rho) for rho in first["rho"]])
    shown = names if with_granularity else names.drop(columns="granularity")
    yield from _per_model(shown, texts, scores, better, label)


def _names(rows: pd.DataFrame) -> pd.DataFrame:
    granularity = [or_blank(name) for name in rows["granularity"]]
    return rows[["model", "optimizer"]].assign(granularity=granularity)


def _per_model(
    names: pd.DataFrame,
    texts: pd.DataFrame,
    scores: pd.DataFrame,
    better: Better | Mapping[str, Better],
    label: str,
) -> Iterator[Section]:
    """A section for each model, with the columns of all of them."""
    for model, places in names.groupby("model", sort=False).indices.items():
        named = names.iloc[places].drop(columns="model")
        best = best_of(scores.iloc[places], better)
        yield Section(
            heading=f"{model}, {label}" if label else str(model),
            level=3,
            table=pd.concat([named, texts.iloc[places]], axis="columns"),
            best=best.reindex(columns=[*named.columns, *texts.columns], fill_value=False),
        )


def best_of(scores: pd.DataFrame, better: Better | Mapping[str, Better]) -> pd.DataFrame:
    """True where a score is the best of its column, wherever at least two compete."""
    best = pd.DataFrame(False, index=scores.index, columns=scores.columns)
    for name, column in scores.items():
        which = better.get(str(name)) if isinstance(better, Mapping) else better
        if which is not None and column.notna().sum() > 1:
            best[name] = column == (column.max() if which == "high" else column.min())
    return best


def long_form(recipes: Recipes, *summaries: pd.DataFrame) -> pd.DataFrame:
    """Summaries below each other, with titles for people; the same columns in every file."""
    filled = [summary for summary in summaries if not summary.empty] or list(summaries[:1])
    long = pd.concat(filled, ignore_index=True)
    if "n_pruned" in long:  # which a summary without such cells does not have
        long["n_pruned"] = long["n_pruned"].fillna(0).astype(int)
    # A summary of the training alone has no measurement settings.
    others = [name for name in long.columns if name not in SETTINGS_COLUMNS]
    long = long.reindex(columns=[*others, *SETTINGS_COLUMNS])
    long.insert(0, "recipe", long["recipe_key"].map(recipes))
    return long
