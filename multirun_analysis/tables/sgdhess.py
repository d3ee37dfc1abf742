"""SGD beside SGDHESS: test accuracy and sharpness, by the factor of the curvature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from multirun_analysis.runs.measurements import with_numbers
from multirun_analysis.stats.summary import by_recipe, summarize
from multirun_analysis.tables.entries import significant, two_decimals, with_texts
from multirun_analysis.tables.layout import (
    LEGEND,
    Better,
    Grid,
    Recipes,
    long_form,
    named_measurements,
    named_recipes,
    per_model,
    rho_texts,
    settings_if_several,
)
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.tables.sharpness import is_ratio, measured_summaries, texts_by_recipe


def sgdhess_page(study: str, recipes: Recipes, runs: pd.DataFrame, joined: pd.DataFrame) -> Page:
    """A table per recipe, model and measurement of the sharpness."""
    accuracy = summarize(_sgd_rows(runs), "test_accuracy")
    sharpness = [
        (label, summary)
        for label, summary in measured_summaries(_sgd_rows(joined))
        if not is_ratio(summary)
    ]
    return Page(
        name="sgdhess",
        title=f"SGD and SGDHESS, test accuracy (%) and sharpness: study {study}",
        legend=f"{LEGEND} Bold: the highest accuracy and the lowest sharpness.",
        sections=tuple(_sgd_sections(recipes, accuracy, sharpness)),
        data=long_form(recipes, accuracy, *(summary for _, summary in sharpness)),
    )


def _sgd_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["variant"].isin(["sgd", "sgdhess"])]


def _sgd_sections(
    recipes: Recipes, accuracy: pd.DataFrame, sharpness: Sequence[tuple[str, pd.DataFrame]]
) -> Iterator[Section]:
    if accuracy.empty:
        yield Section(heading="", text=("No SGD or SGDHESS cells in this study.",))
    accuracies, parts = by_recipe(with_texts(accuracy, two_decimals)), texts_by_recipe(sharpness)
    for key, title in recipes.items():
        if key not in accuracies:
            continue
        yield Section(heading=title)
        found = [(label, rows[key]) for label, rows in parts if key in rows]
        for label, rows in found or [("not measured", _without_values(accuracies[key]))]:
            yield from per_model(_sgd_grid(accuracies[key], rows), _SGD_BETTER, label)


def _without_values(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary of a measurement that no cell has yet."""
    missing = summary.assign(n=0, n_missing=summary["n"] + summary["n_missing"])
    return with_texts(missing, significant)


_SGD_BETTER: Mapping[str, Better] = {"test accuracy": "high", "sharpness": "low"}


def sgd_table(runs: pd.DataFrame) -> pd.DataFrame:
    """SGD and SGDHESS: test accuracy in percent and sharpness, by rho.

    Returns:
        Text cells: ``model``, ``optimizer``, ``rho``, ``test accuracy``, ``sharpness``; first
        ``recipe`` and ``measurement`` where there are several.
    """
    rows = _sgd_rows(runs)
    rows = with_numbers(rows) if "value" in rows else rows.assign(value=np.nan)
    grid = _sgd_grid(
        with_texts(summarize(rows, "test_accuracy"), two_decimals),
        with_texts(summarize(rows, "value"), significant),
    )
    return named_recipes(grid.texts, rows)


def _sgd_grid(accuracy: pd.DataFrame, sharpness: pd.DataFrame) -> Grid:
    several = settings_if_several(accuracy)
    # Both are summaries of the same rows by the same keys, hence in the same order.
    shown = {"test accuracy": accuracy, "sharpness": sharpness}
    table = accuracy[["recipe_key", *several, "model", "optimizer"]].assign(
        rho=rho_texts(accuracy),
        **{name: list(summary["text"]) for name, summary in shown.items()},
    )
    scores = {name: list(summary["score"]) for name, summary in shown.items()}
    return Grid(named_measurements(table), pd.DataFrame(scores, index=table.index))
