"""Pages as Markdown, LaTeX, HTML and CSV.

Names in a page come from records, and so from anywhere. Each format escapes what it would take for
markup, and what a terminal would obey is written out: a name is shown, never acted on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from multirun_analysis.tables.pages import Page, Section
from samsweep.system.text import printable

#: Rows of one LaTeX table: no more fit a page.
_LATEX_ROWS = 40


class _Table(NamedTuple):
    """A table, in plain text; of each cell the text, and whether it is the best of its column."""

    header: list[str]
    numeric: list[bool]
    rows: list[list[tuple[str, bool]]]


def _table(section: Section) -> _Table | None:
    """The table of a section on which every format builds; None where there is none."""
    table = section.table
    if table is None or not len(table.columns):
        return None
    texts = [[_plain(value) for value in row] for row in table.to_numpy(dtype=object)]
    best = np.zeros(table.shape, bool) if section.best is None else section.best.to_numpy(bool)
    return _Table(
        header=[_plain(name) for name in table.columns],
        numeric=[
            any(_NUMBER.match(row[column]) for row in texts) for column in range(table.shape[1])
        ],
        rows=[
            list(zip(row, marks, strict=True))
            for row, marks in zip(texts, best.tolist(), strict=True)
        ],
    )


#: A number, or an interval.
_NUMBER = re.compile(r"\[?[-+−]?\.?\d")


def _plain(value: Any) -> str:
    """A cell as text on one line; nothing for what is missing."""
    if isinstance(value, str):
        return printable(value)
    return "" if value is None or value is pd.NA or value != value else printable(str(value))


# --------------------------------------------------------------------------- Markdown


def to_markdown(page: Page) -> str:
    """A page as GitHub's Markdown."""
    blocks = [f"# {_markdown(page.title)}", _markdown(page.full_legend)]
    for section in page.sections:
        if section.heading:
            blocks.append(f"{'#' * section.level} {_markdown(section.heading)}")
        blocks += [_markdown(paragraph) for paragraph in section.text]
        table = _table(section)
        if table is not None:
            blocks.append(_markdown_table(table))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_table(table: _Table) -> str:
    rows = [
        [f"**{_markdown(text)}**" if best else _markdown(text) for text, best in row]
        for row in table.rows
    ]
    shown = pd.DataFrame(rows, columns=[_markdown(name) for name in table.header], dtype="object")
    # A cell is text as it is: nothing is taken for a number and formatted anew.
    return str(shown.to_markdown(index=False, disable_numparse=True))


_MARKDOWN = {"&": "&amp;", "<": "&lt;", **{c: f"\\{c}" for c in "\\`*|[]~"}}
#: An underscore inside a word is none of Markdown's business.
_MARKDOWN_SPECIAL = re.compile(r"[&<\\`*|\[\]~]|(?<![^\W_])_|_(?![^\W_])")


def _markdown(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(lambda m: _MARKDOWN.get(m[0], f"\\{m[0]}"), printable(text))


# --------------------------------------------------------------------------- LaTeX


def to_latex(page: Page) -> str:
    r"""A page as LaTeX to ``\input``; it needs the packages booktabs and graphicx."""
    return _LATEX.get_template("page.tex").render(page=page)


def latex_document(pages: Iterable[Page]) -> str:
    r"""A document that inputs the files of all pages, for pdflatex."""
    return _LATEX.get_template("document.tex").render(names=[page.name for page in pages])


def _pieces(rows: list[Any]) -> list[list[Any]]:
    """The rows of a table, cut into such as fit a page each."""
    return [rows[start : start + _LATEX_ROWS] for start in range(0, len(rows), _LATEX_ROWS) or [0]]


_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\`{}",
    "±": r"\(\pm\)",
    "²": r"\(^2\)",
    "−": r"\(-\)",
    "…": r"\ldots{}",
    "–": r"\textendash{}",
    # After the end of a table's row these two would be taken for its options.
    "[": "{[}",
    "*": "{*}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}
_MINUS = re.compile(r"(?<![\w.])-(?=\.?\d)")
#: What TeX may not take as it stands; most texts of a table have little of it.
_LATEX_OTHER = re.compile(r"[^A-Za-z0-9 .,:;=()/+-]")
#: Letters of Latin-1 that TeX's first fonts do not have.
_FOREIGN = "ÐðÞþ"


def _latex(text: str) -> str:
    shown = _MINUS.sub("−", printable(text))
    # Two hyphens in a row would become a dash.
    return _LATEX_OTHER.sub(lambda m: _latex_character(m[0]), shown).replace("--", "-{}-")


def _latex_character(character: str) -> str:
    if character in _LATEX_SPECIAL:
        return _LATEX_SPECIAL[character]
    accented = "À" <= character <= "ÿ" and character.isalpha() and character not in _FOREIGN
    return character if character.isascii() or accented else f"{{[}}U+{ord(character):04X}]"


# --------------------------------------------------------------------------- HTML


def to_html(page: Page) -> str:
    """A page as a fragment of HTML, escaped: what stands between ``<section>`` tags."""
    return _HTML.get_template("page.html").render(page=page)


def html_document(page: Page) -> str:
    """A page as an HTML file of its own."""
    return _HTML.get_template("document.html").render(page=page, fragment=Markup(to_html(page)))


def _environment(**options: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("multirun_analysis.tables"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters.update(table=_table, pieces=_pieces, plain=printable, latex=_latex)
    return environment


_HTML = _environment(autoescape=True)
# LaTeX is full of braces and percent signs, which are Jinja's own marks.
_LATEX = _environment(
    autoescape=False,
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
)


# --------------------------------------------------------------------------- CSV


def to_csv(page: Page) -> str:
    """The numbers of a page in full precision."""
    return csv_text(page.data)


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV, in which a spreadsheet finds no formula to run."""
    texts = frame.select_dtypes(["object", "string"]).columns
    inert = frame.assign(**{name: frame[name].map(_inert) for name in texts})
    return str(inert.to_csv(index=False))


def _inert(value: Any) -> Any:
    dangerous = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if dangerous else value
