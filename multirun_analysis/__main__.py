"""``python -m multirun_analysis``: the command ``samsweep tables``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from samsweep.cli.tables import main as tables


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``samsweep tables``.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        Exit status: 0, 1 for a study of which no table can be made, or 2 for arguments that mean
        nothing.
    """
    return tables(sys.argv[1:] if argv is None else argv, command="python -m multirun_analysis")


if __name__ == "__main__":
    sys.exit(main())
