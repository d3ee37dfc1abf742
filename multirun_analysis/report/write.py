"""Write what the command is asked for: tables, and figures, report, frames and a W&B run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from threadpoolctl import threadpool_limits

from multirun_analysis.study import Study, StudyError, open_study
from multirun_analysis.tables.export import export_frames
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.render import terminal_text, write_pages
from multirun_analysis.tables.study_pages import effect_pages, reference_pages, study_pages
from samsweep.records.store import write_text

if TYPE_CHECKING:
    from multirun_analysis.figures.captions import Picture


def write_tables(
    study: str,
    root: Path,
    out: Path,
    *,
    reference: str | None = None,
    report: bool = False,
    export: Path | None = None,
    wandb: Literal["offline", "online"] | None = None,
    wandb_project: str = "samsweep",
    quiet: bool = False,
    config_dir: Path | None = None,
) -> int:
    """Write the tables of a study, and what else is asked for.

    Args:
        study: Its name.
        root: Folder of the studies.
        out: Folder of the tables, which go to OUT/STUDY/.
        reference: Published values to show beside the study's.
        report: Whether to write figures and one self-contained report.html.
        export: Folder for the frames.
        wandb: Mode of a W&B run that tables and figures are pushed to.
        wandb_project: W&B project.
        quiet: Whether to print no tables.
        config_dir: Folder of options beside ``conf/``.

    Returns:
        Exit status: 1 for a study without a record that can be read, or where W&B refused.

    Raises:
        ConfigError: If there is no such study, or its preset cannot be read.
    """
    # The products of the tests are small: a second thread of BLAS takes more time in waiting for
    # the first than it saves, and several times as much where others compute as well.
    with threadpool_limits(1, user_api="blas"):
        try:
            read = open_study(study, root, config_dir)
        except StudyError as error:
            return _fail(error)
        shown = study_pages(read)
        compared = [] if reference is None else reference_pages(read, reference)
        pages = [*shown, *effect_pages(read), *compared]
        folder = out / read.name
        write_pages(pages, folder)
        printed = [] if quiet else [*shown, *compared]
        print(terminal_text(read, printed, pages, folder), end="")
        if report or wandb is not None:
            pictures = _write_figures(read, folder)
            print(f"Drawn as .png and .svg: {', '.join(pictures) or 'nothing'}.")
            if report:
                print(_write_report(read, pictures, compared, folder))
        if export is not None:
            files = export_frames(read, export)
            print(f"Exported {', '.join(file.name for file in files)} to {export}/.")
        if wandb is not None:
            return _publish(read, pages, folder, project=wandb_project, mode=wandb)
        return 0


def _write_figures(study: Study, folder: Path) -> Mapping[str, Picture]:
    # matplotlib takes a second to import, and is needed by two options alone.
    from multirun_analysis.figures.gallery import draw_figures, write_figures

    pictures = draw_figures(study, study.effects)
    write_figures(pictures, folder)
    return pictures


def _write_report(
    study: Study, pictures: Mapping[str, Picture], compared: Sequence[Page], folder: Path
) -> str:
    """Write the report; returns a sentence that says where it is."""
    from multirun_analysis.report.page import report_html

    write_text(folder / "report.html", report_html(study, pictures.values(), compared))
    return f"All of it: {folder}/report.html"


def _publish(
    study: Study,
    pages: Sequence[Page],
    folder: Path,
    *,
    project: str,
    mode: Literal["offline", "online"],
) -> int:
    # wandb takes a second to import, and is needed by this option alone.
    from multirun_analysis.report.publish import PublishError, publish

    try:
        where = publish(study, pages, folder, project=project, mode=mode)
    except PublishError as error:
        return _fail(error)
    print(where)
    return 0


def _fail(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 1
