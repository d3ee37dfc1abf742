"""The share of elements that the perturbation amplifies, at three epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from multirun_analysis.runs.load import middle_epoch
from multirun_analysis.stats.summary import NEEDED, by_recipe, summarize
from multirun_analysis.study import Study
from multirun_analysis.tables.entries import two_decimals, with_texts
from multirun_analysis.tables.layout import (
    LEGEND,
    Grid,
    Recipes,
    long_form,
    per_model,
    rows_with_rho,
)
from multirun_analysis.tables.pages import Page, Section


def _with_shares(study: Study) -> pd.DataFrame:
    """The cells that take a second gradient, with their shares of amplified elements."""
    runs = study.runs
    perturbs = (runs["direction"] == "sam") | (runs["magnitude"] == "sam")
    cells = runs.loc[perturbs, [*NEEDED, "epochs"]]
    return cells.merge(study.amplified, on="cell_id", how="left")


def amplified_page(study: Study, recipes: Recipes) -> Page:
    """A table per recipe and model: the first, the middle and the last epoch."""
    shares = _with_shares(study)
    summaries = {name: summarize(shares, f"amplified_{name}") for name in _EPOCHS}
    epochs = shares.drop_duplicates("recipe_key").set_index("recipe_key")["epochs"].to_dict()
    return Page(
        name="amplified",
        title=f"Share of amplified elements (%), abs(h) > abs(g): study {study.name}",
        legend=(
            f"{LEGEND} g is the gradient at w, h the one at w + epsilon; each number is the mean "
            "over an epoch's steps."
        ),
        sections=tuple(_amplified_sections(recipes, epochs, summaries)),
        data=long_form(recipes, *summaries.values()),
    )


_EPOCHS = ("first", "middle", "last")


def _amplified_sections(
    recipes: Recipes, epochs: Mapping[Any, int], summaries: Mapping[str, pd.DataFrame]
) -> Iterator[Section]:
    if not epochs:
        yield Section(heading="", text=("No cells with a second gradient in this study.",))
    parts = {
        name: by_recipe(with_texts(summary, two_decimals)) for name, summary in summaries.items()
    }
    for key, title in recipes.items():
        if key not in epochs:
            continue
        at = {"first": 1, "middle": middle_epoch(epochs[key]), "last": epochs[key]}
        # All are summaries of the same rows by the same keys, hence in the same order.
        texts = {f"epoch {at[name]}": list(rows[key]["text"]) for name, rows in parts.items()}
        table = rows_with_rho(parts["first"][key]).assign(**texts)
        yield Section(heading=title)
        yield from per_model(Grid(table, pd.DataFrame(index=table.index)), None)
