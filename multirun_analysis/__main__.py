"""The command behind ``make tables``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from multirun_analysis.render import write_tables
from multirun_analysis.study import StudyError

_DESCRIPTION = """\
Write the tables of a study: test accuracy (last epoch, and at best validation), sharpness, and
SGD beside SGDHESS, each per model and training recipe, as Markdown and CSV. The Markdown is also
printed, with the cells that have no result. Only records are read: it can run at any time, from
any shell, also while cells train.
"""

_EPILOG = """\
examples:
  python -m multirun_analysis
  python -m multirun_analysis --study cifar100 --out results

In a cell, `96.52 ± 0.31 (n=3)` is mean and standard deviation over 3 seeds, `??` is a cell without
a result, `diverged` one whose loss left the numbers. Exit code 1: there is nothing to tabulate.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables that the command line asks for.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        Exit code: 0, or 1 for a study of which no table can be made.
    """
    arguments = _parser().parse_args(argv)
    try:
        print(write_tables(arguments.study, arguments.root, arguments.out), end="")
    except StudyError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


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
    return parser


if __name__ == "__main__":
    sys.exit(main())
