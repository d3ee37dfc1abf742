"""``samsweep report``: write the tables, figures and one ``report.html`` of a study."""

from __future__ import annotations

from collections.abc import Sequence

from samsweep.cli.tables import main as tables


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status."""
    return tables(["report=true", "quiet=true", *arguments], command="samsweep report")
