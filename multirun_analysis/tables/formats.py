"""Pages as Markdown, LaTeX, HTML and CSV.

Names in a page come from records, and so from anywhere. Each format escapes what it would take for
markup, and what a terminal would obey is written out: a name is shown, never acted on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.wording.labels import printable

#: Rows of one LaTeX table: no more fit a page.
_LATEX_ROWS = 40


class Cell(NamedTuple):
    """A cell of a table, in plain text."""

    text: str
    best: bool


class Table(NamedTuple):
    """A table, in plain text."""

    header: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]


def _table(section: Section) -> Table | None:
    """The table of a section on which every format builds; None where there is none."""
    if section.table is None or not len(section.table.columns):
        return None
    texts = [[_plain(value) for value in row] for row in section.table.to_numpy(dtype=object)]
    best = (
        section.best.to_numpy(dtype=bool).tolist()
        if section.best is not None
        else [[False] * len(row) for row in texts]
    )
    return Table(
        header=[_plain(name) for name in section.table.columns],
        numeric=[any(_NUMBER.match(text) for text in column) for column in zip(*texts, strict=True)]
        or [False] * len(section.table.columns),
        rows=[
            [Cell(text, is_best) for text, is_best in zip(row, marks, strict=True)]
            for row, marks in zip(texts, best, strict=True)
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
    blocks = [f"# {_markdown(page.title)}", _markdown(page.legend)]
    for section in page.sections:
        if section.heading:
            blocks.append(f"{'#' * section.level} {_markdown(section.heading)}")
        blocks += [_markdown(paragraph) for paragraph in section.text]
        table = _table(section)
        if table is not None:
            blocks.append(_markdown_table(table))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_table(table: Table) -> str:
    rows = [
        [f"**{_markdown(cell.text)}**" if cell.best else _markdown(cell.text) for cell in row]
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
    return _LATEX.get_template("page.tex").render(page=page, sections=_sections(page))


def latex_document(pages: Iterable[Page]) -> str:
    r"""A document that inputs the files of all pages, for pdflatex."""
    return _LATEX.get_template("document.tex").render(names=[page.name for page in pages])


def _pieces(table: Table) -> list[Table]:
    """A table cut into such as fit a page each."""
    starts = range(0, len(table.rows), _LATEX_ROWS) or [0]
    return [table._replace(rows=table.rows[start : start + _LATEX_ROWS]) for start in starts]


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
    return _HTML.get_template("page.html").render(page=page, sections=_sections(page))


def html_document(page: Page) -> str:
    """A page as an HTML file of its own."""
    return _HTML.get_template("document.html").render(page=page, fragment=Markup(to_html(page)))


class _View(NamedTuple):
    """A section as the templates take it."""

    heading: str
    level: int
    text: Sequence[str]
    table: Table | None


def _sections(page: Page) -> list[_View]:
    return [_View(s.heading, s.level, s.text, _table(s)) for s in page.sections]


def _environment(**options: Any) -> Environment:
    return Environment(
        loader=PackageLoader("multirun_analysis.tables"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )


_HTML = _environment(autoescape=True)
_HTML.filters["plain"] = printable
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
_LATEX.filters.update(latex=_latex, pieces=_pieces)


# --------------------------------------------------------------------------- CSV


def to_csv(page: Page) -> str:
    """The numbers of a page in full precision."""
    return csv_text(page.data)


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV, in which a spreadsheet finds no formula to run.

    A text that starts like a formula has an apostrophe before it.
    """
    texts = frame.select_dtypes(["object", "string"]).columns
    return str(
        frame.assign(**{name: frame[name].map(_inert) for name in texts}).to_csv(index=False)
    )


def _inert(value: Any) -> Any:
    dangerous = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if dangerous else value
