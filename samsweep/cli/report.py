"""``samsweep report``: write the tables, figures and one ``report.html`` of a study."""

from __future__ import annotations

from collections.abc import Sequence

from samsweep.cli.tables import main as tables

_HELP = """\
usage: {command} [study=NAME] [KEY=VALUE ...]

Write the figures of a study (PNG and SVG), its tables (Markdown, CSV, LaTeX and HTML) and one
report.html that holds all of it: figures with captions, tables, verdicts, and the code, machines
and libraries that the results come from. The file loads nothing from elsewhere: it can be sent as
it is. It goes to OUT/STUDY/. Only records, histories and manifests are read, also while cells
train.

  {command} study=cifar100
  {command} study=cifar100 reference=empirical_sam out=results

The command is `samsweep tables` with other defaults, those of report and quiet. Exit status 1:
there is nothing to tabulate, or W&B refused.
"""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status."""
    return tables(
        arguments,
        command="samsweep report",
        text=_HELP,
        defaults={"report": True, "quiet": True},
    )
