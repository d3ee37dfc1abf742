"""Pages in each format."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multirun_analysis.tables.formats import (
    csv_text,
    html_document,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
)
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.tables.render import write_pages

SPECIAL = (
    r"a_b _c_ 100% $x$ #1 & {y} ~ ^ \cmd `code` *bold* [link](x) <b>&amp;</b> | é ł 中 -- "
    """"q" 'r'"""
)


def _page(text: str = SPECIAL, rows: int = 2) -> Page:
    table = pd.DataFrame({text: [text] * rows, "value": ["1.00 ± 0.50 (n=3)"] * rows})
    best = pd.DataFrame({text: [False] * rows, "value": [True] + [False] * (rows - 1)})
    return Page(
        name="page",
        title=text,
        legend=text,
        sections=(
            Section(heading=text, text=(text,)),
            Section(heading=text, level=3, table=table, best=best),
            Section(heading="", text=("No heading.",)),
        ),
        data=pd.DataFrame({"x": [0.1 + 0.2, np.nan, -1.5], "text": ["=1+1", None, "a"]}),
    )


class _Text(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _parsed(html: str) -> _Text:
    parser = _Text()
    parser.feed(html)
    parser.close()
    return parser


# --------------------------------------------------------------------------- HTML


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_stays_text_in_html(text: str) -> None:
    plain, found = _parsed(to_html(_page("x"))), _parsed(to_html(_page(text)))
    assert found.tags == plain.tags


def test_html_shows_what_was_given() -> None:
    found = _parsed(to_html(_page()))
    assert found.texts.count(SPECIAL) == 3 + 1 + 1 + 1 + 2  # title to header, and two rows
    assert found.tags.count("strong") == 1


def test_an_html_document_is_whole() -> None:
    text = html_document(_page())
    assert text.startswith("<!DOCTYPE html>") and to_html(_page()) in text
    assert "http" not in text  # nothing is fetched


# --------------------------------------------------------------------------- Markdown


def test_markdown_of_a_page() -> None:
    table = pd.DataFrame({"optimizer": ["SGD", "SAM"], "rho=0.1": ["", "9.0"]})
    best = pd.DataFrame({"optimizer": [False, False], "rho=0.1": [False, True]})
    page = Page(
        name="x",
        title="Title",
        legend="Legend.",
        sections=(
            Section(heading="Recipe", text=("One.", "Two.")),
            Section(heading="resnet8", level=3, table=table, best=best),
            Section(heading="", text=("Alone.",)),
        ),
    )
    assert to_markdown(page) == (
        "# Title\n\nLegend.\n\n## Recipe\n\nOne.\n\nTwo.\n\n### resnet8\n\n"
        "| optimizer   | rho=0.1   |\n|:------------|:----------|\n"
        "| SGD         |           |\n| SAM         | **9.0**   |\n\nAlone.\n"
    )


def test_markdown_escapes_what_it_would_take_for_markup() -> None:
    page = Page(name="x", title="a_b _c_ *d* [e](f) `g` <h> & | \\ ~~i~~")
    assert to_markdown(page) == (
        "# a_b \\_c\\_ \\*d\\* \\[e\\](f) \\`g\\` &lt;h> &amp; \\| \\\\ \\~\\~i\\~\\~\n"
    )


def test_a_line_break_ends_no_row() -> None:
    lines = to_markdown(_page("one\n| two |\r\n# three")).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 4
    assert not any(line.startswith("# three") for line in lines)


# --------------------------------------------------------------------------- LaTeX


def test_latex_escapes_every_special_character() -> None:
    text = to_latex(Page(name="x", title='\\~^<>|"`±[*&%$#_{} -1 a-b -- 1e-4 中'))
    assert text.splitlines()[1] == (
        r"\section*{\textbackslash{}\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}"
        r"\textbar{}''\`{}\(\pm\){[}{*}\&\%\$\#\_\{\} \(-\)1 a-b -{}- 1e-4 {[}U+4E2D]}"
    )


def test_latex_tables_are_booktabs_with_the_best_in_bold() -> None:
    text = to_latex(_page("name"))
    assert r"\toprule" in text and r"\midrule" in text and r"\bottomrule" in text
    assert r"name & \textbf{1.00 \(\pm\) 0.50 (n=3)} \\" in text
    assert r"\begin{tabular}{lr}" in text and r"\subsubsection*{name}" in text


def test_a_long_table_is_cut_into_pieces() -> None:
    text = to_latex(_page("name", rows=95))
    assert text.count(r"\begin{tabular}") == 3 and text.count("name &") == 95 + 3


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    every = "".join(chr(c) for c in range(0x20, 0x180)) + " […] ε λ ρ – − 中 \x00\n"
    pages = [_page(), _page(every, rows=50), _page("[1pt] *")]
    pages = [replace(page, name=f"page{n}") for n, page in enumerate(pages)]
    write_pages(pages, tmp_path)
    options = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    done = subprocess.run(
        ["pdflatex", *options, "tables.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000


# --------------------------------------------------------------------------- CSV


def test_csv_has_full_precision_and_no_formula() -> None:
    assert to_csv(_page()) == "x,text\n0.30000000000000004,'=1+1\n,\n-1.5,a\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_finds_nothing_to_run(start: str) -> None:
    frame = pd.DataFrame({"a": pd.array([f"{start}cmd|' /C calc'!A0"], dtype="string")})
    assert pd.read_csv(StringIO(csv_text(frame)))["a"].iloc[0].startswith("'")
