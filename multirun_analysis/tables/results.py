"""The tables of a study, as pure functions of its frames.

Laid out from the arithmetic of :mod:`multirun_analysis.stats.summary`. A blank: the row has no such
cell (SGD has no rho).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from multirun_analysis.runs.columns import SETTINGS_COLUMNS
from multirun_analysis.runs.load import middle_epoch
from multirun_analysis.runs.measurements import (
    LARGEST,
    MEANINGS,
    gives_largest_eigenvalue,
    of_largest_eigenvalue,
    with_numbers,
)
from multirun_analysis.stats.summary import (
    NEEDED,
    by_recipe,
    join_measurements,
    ordered_recipes,
    summarize,
)
from multirun_analysis.study import Study
from multirun_analysis.tables.entries import (
    MISSING,
    or_blank,
    significant,
    two_decimals,
    with_texts,
)
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import ranking, recipe_titles
from multirun_analysis.wording.numbers import number
from samsweep.config import MEASURES

NO_RHO = "no rho"

#: Title of each recipe by its key, in the order of the tables.
Recipes = Mapping[str, str]
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
    "train_accuracy": (
        "accuracy_train",
        "Training accuracy (%), last epoch, on images as they are",
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

    The largest eigenvalue is the page ``sharpness``; of every other quantity that was measured
    there is a page with the name of its measure.

    Args:
        study: The study, as :func:`.open_study` reads it.
    """
    recipes = ordered_recipes(study.runs)
    joined = join_measurements(study.runs[list(NEEDED)], with_numbers(study.measurements))
    return [
        *(_accuracy_page(study.name, recipes, study.runs, column) for column in _ACCURACIES),
        _sharpness_page(study.name, recipes, of_largest_eigenvalue(joined)),
        *_measure_pages(study.name, recipes, joined),
        _sgd_page(study.name, recipes, study.runs, joined),
        _amplified_page(study.name, recipes, _with_shares(study)),
    ]


def accuracy_page(study: str, runs: pd.DataFrame, column: str = "test_accuracy") -> Page:
    """Accuracies in percent, a table per recipe and model.

    Args:
        study: Name of the study.
        runs: Frame of :func:`.load_runs`.
        column: ``test_accuracy`` is the last epoch's, ``best_test_accuracy`` the one at best
            validation accuracy (the study's protocol), ``train_accuracy`` that of the training
            images without augmentation.
    """
    return _accuracy_page(study, ordered_recipes(runs), runs, column)


def _accuracy_page(study: str, recipes: Recipes, runs: pd.DataFrame, column: str) -> Page:
    name, title = _ACCURACIES[column]
    summary = summarize(runs, column)
    return Page(
        name=name,
        title=f"{title}: study {study}",
        legend=f"{_LEGEND} {_HIGHEST}",
        sections=tuple(_accuracy_sections(recipes, with_texts(summary, two_decimals))),
        data=_long(recipes, summary),
    )


def _accuracy_sections(recipes: Recipes, summary: pd.DataFrame) -> Iterator[Section]:
    rows = by_recipe(summary)
    for key, title in recipes.items():
        yield Section(heading=title)
        yield from _by_rho(rows[key], "high")


def _sharpness_page(
    study: str, recipes: Recipes, joined: pd.DataFrame, name: str = "sharpness"
) -> Page:
    """Page of the measurements of one quantity, and of those of which too little is known."""
    measured = _measured(joined)
    summaries = [summary for _, summary in measured] or [summarize(joined, "value")]
    label = MEASURES[name].label if name in MEASURES else "Sharpness"
    return Page(
        name=name,
        title=f"{label[0].upper()}{label[1:]}: study {study}",
        legend=f"{_LEGEND} {MEANINGS[name if name in MEASURES else LARGEST]} {_LOWEST}",
        sections=tuple(_sharpness_sections(recipes, measured)),
        data=_long(recipes, *summaries),
    )


def _measure_pages(study: str, recipes: Recipes, joined: pd.DataFrame) -> Iterator[Page]:
    """A page of each quantity that was measured but the largest eigenvalue."""
    for name in MEASURES:
        rows = joined[joined["name"] == name]
        if len(rows) and not gives_largest_eigenvalue(name):
            yield _sharpness_page(study, recipes, rows, name)


def _sharpness_sections(
    recipes: Recipes, measured: Sequence[tuple[str, pd.DataFrame]]
) -> Iterator[Section]:
    parts = _parts(measured)
    for key, title in recipes.items():
        found = [(heading, rows[key]) for heading, rows in parts if key in rows]
        yield Section(heading=title, text=() if found else ("Not measured yet.",))
        for heading, rows in found:
            yield from _by_rho(rows, _better(rows), heading)


def _parts(
    measured: Sequence[tuple[str, pd.DataFrame]],
) -> list[tuple[str, dict[str, pd.DataFrame]]]:
    """The text of each recipe's rows, by heading."""
    return [(heading, by_recipe(with_texts(rows, significant))) for heading, rows in measured]


def _measured(joined: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
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


def _better(summary: pd.DataFrame) -> Better | None:
    """Low is flat; a ratio of eigenvalues is neither."""
    return None if _is_ratio(summary) else "low"


def _is_ratio(summary: pd.DataFrame) -> bool:
    return bool((summary["quantity"] == "bulk_outlier_ratio").any())


def _sgd_page(study: str, recipes: Recipes, runs: pd.DataFrame, joined: pd.DataFrame) -> Page:
    accuracy = summarize(_sgd_rows(runs), "test_accuracy")
    sharpness = [
        (label, summary)
        for label, summary in _measured(_sgd_rows(joined))
        if not _is_ratio(summary)
    ]
    return Page(
        name="sgdhess",
        title=f"SGD and SGDHESS, test accuracy (%) and sharpness: study {study}",
        legend=f"{_LEGEND} Bold: the highest accuracy and the lowest sharpness.",
        sections=tuple(_sgd_sections(recipes, accuracy, sharpness)),
        data=_long(recipes, accuracy, *(summary for _, summary in sharpness)),
    )


def _sgd_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["variant"].isin(["sgd", "sgdhess"])]


def _sgd_sections(
    recipes: Recipes, accuracy: pd.DataFrame, sharpness: Sequence[tuple[str, pd.DataFrame]]
) -> Iterator[Section]:
    if accuracy.empty:
        yield Section(heading="", text=("No SGD or SGDHESS cells in this study.",))
    accuracies, parts = by_recipe(with_texts(accuracy, two_decimals)), _parts(sharpness)
    for key, title in recipes.items():
        if key not in accuracies:
            continue
        yield Section(heading=title)
        found = [(label, rows[key]) for label, rows in parts if key in rows]
        for label, rows in found or [("not measured", _without_values(accuracies[key]))]:
            yield from _per_model(_sgd_grid(accuracies[key], rows), _SGD_BETTER, label)


def _without_values(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary of a measurement that no cell has yet."""
    missing = summary.assign(n=0, n_missing=summary["n"] + summary["n_missing"])
    return with_texts(missing, significant)


_SGD_BETTER: Mapping[str, Better] = {"test accuracy": "high", "sharpness": "low"}


def _with_shares(study: Study) -> pd.DataFrame:
    """The cells that take a second gradient, with their shares of amplified elements."""
    runs = study.runs
    perturbs = (runs["direction"] == "sam") | (runs["magnitude"] == "sam")
    cells = runs.loc[perturbs, [*NEEDED, "epochs"]]
    return cells.merge(study.amplified, on="cell_id", how="left")


def _amplified_page(study: str, recipes: Recipes, shares: pd.DataFrame) -> Page:
    summaries = {name: summarize(shares, f"amplified_{name}") for name in _EPOCHS}
    epochs = shares.drop_duplicates("recipe_key").set_index("recipe_key")["epochs"].to_dict()
    return Page(
        name="amplified",
        title=f"Share of amplified elements (%), abs(h) > abs(g): study {study}",
        legend=(
            f"{_LEGEND} g is the gradient at w, h the one at w + epsilon; each number is the mean "
            "over an epoch's steps."
        ),
        sections=tuple(_amplified_sections(recipes, epochs, summaries)),
        data=_long(recipes, *summaries.values()),
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
        table = _rows_with_rho(parts["first"][key]).assign(**texts)
        yield Section(heading=title)
        yield from _per_model(Grid(table, pd.DataFrame(index=table.index)), None)


# --------------------------------------------------------------------------- parts of pages


def _by_rho(summary: pd.DataFrame, better: Better | None, label: str = "") -> Iterator[Section]:
    """A section for each model, and one for its SGDHESS, laid out by rho.

    A factor of the curvature is no radius: in one table, neither would fill the other's columns,
    and where they happen to be equal, they would compete.
    """
    is_factor = np.array([_kind(name) == "factor" for name in summary["variant"]], dtype=bool)
    yield from _per_model(_grid(summary[~is_factor]), better, label)
    factors = _grid(summary[is_factor])
    plain = factors._replace(texts=factors.texts.drop(columns="granularity"))
    yield from _per_model(plain, better, ", ".join(filter(None, [label, _FACTOR])))


_FACTOR = "SGDHESS, whose rho is a factor of the curvature"


def _per_model(
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


def _long(recipes: Recipes, *summaries: pd.DataFrame) -> pd.DataFrame:
    """Summaries below each other, with titles for people; the same columns in every file."""
    filled = [summary for summary in summaries if not summary.empty] or list(summaries[:1])
    long = pd.concat(filled, ignore_index=True)
    # A summary of the training alone has no measurement settings.
    others = [name for name in long.columns if name not in SETTINGS_COLUMNS]
    long = long.reindex(columns=[*others, *SETTINGS_COLUMNS])
    long.insert(0, "recipe", long["recipe_key"].map(recipes))
    return long


# --------------------------------------------------------------------------- tables


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
    return _named_recipes(_grid(with_texts(summarize(runs, column), two_decimals)).texts, runs)


def sharpness_table(measurements: pd.DataFrame) -> pd.DataFrame:
    """Largest Hessian eigenvalues, model and optimizer by rho.

    Args:
        measurements: Frame of :func:`.join_measurements`, in which cells
            without the measurement show as missing; or of
            :func:`.load_measurements`.

    Returns:
        As :func:`accuracy_table`, after a column ``measurement`` where there are several.
    """
    rows = of_largest_eigenvalue(measurements)
    grid = _grid(with_texts(summarize(rows, LARGEST), significant))
    return _named_recipes(grid.texts, rows)


def sgd_table(runs: pd.DataFrame) -> pd.DataFrame:
    """SGD and SGDHESS: test accuracy in percent and sharpness, by rho.

    Args:
        runs: Frame of :func:`.join_measurements`, or of
            :func:`.load_runs` where nothing was measured yet.

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
    return _named_recipes(grid.texts, rows)


def _sgd_grid(accuracy: pd.DataFrame, sharpness: pd.DataFrame) -> Grid:
    several = _settings_if_several(accuracy)
    # Both are summaries of the same rows by the same keys, hence in the same order.
    shown = {"test accuracy": accuracy, "sharpness": sharpness}
    table = accuracy[["recipe_key", *several, "model", "optimizer"]].assign(
        rho=_rho_texts(accuracy),
        **{name: list(summary["text"]) for name, summary in shown.items()},
    )
    scores = {name: list(summary["score"]) for name, summary in shown.items()}
    return Grid(_named_measurements(table), pd.DataFrame(scores, index=table.index))


def _rows_with_rho(summary: pd.DataFrame) -> pd.DataFrame:
    """What a row of its own says for each row of a summary."""
    return summary[["model", "optimizer"]].assign(
        granularity=[or_blank(name) for name in summary["granularity"]], rho=_rho_texts(summary)
    )


def _rho_texts(summary: pd.DataFrame) -> list[str]:
    return ["" if pd.isna(rho) else number(rho) for rho in summary["rho"]]


def _grid(summary: pd.DataFrame) -> Grid:
    """A summary's rows, with their texts, laid out by rho."""
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
                **{_rho_header(row["rho"]): row["text"] for row in group},
            }
        )
        scores.append({_rho_header(row["rho"]): row["score"] for row in group})
    header = ["recipe_key", *settings, "model", "optimizer", "granularity", *by_rho]
    return Grid(
        _named_measurements(pd.DataFrame(rows, columns=header, dtype="object")),
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
