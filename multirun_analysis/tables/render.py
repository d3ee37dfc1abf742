"""A study's pages in the terminal and as files.

Each page becomes one file per format: Markdown, LaTeX and HTML for people, CSV for programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from multirun_analysis.runs.load import read_frames
from multirun_analysis.runs.reading import Skipped
from multirun_analysis.study import Study
from multirun_analysis.tables.accuracy_sharpness import accuracy_page
from multirun_analysis.tables.formats import (
    html_document,
    latex_document,
    to_csv,
    to_latex,
    to_markdown,
)
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.verdicts import verdict_lines
from samsweep.records.schema import Status
from samsweep.records.store import write_text
from samsweep.system.text import counted, printable

#: Cells named in the terminal for each status that is no result; the rest are counted.
_MOST_NAMED = 10

#: Each format by its suffix.
_FORMATS = {"md": to_markdown, "csv": to_csv, "tex": to_latex, "html": html_document}


def accuracy_markdown(folder: Path) -> str:
    """The accuracy table of a study as it stands, and its cells without a result."""
    runs, _, skipped = read_frames(folder)
    page = accuracy_page(folder.name, runs)
    return f"\n{to_markdown(page)}\n{describe_cells(runs, skipped)}\n"


def write_pages(pages: Sequence[Page], folder: Path) -> None:
    """Write pages in every format, and a LaTeX document of them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in pages:
        for suffix, form in _FORMATS.items():
            write_text(folder / f"{page.name}.{suffix}", form(page))
    write_text(folder / "tables.tex", latex_document(pages))


def terminal_text(study: Study, shown: Sequence[Page], pages: Sequence[Page], folder: Path) -> str:
    """What the command prints: tables, verdicts, cells without a result, where the files are."""
    # Read, not rendered again: that takes a second where there are thousands of cells.
    tables = "".join(f"{(folder / f'{page.name}.md').read_text('utf-8')}\n" for page in shown)
    verdicts = "".join(f"{line}\n" for line in verdict_lines(study.effects))
    return (
        f"{tables}{verdicts}{describe_cells(study.runs, study.problems)}\n"
        f"{_resume(study.resume_commands)}\n{_written(pages, folder)}\n"
    )


def _resume(commands: Sequence[str]) -> str:
    """The commands that run what is unfinished, if their launches recorded them."""
    lines = "".join(f"  {command}\n" for command in commands)
    return f"run again, these commands skip what is finished:\n{lines}" if lines else ""


def _written(pages: Iterable[Page], folder: Path) -> str:
    names = ", ".join(page.name for page in pages)
    suffixes = [f".{suffix}" for suffix in _FORMATS]
    forms = f"{', '.join(suffixes[:-1])} and {suffixes[-1]}"
    return f"Written to {folder}/ as {forms}: {names}; tables.tex has them all."


# --------------------------------------------------------------------------- which cells


def describe_cells(runs: pd.DataFrame, skipped: Iterable[Skipped] = ()) -> str:
    """How many cells there are, and the names of those without a result or a readable record."""
    statuses = dict.fromkeys(["complete", "diverged", "failed", *get_args(Status)])
    cells = {status: runs[runs["status"] == status] for status in statuses}
    counts = ", ".join(f"{len(rows)} {status}" for status, rows in cells.items() if len(rows))
    lines = [f"{counted(len(runs), 'cell')}: {counts}"]
    for status, rows in list(cells.items())[1:]:
        shown = rows.head(_MOST_NAMED).to_dict("records")
        lines += _named(status, [f"{c['cell_id']}{_reason(c)}" for c in shown], len(rows))
    problems = [f"{file}: {reason}" for file, reason in skipped]
    return "\n".join([*lines, *_named("unreadable", problems, len(problems))])


def _named(what: str, names: Sequence[str], number: int) -> Iterator[str]:
    """A line for each of the first few, and how many more there are."""
    for name in names[:_MOST_NAMED]:
        yield f"{what}: {printable(name)}"
    if number > _MOST_NAMED:
        yield f"{what}: and {number - _MOST_NAMED} more"


def _reason(cell: Mapping[Any, Any]) -> str:
    """The last line of the traceback, in brackets."""
    error = cell["error"]
    lines = error.strip().splitlines() if isinstance(error, str) else []
    return f" ({printable(lines[-1], 200)})" if lines else ""
