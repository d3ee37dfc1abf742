"""Accuracies in percent: of the last epoch, at best validation, and on the training images."""

from __future__ import annotations

import pandas as pd

from multirun_analysis.stats.summary import by_recipe, ordered_recipes, summarize
from multirun_analysis.tables.entries import two_decimals, with_texts
from multirun_analysis.tables.layout import (
    HIGHEST,
    LEGEND,
    by_rho,
    grid_by_rho,
    long_form,
    named_recipes,
)
from multirun_analysis.tables.pages import Page, Section

#: Name and title of the page of each accuracy.
ACCURACIES = {
    "test_accuracy": ("accuracy", "Test accuracy (%), last epoch"),
    "best_test_accuracy": (
        "accuracy_best",
        "Test accuracy (%) at best validation, the study's protocol",
    ),
    "train_accuracy": (
        "accuracy_train",
        "Training accuracy (%), last epoch, on images as they are",
    ),
}


def accuracy_page(study: str, runs: pd.DataFrame, column: str = "test_accuracy") -> Page:
    """A table of one accuracy per recipe and model.

    Args:
        study: Name of the study.
        runs: Frame of :func:`.load_runs`.
        column: ``test_accuracy`` is the last epoch's, ``best_test_accuracy`` the one at best
            validation accuracy (the study's protocol), ``train_accuracy`` that of the training
            images without augmentation.
    """
    name, title = ACCURACIES[column]
    recipes, summary = ordered_recipes(runs), summarize(runs, column)
    rows = by_recipe(with_texts(summary, two_decimals))
    return Page(
        name=name,
        title=f"{title}: study {study}",
        legend=f"{LEGEND} {HIGHEST}",
        sections=tuple(
            section
            for key, heading in recipes.items()
            for section in (Section(heading=heading), *by_rho(rows[key], "high"))
        ),
        data=long_form(recipes, summary),
    )


def accuracy_table(runs: pd.DataFrame, column: str = "test_accuracy") -> pd.DataFrame:
    """Accuracies in percent, model and optimizer by rho.

    Args:
        runs: Frame of :func:`.load_runs`.
        column: ``test_accuracy`` is the last epoch's, ``best_test_accuracy`` the one at best
            validation accuracy (the study's protocol), ``train_accuracy`` that of the training
            images without augmentation.

    Returns:
        Text cells: ``model``, ``optimizer``, ``granularity``, ``no rho`` where an optimizer has
        none, ``rho=...`` in numerical order; first ``recipe`` where there are several.
    """
    return named_recipes(grid_by_rho(with_texts(summarize(runs, column), two_decimals)).texts, runs)
