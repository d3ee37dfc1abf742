"""The studies under docs/results: their files follow from their records, their texts from those."""

import re
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from multirun_analysis.__main__ import main

# All studies are made anew once, by one worker, which takes minutes where the machine is shared.
pytestmark = [pytest.mark.xdist_group("results"), pytest.mark.timeout(900)]

RESULTS = Path(__file__).parents[1] / "docs/results"

#: Each study's cells, and what the command that wrote its files was given.
STUDIES = {
    "digits": (190, ["--report", "reference=empirical_sam"]),
    "digits_clean": (190, ["--report", "reference=empirical_sam", "effects=opt:sgd"]),
    "ablation": (240, ["--report", "effects=opt:sam"]),
    "ablation_clean": (240, ["--report", "effects=opt:sam"]),
    "cifar100_mini": (18, ["--report"]),
    "cifar100_mini_gpu": (12, []),
}
REPORTED = [study for study, (_, options) in STUDIES.items() if "--report" in options]
PAGES = [(study, file.stem) for study in STUDIES for file in sorted((RESULTS / study).glob("*.md"))]


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The tables of each study, made anew from its records."""
    root = tmp_path_factory.mktemp("results")
    for study, (_, options) in STUDIES.items():
        with tarfile.open(RESULTS / study / "records.tar.xz") as archive:
            archive.extractall(root / "multirun", filter="data")
        make(root, study, *(option for option in options if option != "--report"))
    return root


@pytest.fixture(scope="module")
def reported(again):
    """With figures and report."""
    for study in REPORTED:
        make(again, study, *STUDIES[study][1])
    return again


def make(root, study, *options):
    folders = [f"root={root / 'multirun'}", f"out={root}"]
    assert main([f"study={study}", "--quiet", *options, *folders]) == 0


@pytest.mark.parametrize("study", STUDIES)
def test_all_cells_are_complete(again, study):
    num_cells, _ = STUDIES[study]
    cells = list((again / "multirun" / study / "cells").iterdir())
    assert len(cells) == num_cells
    assert {len(list(cell.iterdir())) for cell in cells} == {2}


@pytest.mark.parametrize(("study", "name"), PAGES)
def test_tables_follow_from_the_records(again, study, name):
    ours, theirs = (folder / study / name for folder in (again, RESULTS))
    assert ours.with_suffix(".md").read_text() == theirs.with_suffix(".md").read_text()
    frames = (pd.read_csv(file.with_suffix(".csv")) for file in (ours, theirs))
    assert_frame_equal(*frames, rtol=1e-9)


def test_one_worker_makes_them_all(request):
    """The group is part of a test's name where workers share the tests, or it has no effect."""
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@results")


@pytest.mark.slow
@pytest.mark.parametrize("study", REPORTED)
def test_the_report_follows_from_the_records(reported, study):
    # Drawings differ by library version; everything that is said and laid out does not.
    ours, theirs = (
        re.sub(r'src="data:[^"]*"', "", (folder / study / "report.html").read_text())
        for folder in (reported, RESULTS)
    )
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("study", REPORTED)
def test_every_figure_is_there(reported, study):
    ours, theirs = ({f.name for f in (root / study).glob("*.png")} for root in (reported, RESULTS))
    assert ours == theirs


@pytest.mark.parametrize("study", REPORTED)
def test_nothing_is_missing(study):
    pages = {name for of, name in PAGES if of == study}
    assert {"accuracy", "accuracy_train", "sharpness", "effects", "matched", "verdicts"} <= pages
    figures = ("effects_headline.png", "accuracy_rho.png", "sharpness_fit.png")
    for name in ("report.html", *figures, "amplified_share.png"):
        assert (RESULTS / study / name).exists()


#: M − D on digits at rho 0.1, 0.2, 0.4, each recomputed by another program.
RECOMPUTED = {
    ("log_lambda_max", "element", "fit_estimate"): [0.01, -0.06, -0.28],
    ("log_lambda_max", "global", "fit_estimate"): [-0.08, -0.02, -0.28],
    ("log_lambda_max", "element", "p_adjusted"): [0.023, 0.023, 0.023],
    ("test_accuracy", "element", "p_adjusted"): [0.023, 0.023, 0.059],
    ("test_accuracy", "global", "p_adjusted"): [0.023, 0.023, 0.346],
}


@pytest.mark.parametrize(("outcome", "granularity", "column"), RECOMPUTED)
def test_contrasts_of_digits_are_those_recomputed(outcome, granularity, column):
    effects = pd.read_csv(RESULTS / "digits/effects.csv")
    rows = effects[effects["effect"] == "magnitude_minus_direction"]
    rows = rows[(rows["outcome"] == outcome) & (rows["granularity"] == granularity)]
    expected = RECOMPUTED[outcome, granularity, column]
    unit = 0.01 if column == "fit_estimate" else 0.001
    assert rows[column].tolist() == pytest.approx(expected, abs=unit / 2 + 1e-9)
    assert set(rows["family"]) == {"confirmatory"} and set(rows["family_size"]) == {12}
    if outcome == "log_lambda_max":
        assert rows["fit_r2"].round(2).tolist() == [0.91] * 3


def test_at_best_validation_the_global_contrast_at_0_4_is_the_other_way_round():
    effects = pd.read_csv(RESULTS / "digits/effects.csv").query(
        "effect == 'magnitude_minus_direction' and granularity == 'global' and rho == 0.4"
    )
    best = effects[effects["outcome"] == "best_test_accuracy"].iloc[0]
    numbers = best[["estimate", "t_low", "t_high"]].astype(float).round(2)
    assert numbers.tolist() == [3.32, 2.03, 4.61]
    assert best["family"] == "exploratory"


def test_sgdhess_less_sgd_on_digits():
    contrasts = pd.read_csv(RESULTS / "digits/sgdhess_effects.csv")
    rows = contrasts[contrasts["outcome"] == "log_lambda_max"]
    assert rows["rho"].tolist() == [0.05, 1, 2]
    assert rows["estimate"].round(2).tolist() == [0.0, -0.56, -0.66]
    assert rows["p"].round(3).tolist() == [0.977, 0.006, 0.004]


def numbers(page, pattern):
    """What of a text is a number with its spread, and what of it no table has."""
    found = re.findall(pattern, page.read_text())
    tables = "".join((RESULTS / study / f"{name}.md").read_text() for study, name in PAGES)
    return found, [number for number in found if number not in tables.replace("\\", "")]


@pytest.mark.parametrize("page", [RESULTS / "README.md", RESULTS.parents[1] / "README.md"])
def test_every_interval_in_the_text_is_one_of_the_tables(page):
    found, missing = numbers(page, r"[+−][\d.]+ \[[^\]]+\]")
    assert found
    assert missing == []


def test_every_mean_in_the_text_is_one_of_the_tables():
    found, missing = numbers(RESULTS / "README.md", r"[\d.]+ ± [\d.]+")
    assert found
    assert missing == []
