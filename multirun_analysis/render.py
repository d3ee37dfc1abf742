"""Tables as files: Markdown for people, CSV for programs.

A Markdown file has a heading per recipe and, below it, a table per model, in the shape of the
study's. A CSV file has a row per summary (:func:`~multirun_analysis.tables.summarize`) with
numbers in full precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pandas as pd

from multirun_analysis.labels import recipe_titles
from multirun_analysis.load import (
    SETTINGS_COLUMNS,
    Skipped,
    read_records,
    runs_frame,
)
from multirun_analysis.study import open_study
from multirun_analysis.tables import (
    MISSING,
    accuracy_table,
    join_measurements,
    sgd_table,
    sharpness_table,
    split_by_recipe,
    summarize,
)
from samsweep.records.schema import Status
from samsweep.records.store import write_text

#: Cells named in the terminal for each status that is no result; the rest are counted.
_MOST_NAMED = 10

#: Column and title of the headline table.
_HEADLINE = ("test_accuracy", "Test accuracy (%), last epoch")

_LEGEND = f"Mean ± sd over seeds (n). {MISSING} is a cell without a result; blank: no such rho."


class TableFile(NamedTuple):
    """One table in both forms.

    Args:
        name: Of the files, without suffix.
        markdown: With its headings.
        summary: What the CSV holds.
    """

    name: str
    markdown: str
    summary: pd.DataFrame


def write_tables(study: str, runs_root: Path | str, out: Path | str) -> str:
    """Write every table of a study.

    Args:
        study: Name of the study.
        runs_root: Folder of all studies, ``multirun``.
        out: Folder of all tables; those of this study go to ``<out>/<study>/``.

    Returns:
        The tables as Markdown, and which cells they lack, for the terminal.

    Raises:
        StudyError: If there is no such study, or no record in it that can be read.
    """
    read = open_study(study, runs_root)
    tables = study_tables(study, read.runs, read.measurements)
    target = Path(out) / study
    _write(tables, target)
    names = ", ".join(table.name for table in tables)
    text = "\n".join(table.markdown for table in tables)
    written = f"Written to {target}/ as .md and .csv: {names}."
    return f"{text}\n{describe_cells(read.runs, read.skipped)}\n\n{written}\n"


def accuracy_markdown(folder: Path) -> str:
    """The accuracy table of a study as it stands, and which cells it lacks.

    Args:
        folder: Folder of the study.
    """
    records, skipped = read_records(folder)
    runs = runs_frame(records)
    table = _accuracy_file(folder.name, runs, "accuracy", *_HEADLINE)
    return f"\n{table.markdown}\n{describe_cells(runs, skipped)}\n"


def study_tables(study: str, runs: pd.DataFrame, measurements: pd.DataFrame) -> list[TableFile]:
    """Every table of a study's frames.

    Args:
        study: Name of the study.
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.
        measurements: Frame of :func:`~multirun_analysis.load.load_measurements`.
    """
    joined = join_measurements(runs, measurements)
    sgd = runs[runs["variant"].isin(["sgd", "sgdhess"])]
    sgd_joined = joined[joined["variant"].isin(["sgd", "sgdhess"])]
    return [
        _accuracy_file(study, runs, "accuracy", *_HEADLINE),
        _accuracy_file(
            study,
            runs,
            "accuracy_best",
            "best_test_accuracy",
            "Test accuracy (%) at best validation, the study's protocol",
        ),
        TableFile(
            "sharpness",
            _page(study, "Sharpness, largest Hessian eigenvalue", _sharpness(runs, joined)),
            _long(runs, summarize(joined, "lambda_max")),
        ),
        TableFile(
            "sgdhess",
            _page(study, "SGD and SGDHESS, test accuracy (%) and sharpness", _sgd(sgd, joined)),
            _long(runs, summarize(sgd, "test_accuracy"), summarize(sgd_joined, "lambda_max")),
        ),
    ]


# --------------------------------------------------------------------------- Markdown


def to_markdown(table: pd.DataFrame) -> str:
    """A table of text cells as it is: nothing is taken for a number and formatted anew."""
    return str(table.to_markdown(index=False, disable_numparse=True))


def _accuracy_file(study: str, runs: pd.DataFrame, name: str, column: str, title: str) -> TableFile:
    sections = (
        line
        for recipe, cells in split_by_recipe(runs)
        for line in (f"## {recipe}", *_per_model(accuracy_table(cells, column)))
    )
    return TableFile(name, _page(study, title, sections), _long(runs, summarize(runs, column)))


def _sharpness(runs: pd.DataFrame, joined: pd.DataFrame) -> Iterator[str]:
    for recipe, cells in split_by_recipe(runs):
        yield f"## {recipe}"
        measured = joined[joined["cell_id"].isin(cells["cell_id"])]
        if measured.empty:
            yield "Not measured yet."
        for label, group in _by_settings(measured):
            yield from _per_model(sharpness_table(group), label)


def _sgd(sgd: pd.DataFrame, joined: pd.DataFrame) -> Iterator[str]:
    if sgd.empty:
        yield "No SGD or SGDHESS cells in this study."
    for recipe, cells in split_by_recipe(sgd):
        yield f"## {recipe}"
        measured = joined[joined["cell_id"].isin(cells["cell_id"])]
        for label, group in _by_settings(measured) or [("not measured", cells)]:
            yield from _per_model(sgd_table(group), label)


def _by_settings(joined: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each measurement, by its label."""
    return [(str(label), rows) for label, rows in joined.groupby("settings_label")]


def _per_model(table: pd.DataFrame, label: str = "") -> Iterator[str]:
    """A heading and a table for each model, with the columns of the whole grid."""
    for model, rows in table.groupby("model", sort=False):
        yield f"### {model}, {label}" if label else f"### {model}"
        yield to_markdown(rows.drop(columns="model"))


def _page(study: str, title: str, sections: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}: study {study}", _LEGEND, *sections]) + "\n"


# --------------------------------------------------------------------------- CSV


def _long(runs: pd.DataFrame, *summaries: pd.DataFrame) -> pd.DataFrame:
    """Summaries below each other, with titles for people; the same columns in every file."""
    titles = recipe_titles(runs)
    filled = [summary for summary in summaries if not summary.empty] or summaries[:1]
    long = pd.concat(filled, ignore_index=True)
    # A summary of the training alone has no measurement settings.
    others = [name for name in long.columns if name not in SETTINGS_COLUMNS]
    long = long.reindex(columns=[*others, *SETTINGS_COLUMNS])
    long.insert(0, "recipe", [titles[key] for key in long["recipe_key"]])
    return long


def _write(tables: Iterable[TableFile], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        write_text(folder / f"{table.name}.md", table.markdown)
        write_text(folder / f"{table.name}.csv", table.summary.to_csv(index=False))


# --------------------------------------------------------------------------- which cells


def describe_cells(runs: pd.DataFrame, skipped: Iterable[Skipped] = ()) -> str:
    """How many cells there are, and the names of those without a result.

    Args:
        runs: Frame of :func:`~multirun_analysis.load.load_runs`.
        skipped: Records that could not be read.
    """
    cells = {status: runs[runs["status"] == status] for status in ("complete", *_unlike_complete())}
    counts = ", ".join(f"{len(rows)} {status}" for status, rows in cells.items() if len(rows))
    lines = [f"{len(runs)} cell{'s' * (len(runs) != 1)}: {counts}"]
    for status in _unlike_complete():
        lines += _named_cells(status, cells[status])
    lines += [f"unreadable: {file}: {reason}" for file, reason in skipped]
    return "\n".join(lines)


def _unlike_complete() -> list[str]:
    first = ["diverged", "failed"]
    return first + [s for s in get_args(Status) if s not in ("complete", *first)]


def _named_cells(status: str, rows: pd.DataFrame) -> Iterator[str]:
    for cell in rows.head(_MOST_NAMED).to_dict("records"):
        yield f"{status}: {cell['cell_id']}{_reason(cell)}"
    if len(rows) > _MOST_NAMED:
        yield f"{status}: and {len(rows) - _MOST_NAMED} more"


def _reason(cell: Mapping[Any, Any]) -> str:
    """The last line of the traceback, in brackets."""
    error = cell["error"]
    lines = error.strip().splitlines() if isinstance(error, str) else []
    return f" ({lines[-1]})" if lines else ""
