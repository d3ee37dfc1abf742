"""What was measured: accuracies, sharpness, SGD beside SGDHESS, and the amplified share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from multirun_analysis.runs.measurements import (
    LARGEST,
    MEANINGS,
    gives_largest_eigenvalue,
    own_measures,
)
from multirun_analysis.stats.summary import NEEDED, by_recipe, ordered_recipes, summarize
from multirun_analysis.study import Study
from multirun_analysis.tables.entries import Format, significant, two_decimals, with_texts
from multirun_analysis.tables.layout import (
    BOLD,
    HIGHEST,
    LEGEND,
    LOWEST,
    Better,
    Recipes,
    by_rho,
    long_form,
    side_by_side,
)
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import ranking
from multirun_analysis.wording.metrics import Scored, scored_by
from samsweep.config import MEASURES

#: Name and title of the page of each accuracy, or of what a network is scored by in its place.
ACCURACIES = {
    "test_accuracy": ("accuracy", "Test {}, last epoch"),
    "best_test_accuracy": (
        "accuracy_best",
        "Test {} at best validation, the study's protocol",
    ),
    "train_accuracy": (
        "accuracy_train",
        "Training {}, last epoch, on images as they are",
    ),
}
_BEST = {"high": HIGHEST, "low": LOWEST, None: BOLD.format("best")}


def accuracy_page(study: str, runs: pd.DataFrame, column: str = "test_accuracy") -> Page:
    """A table of one accuracy, a key of :data:`ACCURACIES`, per recipe and model."""
    name, title = ACCURACIES[column]
    recipes, summary = ordered_recipes(runs), summarize(runs, column)
    scored = {str(key): scored_by(metrics) for key, metrics in runs.groupby("recipe_key")["metric"]}
    rows = by_recipe(summary)
    every = scored_by(runs["metric"])
    return Page(
        name=name,
        title=f"{title.format(every.label)}: study {study}",
        legend=f"{LEGEND} {_BEST[every.better]}",
        sections=tuple(
            section
            for key, heading in recipes.items()
            for section in (
                Section(heading=heading),
                *by_rho(with_texts(rows[key], _form(scored[key])), scored[key].better),
            )
        ),
        data=long_form(recipes, summary),
    )


def _form(scored: Scored) -> Format:
    return two_decimals if scored.in_percent else significant


# --------------------------------------------------------------------------- sharpness


def sharpness_page(
    study: str, recipes: Recipes, joined: pd.DataFrame, name: str = "sharpness"
) -> Page:
    """Page of the measurements of one quantity, and of those of which too little is known."""
    summaries = _measured_summaries(joined)
    label = MEASURES[name].label if name in MEASURES else name
    meaning = MEANINGS.get(LARGEST if name == "sharpness" else name)
    return Page(
        name=name if name in (*MEANINGS, "sharpness") else file_name(name),
        title=f"{label[:1].upper()}{label[1:]}: study {study}",
        legend=" ".join(filter(None, [LEGEND, meaning, LOWEST])),
        sections=tuple(_sharpness_sections(recipes, summaries)),
        data=long_form(recipes, *(summaries.values() or [summarize(joined, "value")])),
    )


def measure_pages(study: str, recipes: Recipes, joined: pd.DataFrame) -> Iterator[Page]:
    """A page of each quantity that was measured but the largest eigenvalue."""
    own = own_measures(joined)
    for name in [*MEASURES, *own]:
        rows = joined[joined["name"] == name]
        if len(rows) and (name in own or not gives_largest_eigenvalue(name)):
            yield sharpness_page(study, recipes, rows, name)


def file_name(measure: str) -> str:
    """The page of a measure of one's own: no other page's name, and no path."""
    return f"measure_{re.sub('[^A-Za-z0-9_-]+', '_', measure)[:60]}"


def _sharpness_sections(
    recipes: Recipes, summaries: Mapping[str, pd.DataFrame]
) -> Iterator[Section]:
    parts = _by_heading(summaries)
    for key, title in recipes.items():
        found = {heading: rows[key] for heading, rows in parts.items() if key in rows}
        yield Section(heading=title, text=() if found else ("Not measured yet.",))
        for heading, rows in found.items():
            # Low is flat; a ratio of eigenvalues is neither.
            yield from by_rho(rows, None if _is_ratio(rows) else "low", heading)


def _measured_summaries(joined: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A summary of each quantity of each measurement, by its heading."""
    rank = ranking(MEASURES)
    groups = [(str(label), rows) for label, rows in joined.groupby("settings_label")]
    found = {}
    for label, rows in sorted(groups, key=lambda group: rank(group[1]["name"].iloc[0])):
        name = str(rows["name"].iloc[0])
        quantities = rows.loc[rows["value"].notna(), "quantity"]
        quantity = str(quantities.iloc[0]) if len(quantities) else name
        heading = label if quantity in (name, LARGEST) else f"{label}: {quantity}"
        found[heading] = summarize(rows, "value", quantity)
        if rows["bulk_outlier_ratio"].notna().any():
            found[f"{label}: bulk-outlier ratio"] = summarize(rows, "bulk_outlier_ratio")
    return found


def _by_heading(summaries: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, pd.DataFrame]]:
    """The rows of each recipe with their texts, by heading."""
    return {
        heading: by_recipe(with_texts(rows, significant)) for heading, rows in summaries.items()
    }


def _is_ratio(summary: pd.DataFrame) -> bool:
    """Whether a summary is of the first by the fifth eigenvalue."""
    return bool((summary["quantity"] == "bulk_outlier_ratio").any())


# --------------------------------------------------------------------------- SGD and SGDHESS


def sgdhess_page(study: str, recipes: Recipes, runs: pd.DataFrame, joined: pd.DataFrame) -> Page:
    """SGD beside SGDHESS: a table per recipe, model and measurement of the sharpness."""
    accuracy = summarize(_sgd_rows(runs), "test_accuracy")
    measured = _measured_summaries(_sgd_rows(joined))
    sharpness = {label: rows for label, rows in measured.items() if not _is_ratio(rows)}
    scored = scored_by(runs["metric"])
    what = scored.label.partition(" (")[0]
    which = {"high": "highest", "low": "lowest", None: "best"}[scored.better]
    return Page(
        name="sgdhess",
        title=f"SGD and SGDHESS, test {scored.label} and sharpness: study {study}",
        legend=f"{LEGEND} Bold: the {which} {what} and the lowest sharpness.",
        sections=tuple(_sgd_sections(recipes, accuracy, sharpness, scored)),
        data=long_form(recipes, accuracy, *sharpness.values()),
    )


def _sgd_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["variant"].isin(["sgd", "sgdhess"])]


def _sgd_sections(
    recipes: Recipes,
    accuracy: pd.DataFrame,
    sharpness: Mapping[str, pd.DataFrame],
    scored: Scored,
) -> Iterator[Section]:
    if accuracy.empty:
        yield Section(heading="", text=("No SGD or SGDHESS cells in this study.",))
    accuracies, parts = by_recipe(with_texts(accuracy, _form(scored))), _by_heading(sharpness)
    score = f"test {scored.label.removesuffix(' (%)')}"
    better: Mapping[str, Better] = {score: scored.better, "sharpness": "low"}
    for key, title in recipes.items():
        if key not in accuracies:
            continue
        yield Section(heading=title)
        found = {label: rows[key] for label, rows in parts.items() if key in rows}
        for label, rows in (found or {"not measured": _unmeasured(accuracies[key])}).items():
            columns = {score: accuracies[key], "sharpness": rows}
            yield from side_by_side(columns, better, label, with_granularity=False)


def _unmeasured(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary of a measurement that no cell has yet."""
    missing = summary.assign(n=0, n_missing=summary["n"] + summary["n_missing"])
    return with_texts(missing, significant)


# --------------------------------------------------------------------------- amplified share


def amplified_page(study: Study, recipes: Recipes) -> Page:
    """The share of amplified elements in the first, the middle and the last epoch."""
    shares = _with_shares(study)
    summaries = {name: summarize(shares, f"amplified_{name}") for name in _epochs(0)}
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


def _with_shares(study: Study) -> pd.DataFrame:
    """The cells that take a second gradient, with their shares of amplified elements in percent."""
    runs = study.runs
    perturbs = (runs["direction"] == "sam") | (runs["magnitude"] == "sam")
    perturbs |= runs["ascent"].notna()
    perturbs = perturbs.fillna(False)
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


def _amplified_sections(
    recipes: Recipes, epochs: Mapping[Any, int], summaries: Mapping[str, pd.DataFrame]
) -> Iterator[Section]:
    if not epochs:
        yield Section(heading="", text=("No cells with a second gradient in this study.",))
    parts = {name: by_recipe(with_texts(rows, two_decimals)) for name, rows in summaries.items()}
    for key, title in recipes.items():
        if key in epochs:
            yield Section(heading=title)
            at = _epochs(epochs[key])
            columns = {f"epoch {at[name]}": rows[key] for name, rows in parts.items()}
            yield from side_by_side(columns, {})
