"""What a table is before it is a file: pages of sections, of text and tables of text cells.

Every table, comparison and list of effects is a :class:`Page`;
:mod:`multirun_analysis.tables.formats` turns pages into Markdown, LaTeX, HTML and CSV.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page: plain text, which the formats escape."""

    heading: str
    level: int = 2  # of a recipe; 3 for what is below it
    text: tuple[str, ...] = ()  # paragraphs before the table
    table: pd.DataFrame | None = None  # text cells, with columns named for people
    best: pd.DataFrame | None = None  # of the table's shape: which cells are their column's best


#: What a legend says where cells were pruned.
_PRUNED = (
    "Pruned: ended early by the study's pruner. A mean is of the other seeds, and does not compete."
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What becomes one file in each format."""

    name: str  # of the files, without suffix
    title: str
    legend: str = ""  # what the cells' marks mean
    sections: tuple[Section, ...] = ()
    data: pd.DataFrame = field(default_factory=pd.DataFrame)  # the numbers, for the CSV file

    @property
    def full_legend(self) -> str:
        """The legend, with what pruned cells are where the numbers count some."""
        return " ".join([self.legend, *[_PRUNED] * ("n_pruned" in self.data)]).strip()
