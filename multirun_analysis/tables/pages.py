"""What a table is before it is a file: pages of sections, of text and tables of text cells.

Every table, comparison and list of effects is a :class:`Page`;
:mod:`multirun_analysis.tables.formats` turns pages into Markdown, LaTeX, HTML and CSV.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page.

    Args:
        heading: In plain text; the formats escape it.
        level: 2 for a recipe, 3 for what is below it.
        text: Paragraphs in plain text, before the table.
        table: Text cells, with columns named for people; None for text alone.
        best: True where a cell of the table is to be marked as the best of its column; of the
            table's shape and labels.
    """

    heading: str
    level: int = 2
    text: tuple[str, ...] = ()
    table: pd.DataFrame | None = None
    best: pd.DataFrame | None = None


@dataclass(frozen=True, kw_only=True)
class Page:
    """What becomes one file in each format.

    Args:
        name: Of the files, without suffix.
        title: In plain text.
        legend: What the cells' marks mean; empty for none.
        sections: In their order.
        data: The numbers in full precision, a row each: what the CSV file holds.
    """

    name: str
    title: str
    legend: str = ""
    sections: tuple[Section, ...] = ()
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
