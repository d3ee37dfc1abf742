"""Sharpness: a page of the largest eigenvalue, and one of every other measure that was taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from multirun_analysis.runs.measurements import (
    LARGEST,
    MEANINGS,
    gives_largest_eigenvalue,
    of_largest_eigenvalue,
)
from multirun_analysis.stats.summary import by_recipe, summarize
from multirun_analysis.tables.entries import significant, with_texts
from multirun_analysis.tables.layout import (
    LEGEND,
    LOWEST,
    Recipes,
    by_rho,
    grid_by_rho,
    long_form,
    named_recipes,
)
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import ranking
from samsweep.config import MEASURES


def sharpness_page(
    study: str, recipes: Recipes, joined: pd.DataFrame, name: str = "sharpness"
) -> Page:
    """Page of the measurements of one quantity, and of those of which too little is known."""
    measured = measured_summaries(joined)
    summaries = [summary for _, summary in measured] or [summarize(joined, "value")]
    label = MEASURES[name].label if name in MEASURES else "Sharpness"
    return Page(
        name=name,
        title=f"{label[0].upper()}{label[1:]}: study {study}",
        legend=f"{LEGEND} {MEANINGS[name if name in MEASURES else LARGEST]} {LOWEST}",
        sections=tuple(_sharpness_sections(recipes, measured)),
        data=long_form(recipes, *summaries),
    )


def measure_pages(study: str, recipes: Recipes, joined: pd.DataFrame) -> Iterator[Page]:
    """A page of each quantity that was measured but the largest eigenvalue."""
    for name in MEASURES:
        rows = joined[joined["name"] == name]
        if len(rows) and not gives_largest_eigenvalue(name):
            yield sharpness_page(study, recipes, rows, name)


def _sharpness_sections(
    recipes: Recipes, measured: Sequence[tuple[str, pd.DataFrame]]
) -> Iterator[Section]:
    parts = texts_by_recipe(measured)
    for key, title in recipes.items():
        found = [(heading, rows[key]) for heading, rows in parts if key in rows]
        yield Section(heading=title, text=() if found else ("Not measured yet.",))
        for heading, rows in found:
            # Low is flat; a ratio of eigenvalues is neither.
            yield from by_rho(rows, None if is_ratio(rows) else "low", heading)


def texts_by_recipe(
    measured: Sequence[tuple[str, pd.DataFrame]],
) -> list[tuple[str, dict[str, pd.DataFrame]]]:
    """The text of each recipe's rows, by heading."""
    return [(heading, by_recipe(with_texts(rows, significant))) for heading, rows in measured]


def measured_summaries(joined: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """A summary of each quantity of each measurement, with its heading."""
    found = []
    for label, rows in _in_order(joined):
        quantity = _quantity(rows)
        named = quantity in (rows["name"].iloc[0], LARGEST)
        heading = str(label) if named else f"{label}: {quantity}"
        found.append((heading, summarize(rows, "value", quantity)))
        if rows["bulk_outlier_ratio"].notna().any():
            ratio = summarize(rows, "bulk_outlier_ratio")
            found.append((f"{label}: bulk-outlier ratio", ratio))
    return found


def _in_order(joined: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Label and rows of each measurement, in the order of the measures, then by label."""
    groups = {str(label): rows for label, rows in joined.groupby("settings_label")}
    rank = ranking(MEASURES)
    return sorted(groups.items(), key=lambda group: (rank(group[1]["name"].iloc[0]), group[0]))


def _quantity(rows: pd.DataFrame) -> str:
    """What the headline number of a measurement is."""
    found = rows.loc[rows["value"].notna(), "quantity"]
    return str(found.iloc[0]) if len(found) else str(rows["name"].iloc[0])


def is_ratio(summary: pd.DataFrame) -> bool:
    """Whether a summary is of the first by the fifth eigenvalue."""
    return bool((summary["quantity"] == "bulk_outlier_ratio").any())


def sharpness_table(measurements: pd.DataFrame) -> pd.DataFrame:
    """Largest Hessian eigenvalues, model and optimizer by rho.

    Returns:
        As :func:`accuracy_table`, after a column ``measurement`` where there are several.
    """
    rows = of_largest_eigenvalue(measurements)
    grid = grid_by_rho(with_texts(summarize(rows, LARGEST), significant))
    return named_recipes(grid.texts, rows)
