"""Rows of cells to rows of tables: the arithmetic."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from multirun_analysis import load_runs
from multirun_analysis.stats.summary import split_by_recipe, summarize

from ..conftest import Study, cell, variant


def test_the_summary_has_exact_numbers(study: Study) -> None:
    for seed, value in enumerate((90.0, 91.0, 95.0)):
        study.add(cell(variant("sam", 0.1), seed=seed), value)
    [row] = summarize(load_runs(study.folder), "test_accuracy").to_dict("records")
    assert (row["mean"], row["median"], row["n"]) == (92.0, 91.0, 3)
    assert row["sd"] == pytest.approx(7**0.5)


def test_recipes_are_split_and_never_averaged(study: Study) -> None:
    study.add(cell(variant("sgd"), seed=0), 90.0)
    study.add(cell(variant("sgd"), seed=1, epochs=5), 50.0)
    study.add(cell(variant("sgd"), seed=2, base="adamw", momentum=None), 70.0)
    runs = load_runs(study.folder)
    parts = split_by_recipe(runs)
    assert [title.split(", ")[1] for title, _ in parts] == ["5 epochs", "40 epochs", "40 epochs"]
    means = [summarize(cells, "test_accuracy")["mean"].tolist() for _, cells in parts]
    assert means == [[50.0], [70.0], [90.0]]
    assert sorted(summarize(runs, "test_accuracy")["mean"]) == [50.0, 70.0, 90.0]
    assert split_by_recipe(runs.head(0)) == []


def test_the_order_of_records_on_disk_changes_nothing(study: Study) -> None:
    for seed, value in enumerate((90.0, 91.0, 95.0)):
        study.add(cell(variant("sam", 0.1), seed=seed), value)
        study.add(cell(variant("sgd"), seed=seed), value - 1)
    runs = load_runs(study.folder)
    shuffled = runs.sample(frac=1, random_state=0)
    assert summarize(runs, "test_accuracy").equals(summarize(shuffled, "test_accuracy"))


@pytest.mark.parametrize("strange", [math.inf, -math.inf, math.nan])
def test_no_number_counts_that_is_not_finite(study: Study, strange: float) -> None:
    for seed in range(3):
        study.add(cell(variant("sgd"), seed=seed), 4.0)
    runs = load_runs(study.folder)
    runs.loc[runs["seed"] == 1, "test_accuracy"] = strange
    [row] = summarize(runs, "test_accuracy").to_dict("records")
    assert (row["mean"], row["n"], row["n_missing"]) == (4.0, 2, 1)


def test_a_cell_that_is_not_complete_has_no_value_whatever_it_says(study: Study) -> None:
    study.add(cell(variant("sgd")), 90.0)
    runs = load_runs(study.folder).assign(status=pd.array(["diverged"], dtype="string"))
    [row] = summarize(runs, "test_accuracy").to_dict("records")
    assert row["n"] == 0 and row["n_diverged"] == 1 and math.isnan(row["mean"])
