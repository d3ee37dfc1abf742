"""Write what the command is asked for: tables, and figures, report, frames and a W&B run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from threadpoolctl import threadpool_limits

from multirun_analysis.stats.factor import parse_factor
from multirun_analysis.study import StudyError, open_study
from multirun_analysis.tables.export import export_frames
from multirun_analysis.tables.factor import ABLATION
from multirun_analysis.tables.render import terminal_text, write_pages
from multirun_analysis.tables.study_pages import (
    asked_pages,
    effect_pages,
    reference_pages,
    study_pages,
)
from samsweep.config.extras import lacking
from samsweep.records.store import write_text


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
    rows: Sequence[str] = (),
    cols: Sequence[str] = (),
    value: str | None = None,
    effects: str | None = None,
    quiet: bool = False,
    config_dir: Path | None = None,
) -> int:
    """Write the tables of a study, and what else is asked for.

    Where keys or a factor are asked for, their tables alone are printed; a factor against a
    reference is drawn as well. The arguments are the
    options of :class:`samsweep.cli.tables.TablesOptions`.

    Returns:
        Exit status: 1 for a study without a record that can be read, or where W&B refused.

    Raises:
        ConfigError: If there is no such study, or no such key, value or level in it, or if its
            preset cannot be read.
    """
    # The products of the tests are small: a second thread of BLAS takes more time in waiting for
    # the first than it saves, and several times as much where others compute as well.
    with threadpool_limits(1, user_api="blas"):
        try:
            read = open_study(study, root, config_dir)
        except StudyError as error:
            return _fail(error)
        asked = asked_pages(read, rows, cols, value, effects)
        shown = study_pages(read)
        compared = [] if reference is None else reference_pages(read, reference)
        pages = [*shown, *effect_pages(read), *compared, *asked]
        folder = out / read.name
        write_pages(pages, folder)
        printed = [] if quiet else asked or [*shown, *compared]
        print(terminal_text(read, printed, pages, folder), end="")
        ablations = [page for page in asked if page.name == ABLATION]
        everything = report or wandb is not None
        if ablations and (told := lacking("Their figure", "report")):
            print(f"{told}.")
            ablations = []
        if everything or ablations:
            # matplotlib takes a second to import, and is needed here alone.
            from multirun_analysis.figures.gallery import draw_ablation, draw_figures, write_figures

            pictures = draw_figures(read, read.effects) if everything else {}
            for page in ablations:
                factor = parse_factor(str(effects), read.runs, read.name)
                pictures |= draw_ablation(read, page.data, factor)
            write_figures(pictures, folder)
            print(f"Drawn as .png and .svg: {', '.join(pictures) or 'nothing'}.")
        if report:
            from multirun_analysis.report.page import report_html

            html = report_html(read, pictures.values(), [*compared, *ablations])
            write_text(folder / "report.html", html)
            print(f"All of it: {folder}/report.html")
        if export is not None:
            files = export_frames(read, export)
            print(f"Exported {', '.join(file.name for file in files)} to {export}/.")
        if wandb is not None:
            # wandb takes a second to import, and is needed by this option alone.
            from multirun_analysis.report.publish import PublishError, publish

            try:
                print(publish(read, pages, folder, project=wandb_project, mode=wandb))
            except PublishError as error:
                return _fail(error)
        return 0


def _fail(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 1
