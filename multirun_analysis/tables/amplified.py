"""The share of elements that the perturbation amplifies, at three epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

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
    """The cells that take a second gradient, with their shares of amplified elements in percent."""
    runs = study.runs
    perturbs = (runs["direction"] == "sam") | (runs["magnitude"] == "sam")
    cells = runs.loc[perturbs, [*NEEDED, "epochs"]]
    shares = study.history.drop_duplicates(["cell_id", "epoch"]).set_index(["cell_id", "epoch"])
    for name, epoch in _epochs(cells["epochs"]).items():
        places = pd.MultiIndex.from_arrays([cells["cell_id"], epoch])
        found = shares["amplified_share"].reindex(places).to_numpy(dtype=float)
        cells = cells.assign(**{f"amplified_{name}": 100 * found})
    return cells


def _epochs(epochs: Any) -> dict[str, Any]:
    """The first epoch, the one that ends the first half, and the last."""
    return {"first": epochs * 0 + 1, "middle": (epochs + 1) // 2, "last": epochs}


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
        at = _epochs(epochs[key])
        # All are summaries of the same rows by the same keys, hence in the same order.
        texts = {f"epoch {at[name]}": list(rows[key]["text"]) for name, rows in parts.items()}
        table = rows_with_rho(parts["first"][key]).assign(**texts)
        yield Section(heading=title)
        yield from per_model(Grid(table, pd.DataFrame(index=table.index)), None)
