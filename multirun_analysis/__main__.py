"""The command behind ``make tables`` and ``make report``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from multirun_analysis.study import Study, StudyError, open_study
from multirun_analysis.tables.export import export_frames
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.render import terminal_text, write_pages
from multirun_analysis.tables.study_pages import effect_pages, reference_pages, study_pages
from samsweep.cli.tables import TablesOptions
from samsweep.cli.tables import main as tables
from samsweep.config import ConfigError
from samsweep.records.store import write_text

if TYPE_CHECKING:
    from multirun_analysis.figures.captions import Picture


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``samsweep tables``.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        Exit status: 0, 1 for a study of which no table can be made, or 2 for arguments that mean
        nothing.
    """
    return tables(sys.argv[1:] if argv is None else argv, command="python -m multirun_analysis")


def write_tables(options: TablesOptions) -> int:
    """Write the tables that the command line asks for; returns the exit status."""
    # The products of the tests are small: a second thread of BLAS takes more time in waiting for
    # the first than it saves, and several times as much where others compute as well.
    with threadpool_limits(1, user_api="blas"):
        return _run(options)


def _run(arguments: TablesOptions) -> int:
    try:
        study = open_study(arguments.study, arguments.root, arguments.config_dir)
    except (StudyError, ConfigError) as error:
        return _fail(error)
    shown = study_pages(study)
    compared = [] if arguments.reference is None else reference_pages(study, arguments.reference)
    pages = [*shown, *effect_pages(study), *compared]
    folder = arguments.out / study.name
    write_pages(pages, folder)
    printed = [] if arguments.quiet else [*shown, *compared]
    print(terminal_text(study, printed, pages, folder), end="")
    if arguments.report or arguments.wandb is not None:
        pictures = _write_figures(study, folder)
        print(f"Drawn as .png and .svg: {', '.join(pictures) or 'nothing'}.")
        if arguments.report:
            print(_write_report(study, pictures, compared, folder))
    if arguments.export is not None:
        files = export_frames(study, arguments.export)
        print(f"Exported {', '.join(file.name for file in files)} to {arguments.export}/.")
    if arguments.wandb is not None:
        return _publish(study, pages, folder, arguments)
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


def _publish(study: Study, pages: Sequence[Page], folder: Path, arguments: TablesOptions) -> int:
    assert arguments.wandb is not None
    # wandb takes a second to import, and is needed by this option alone.
    from multirun_analysis.report.publish import PublishError, publish

    try:
        where = publish(study, pages, folder, project=arguments.wandb_project, mode=arguments.wandb)
    except PublishError as error:
        return _fail(error)
    print(where)
    return 0


def _fail(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
