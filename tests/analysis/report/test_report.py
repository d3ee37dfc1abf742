"""The report: one file that holds all, loads nothing, runs nothing, and fits a phone and paper."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from multirun_analysis.figures.captions import Picture
from multirun_analysis.figures.gallery import draw_figures
from multirun_analysis.figures.style import styled
from multirun_analysis.report.page import report_html
from multirun_analysis.report.provenance import QUESTION, design, provenance, question, ranges
from multirun_analysis.runs.load import load_measurements, load_runs
from multirun_analysis.study import open_study
from multirun_analysis.tables.pages import Page, Section

from ..conftest import Study, attempt, cell, measurement, small, variant
from ..conftest import provenance as origin

# The fixtures of the module are made once: one worker runs it.
pytestmark = pytest.mark.xdist_group("report")

HOSTILE = """<script>alert("x")</script><img src=x onerror='alert(1)'>&amp;"""


def report_of(root: Path, pictures: Iterable[Picture] | None = None, *extra: Page) -> str:
    """The report of the study under a root, with its figures if no others are given."""
    read = open_study("default", root)
    drawn = draw_figures(read).values() if pictures is None else pictures
    return report_html(read, drawn, extra)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of the small grid, with a file that cannot be read and a launch, rendered once."""
    study = small(Study(tmp_path_factory.mktemp("report") / "multirun" / "default"))
    study.plant("x")
    command = "python -m samsweep.run -m opt=sam rho=0.1,0.2"
    study.launch("1", study.written[-2].cell_id, command=command)
    return report_of(study.folder.parent)


class _Document(HTMLParser):
    """Tags with their attributes, and the text of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


# --------------------------------------------------------------------------- self-contained


def test_nothing_is_loaded_and_nothing_runs(report: str) -> None:
    document = _Document(report)
    assert not document.all("script", "link", "iframe", "object", "embed", "base", "form")
    sources = [attributes["src"] or "" for attributes in document.all("img")]
    assert sources and all(source.startswith("data:image/") for source in sources)
    for _, attributes in document.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "#").startswith("#")
        assert "srcset" not in attributes
    assert "@import" not in report and "url(" not in report


def test_the_content_security_policy_forbids_the_rest(report: str) -> None:
    document = _Document(report)
    (policy,) = [meta for meta in document.all("meta") if "http-equiv" in meta]
    assert policy["http-equiv"] == "Content-Security-Policy"
    said = set((policy["content"] or "").split("; "))
    assert {"default-src 'none'", "img-src data:", "style-src 'unsafe-inline'"} <= said
    assert not any("script" in part or "*" in part for part in said)


def test_every_name_is_escaped(study: Study, root: Path) -> None:
    study.add(cell(variant("sam", 0.1)), status="failed", error=f"Traceback\n{HOSTILE}")
    done = origin(host=HOSTILE, device=HOSTILE, command=HOSTILE, versions={HOSTILE: HOSTILE})
    study.add(cell(variant("sgd")), 90.0, measurement(3.0), attempts=(attempt(provenance=done),))
    study.launch("1", study.written[0].cell_id, command=HOSTILE)
    picture = Picture(
        name=HOSTILE, title=HOSTILE, figure=Figure(), caption=HOSTILE, alt=f'">{HOSTILE}'
    )
    sections = (Section(heading=HOSTILE, text=(HOSTILE,)),)
    page = Page(name=HOSTILE, title=HOSTILE, legend=HOSTILE, sections=sections)
    plain = _Document(report_of(root, [picture], page))
    assert not plain.all("script")
    assert all((image["src"] or "").startswith("data:") for image in plain.all("img"))
    assert plain.text.count("<script>") >= 10
    for _, attributes in plain.tags:
        assert "onerror" not in attributes
        if "id" in attributes:
            assert re.fullmatch(r"[\w-]+", attributes["id"] or "") or attributes["id"] == HOSTILE


# --------------------------------------------------------------------------- what it holds


def test_every_part_is_there_and_in_the_table_of_contents(report: str) -> None:
    document = _Document(report)
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] or "" for attributes in document.all("a")]
    assert all(link.removeprefix("#") in ids for link in links)
    parts = ("question", "verdicts", "design", "tables", "figures", "effects", "provenance")
    assert [f"#part-{part}" for part in (*parts, "unfinished")] == [
        link for link in links if link.startswith("#part-")
    ]
    assert "#page-accuracy" in links and "#figure-accuracy_rho" in links


def test_what_is_unfinished_is_counted_with_the_command_that_runs_it(report: str) -> None:
    text = _Document(report).text
    assert "2 of 9 cells have no result" in text
    assert "python -m samsweep.run -m opt=sam rho=0.1,0.2" in text
    assert "x/record.json" in text
    assert all(paragraph in text for paragraph in QUESTION)
    assert "sign(h) · |g|" in text and "SAMMAGNITUDE − SAMDIRECTION" in text
    assert "96.66" in text and "?? (failed)" in text


def test_the_question_names_the_granularities_that_were_run(study: Study) -> None:
    study.add(cell(variant("sam", 0.1)), 90.0)
    assert question(load_runs(study.folder)) == QUESTION
    study.add(cell(variant("samdirection", 0.1, granularity="global")), 90.0)
    assert question(load_runs(study.folder))[-1] == "This study asks it of the whole gradient."
    study.add(cell(variant("sammagnitude", 0.1)), 90.0)
    asked = question(load_runs(study.folder))[-1]
    assert asked == "This study asks it of each element and of the whole gradient."


def test_headings_go_down_one_level_at_a_time(report: str) -> None:
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", report)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(below - above <= 1 for above, below in zip(levels, levels[1:], strict=False))
    opened, closed = re.findall(r"<h([1-6])\b", report), re.findall(r"</h([1-6])>", report)
    assert opened == closed


def test_figures_have_captions_and_texts_and_tables_scroll_by_themselves(report: str) -> None:
    document = _Document(report)
    images = document.all("img")
    assert len(document.all("figure")) == len(document.all("figcaption")) == len(images) > 3
    assert all(len(image["alt"] or "") > 40 for image in images)
    tables = report.count("<table")
    assert tables == len(re.findall(r'<div class="scroll[^>]*>\s*<table', report))
    assert tables == len(re.findall(r"</table>\s*</div>", report)) and "scope=" in report


def test_without_anything_the_report_says_so(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")), 90.0)
    document = _Document(report_of(root))
    assert not document.all("figure")
    for words in (
        "No contrast of direction and magnitude",
        "Every cell has a result.",
        "Every record could be read.",
        "Nothing was measured yet.",
        "None: complete are 1 of 1.",
    ):
        assert words in document.text


@styled
def _noise(points: int) -> Figure:
    figure = Figure(figsize=(4, 3))
    rng = np.random.default_rng(0)
    figure.subplots().plot(rng.normal(size=points), rng.normal(size=points), linewidth=0.2)
    return figure


def test_a_large_drawing_is_held_as_pixels(small_grid: Study, root: Path) -> None:
    sources = {}
    for points in (10, 20_000):
        picture = Picture(name="p", title="p", figure=_noise(points), caption="c", alt="a")
        document = _Document(report_of(root, [picture]))
        ((sources[points]),) = (image["src"] or "" for image in document.all("img"))
    assert sources[10].startswith("data:image/svg+xml;base64,")
    kind, _, content = sources[20_000].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(BytesIO(base64.b64decode(content))) as image:
        assert image.size == (600, 450)


# --------------------------------------------------------------------------- design and provenance


def test_the_design_lists_each_formula_with_radii_and_seeds(study: Study, root: Path) -> None:
    for seed in (0, 1, 2, 5):
        for rho in (0.1, 0.2):
            study.add(cell(variant("samdirection", rho), seed=seed))
    study.add(cell(variant("sgd")))
    (section,) = design(load_runs(root / "default")).sections
    assert section.table is not None
    rows = section.table.set_index("optimizer").to_dict("index")
    assert rows["SAMDIRECTION"]["rho"] == "0.1, 0.2"
    assert rows["SAMDIRECTION"]["seeds"] == "0–2, 5"
    assert rows["SAMDIRECTION"]["cells"] == "8"
    assert rows["SAMDIRECTION"]["vector"] == study.written[0].formula
    assert rows["SGD"]["rho"] == "" and rows["SGD"]["granularity"] == ""


def test_ranges_of_whole_numbers() -> None:
    assert ranges([3]) == "3"
    assert ranges([2, 0, 1, 1, 7, 8]) == "0–2, 7–8"
    assert ranges([]) == ""


def _section(page: Page, heading: str) -> Section:
    (found,) = [section for section in page.sections if section.heading == heading]
    return found


def _rows(section: Section) -> list[dict[Any, Any]]:
    assert section.table is not None
    return section.table.to_dict("records")


def test_provenance_counts_cells_by_code_and_machine(study: Study, root: Path) -> None:
    places = [("abc", False, "node1"), ("abc", False, "node1"), ("def", True, "node2")]
    for seed, (commit, dirty, host) in enumerate(places):
        done = attempt(
            seconds=1800.0, provenance=origin(git_commit=commit, git_dirty=dirty, host=host)
        )
        study.add(cell(variant("sgd"), seed=seed), 90.0, measurement(3.0), attempts=(done,))
    study.add(cell(variant("sgd"), seed=3), attempts=())
    runs, found = load_runs(root / "default"), load_measurements(root / "default")
    page = provenance(runs, found, study.written)
    code = _section(page, "Code and machines")
    assert [
        (row["commit"], row["source"], row["host"], row["cells"], row["hours"])
        for row in _rows(code)
    ] == [
        ("abc", "clean", "node1", "2", "1.00"),
        ("def", "changed since the commit", "node2", "1", "0.50"),
    ]
    assert {row["RESULTS_VERSION"] for row in _rows(code)} == {
        str(study.written[0].results_version)
    }
    assert code.text == ("1 cell was trained by source that differed from its commit.",)
    assert _rows(_section(page, "Versions")) == [
        {"library": "python", "version": "3.11.7", "cells": "3"}
    ]
    assert _rows(_section(page, "Commands"))[0]["cells"] == "3"
    assert "Seeds: 0–3." in page.legend
    (settings,) = _rows(_section(page, "Measurements"))
    assert settings["cells"] == "3" and "2048 examples" in settings["measurement"]


def test_provenance_names_the_cells_without_a_result(small_grid: Study, root: Path) -> None:
    runs, found = load_runs(root / "default"), load_measurements(root / "default")
    page = provenance(runs, found, small_grid.written)
    lost = _section(page, "Cells without a result")
    assert lost.text[0].startswith("3 of 9 cells: ")
    rows = _rows(lost)
    assert [row["status"] for row in rows][0] == "diverged"
    assert {row["why"] for row in rows} == {
        "the loss is nan at step 12",
        "RuntimeError: out of memory",
        "",
    }


# --------------------------------------------------------------------------- in a browser


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to render with")

#: Asks the report how wide it is at a width of its own; the report itself runs no script.
_MEASURE = """<!DOCTYPE html><meta charset="utf-8">
<iframe src="report.html" style="width:{width}px;height:800px;border:0"></iframe>
<pre id="out"></pre>
<script>
onload = () => {{
  const inside = document.querySelector("iframe").contentDocument;
  const images = [...inside.images];
  const root = inside.documentElement;
  const wide = [...inside.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth);
  document.getElementById("out").textContent = JSON.stringify({{
    page: root.scrollWidth, view: root.clientWidth, scrolling: wide.length,
    loaded: images.filter(i => i.complete && i.naturalWidth > 0).length, images: images.length,
  }});
}};
</script>"""


def chromium(folder: Path, *options: str) -> str:
    """Run the browser without a window and give back what it prints."""
    assert CHROMIUM is not None
    usual = ["headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"]
    usual += ["allow-file-access-from-files", f"user-data-dir={folder / 'profile'}"]
    command = [CHROMIUM, *(f"--{option}" for option in usual), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_never_scrolls_sideways_and_shows_every_figure(
    report: str, tmp_path: Path, width: int
) -> None:
    (tmp_path / "report.html").write_text(report, encoding="utf-8")
    page = tmp_path / "measure.html"
    page.write_text(_MEASURE.format(width=width), encoding="utf-8")
    options = ["--window-size=1300,900", "--virtual-time-budget=5000", "--dump-dom"]
    dump = chromium(tmp_path, *options, page.as_uri())
    found = re.search(r'<pre id="out">(\{.*?\})</pre>', dump)
    assert found is not None, dump[-500:]
    numbers = json.loads(found[1])
    assert numbers["view"] == width
    assert numbers["page"] <= width
    assert numbers["loaded"] == numbers["images"] > 3
    assert numbers["scrolling"] >= (1 if width == 390 else 0)


@needs_browser
def test_it_prints_on_paper(report: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report, encoding="utf-8")
    pdf = tmp_path / "report.pdf"
    chromium(tmp_path, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri())
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF") and len(content) > 50_000
