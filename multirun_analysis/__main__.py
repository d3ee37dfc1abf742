"""The command behind ``make tables`` and ``make report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from multirun_analysis.references import references
from multirun_analysis.study import Study, StudyError, open_study
from multirun_analysis.tables.export import export_frames
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.render import terminal_text, write_pages
from multirun_analysis.tables.study_pages import effect_pages, reference_pages, study_pages
from samsweep.config import ConfigError, unknown_name
from samsweep.records.store import write_text

if TYPE_CHECKING:
    from multirun_analysis.figures.captions import Picture

_DESCRIPTION = """\
Write the tables of a study: test accuracy (last epoch, and at best validation), sharpness by every
measure that was taken, SGD beside SGDHESS, the share of amplified elements, and the effects of
direction and magnitude with a verdict on each, per model and training recipe, as Markdown, CSV,
LaTeX and HTML. The tables are also printed, with the verdicts, the cells without a result and the
commands that run these. With --report, figures and one self-contained report.html are written, too.
Only records, histories and manifests are read: it can run at any time, also while cells train.
"""

_EPILOG = """\
examples:
  python -m multirun_analysis
  python -m multirun_analysis --study cifar100 --out results
  python -m multirun_analysis --study cifar100 --reference empirical_sam
  python -m multirun_analysis --study cifar100 --report
  python -m multirun_analysis --study cifar100 --export frames --quiet
  python -m multirun_analysis --study cifar100 --wandb offline

In a cell, `96.52 ± 0.31 (n=3)` is mean and standard deviation over 3 seeds, `??` is a cell without
a result, `diverged` one whose loss became NaN or inf. Exit code 1: there is nothing to tabulate, or
W&B refused.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables that the command line asks for.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        Exit code: 0, or 1 for a study of which no table can be made.
    """
    arguments = _parser().parse_args(argv)
    # The products of the tests are small: a second thread of BLAS takes more time in waiting for
    # the first than it saves, and several times as much where others compute as well.
    with threadpool_limits(1, user_api="blas"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    try:
        study = open_study(arguments.study, arguments.root, arguments.config_dir)
    except (StudyError, ConfigError) as error:
        return _fail(error)
    tables = study_pages(study)
    compared = [] if arguments.reference is None else reference_pages(study, arguments.reference)
    pages = [*tables, *effect_pages(study), *compared]
    folder = arguments.out / study.name
    write_pages(pages, folder)
    shown = [] if arguments.quiet else [*tables, *compared]
    print(terminal_text(study, shown, pages, folder), end="")
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


def _publish(
    study: Study, pages: Sequence[Page], folder: Path, arguments: argparse.Namespace
) -> int:
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


def _reference(name: str) -> str:
    if name not in references():
        raise argparse.ArgumentTypeError(unknown_name("reference", name, references()))
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m multirun_analysis",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--study", default="default", help="name of the study (default: %(default)s)")
    add(
        "--root",
        type=Path,
        default=Path("multirun"),
        help="folder of all studies (default: %(default)s)",
    )
    add(
        "--out",
        type=Path,
        default=Path("tables"),
        help="tables go to OUT/STUDY/ (default: %(default)s)",
    )
    add(
        "--config-dir",
        type=Path,
        metavar="DIR",
        help="folder of options beside conf/, whose experiments name confirmatory tests too",
    )
    add(
        "--reference",
        type=_reference,
        metavar="NAME",
        help=f"add a table beside published values: {', '.join(references())}",
    )
    add(
        "--export",
        type=Path,
        metavar="DIR",
        help="write runs, measurements and history to DIR, as CSV and Parquet",
    )
    add(
        "--wandb",
        nargs="?",
        choices=("offline", "online"),
        const="offline",
        help="push tables and figures to one W&B run (default mode: %(const)s)",
    )
    add(
        "--wandb-project",
        default="samsweep",
        metavar="PROJECT",
        help="W&B project (default: %(default)s)",
    )
    add("--report", action="store_true", help="write figures and one self-contained report.html")
    add("--quiet", action="store_true", help="print no tables")
    return parser


if __name__ == "__main__":
    sys.exit(main())
