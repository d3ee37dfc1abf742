"""The studies under docs/results: their files follow from their records, their texts from those."""

import re
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from multirun_analysis.__main__ import main

RESULTS = Path(__file__).parents[1] / "docs/results"
DIGITS = RESULTS / "digits"
TABLES = sorted(file.stem for file in DIGITS.glob("*.md"))


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The tables, figures and report of the digits study, made anew from its records."""
    root = tmp_path_factory.mktemp("results")
    with tarfile.open(DIGITS / "records.tar.xz") as archive:
        archive.extractall(root / "multirun", filter="data")
    folders = ["--root", str(root / "multirun"), "--out", str(root)]
    options = ["--quiet", "--report", "--reference", "empirical_sam"]
    assert main(["--study", "digits", *options, *folders]) == 0
    return root / "digits"


def test_all_cells_are_complete(again):
    cells = list((again.parent / "multirun/digits/cells").iterdir())
    assert len(cells) == 190
    assert {len(list(cell.iterdir())) for cell in cells} == {2}


@pytest.mark.parametrize("name", TABLES)
def test_tables_follow_from_the_records(again, name):
    assert (again / f"{name}.md").read_text() == (DIGITS / f"{name}.md").read_text()
    ours, theirs = (pd.read_csv(folder / f"{name}.csv") for folder in (again, DIGITS))
    assert_frame_equal(ours, theirs, rtol=1e-9)


def test_the_report_follows_from_the_records(again):
    # Drawings differ by library version; everything that is said and laid out does not.
    ours, theirs = (
        re.sub(r'src="data:[^"]*"', "", (folder / "report.html").read_text())
        for folder in (again, DIGITS)
    )
    assert ours == theirs


def test_every_figure_is_there(again):
    assert {file.name for file in again.glob("*.png")} == {f.name for f in DIGITS.glob("*.png")}


def test_nothing_is_missing():
    assert {"accuracy", "sharpness", "effects", "conclusions", "comparison"} <= set(TABLES)
    for name in ("report.html", "effects_headline.png", "accuracy_rho.png", "amplified_share.png"):
        assert (DIGITS / name).exists()


@pytest.mark.parametrize("page", [RESULTS / "README.md", RESULTS.parents[1] / "README.md"])
def test_every_interval_in_the_text_is_one_of_the_tables(page):
    intervals = re.findall(r"[+−][\d.]+ \[[^\]]+\]", page.read_text())
    effects = (DIGITS / "effects.md").read_text().replace("\\", "")
    assert intervals
    assert [interval for interval in intervals if interval not in effects] == []
