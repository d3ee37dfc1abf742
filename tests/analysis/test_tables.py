"""Frames to tables."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from multirun_analysis import accuracy_table, load_measurements, load_runs, sharpness_table
from multirun_analysis.tables import (
    join_measurements,
    sgd_table,
    split_by_recipe,
    summarize,
)
from multirun_analysis.text import significant
from samsweep.config import VARIANTS

from .conftest import Study, cell, measurement, variant


def _row(table: pd.DataFrame, optimizer: str, granularity: str = "") -> dict[str, Any]:
    rows = table[(table["optimizer"] == optimizer) & (table["granularity"] == granularity)]
    [row] = rows.to_dict("records")
    return {str(key): value for key, value in row.items()}


def _joined(study: Study) -> pd.DataFrame:
    return join_measurements(load_runs(study.folder), load_measurements(study.folder))


def test_the_small_grid(small_grid: Study) -> None:
    table = accuracy_table(load_runs(small_grid.folder))
    assert list(table.columns) == [
        "model", "optimizer", "granularity", "no rho", "rho=0.1", "rho=0.2", "rho=0.5"
    ]  # fmt: skip
    assert table["optimizer"].tolist() == [
        "SGD", "SGDHESS", "SAM", "SAMDIRECTION", "SAMDIRECTION", "SAMMAGNITUDE"
    ]  # fmt: skip
    cells = table.set_index(["optimizer", "granularity"])[["no rho", "rho=0.1", "rho=0.2"]]
    assert cells.loc[("SGD", "")].tolist() == ["92.40", "", ""]
    assert cells.loc[("SAM", "")].tolist() == ["", "96.66", "diverged"]
    assert cells.loc[("SAMDIRECTION", "element")].tolist() == ["", "91.72", "96.00"]
    assert cells.loc[("SAMDIRECTION", "global")].tolist() == ["", "97.10", "??"]
    assert cells.loc[("SAMMAGNITUDE", "element")].tolist() == ["", "??", "?? (failed)"]


def test_nothing_missing_is_shown_as_a_number(small_grid: Study) -> None:
    for table in (
        accuracy_table(load_runs(small_grid.folder)),
        sharpness_table(_joined(small_grid)),
    ):
        texts = [str(text) for text in table.to_numpy().ravel()]
        assert not {"0", "0.00", "nan", "NaN", "None", "<NA>"} & set(texts)


def test_no_rho_only_where_an_optimizer_has_none(study: Study) -> None:
    study.add(cell(variant("sam", 1.0)), 96.0)
    assert list(accuracy_table(load_runs(study.folder)).columns)[3:] == ["rho=1"]


def test_rho_is_sorted_as_a_number(study: Study) -> None:
    for rho in (10.0, 0.05, 2.0):
        study.add(cell(variant("sam", rho)), 96.0)
    columns = list(accuracy_table(load_runs(study.folder)).columns)
    assert columns[3:] == ["rho=0.05", "rho=2", "rho=10"]


def test_the_factor_of_sgdhess_is_no_radius_that_sam_lacks(study: Study) -> None:
    study.add(cell(variant("sam", 0.1)), 96.0)
    study.add(cell(variant("sgdhess", 1.0)), 92.0)
    study.add(cell(variant("sgdhess", 2.0, curvature="exact")), 91.0)
    table = accuracy_table(load_runs(study.folder))
    assert _row(table, "SAM")["rho=1"] == ""
    assert _row(table, "SGDHESS")["rho=0.1"] == ""
    assert _row(table, "SGDHESS")["rho=2"] == "??"
    assert _row(table, "SGDHESS (exact)")["rho=2"] == "91.00"


def test_a_model_lacks_the_cells_that_another_has(study: Study) -> None:
    study.add(cell(variant("sam", 0.1), model="resnet20"), 90.0)
    study.add(cell(variant("sam", 0.1), model="resnet8"), 90.0)
    study.add(cell(variant("sam", 0.2), model="resnet8"), 90.0)
    table = accuracy_table(load_runs(study.folder))
    assert table["model"].tolist() == ["resnet8", "resnet20"]
    assert table["rho=0.2"].tolist() == ["90.00", "??"]


@pytest.mark.parametrize(
    ("outcomes", "text"),
    [
        ([96.0], "96.00"),
        ([96.0, 97.0, 98.0], "97.00 ± 1.00 (n=3)"),
        ([96.0, 98.0, "diverged"], "97.00 ± 1.41 (n=2, 1 diverged)"),
        ([96.0, "diverged"], "96.00 (n=1, 1 diverged)"),
        ([96.0, 98.0, "failed", "running"], "97.00 ± 1.41 (n=2, 1 failed, 1 missing)"),
        (["diverged"], "diverged"),
        (["diverged", "diverged"], "diverged (2 of 2)"),
        (["diverged", "failed", "planned"], "diverged (1 of 3, 1 failed)"),
        (["failed"], "?? (failed)"),
        (["failed", "failed", "planned"], "?? (2 failed)"),
        (["planned"], "??"),
        (["interrupted", "running"], "??"),
    ],
)
def test_seeds_in_one_cell(study: Study, outcomes: list[Any], text: str) -> None:
    for seed, outcome in enumerate(outcomes):
        config = cell(variant("sam", 0.1), seed=seed)
        if isinstance(outcome, float):
            study.add(config, outcome)
        else:
            study.add(config, status=outcome)
    assert accuracy_table(load_runs(study.folder))["rho=0.1"].tolist() == [text]


def test_best_validation_is_another_column(study: Study) -> None:
    study.add(cell(variant("sam", 0.1)), 96.0)
    table = accuracy_table(load_runs(study.folder), column="best_test_accuracy")
    assert table["rho=0.1"].tolist() == ["97.00"]


def test_different_optimizers_are_different_rows(study: Study) -> None:
    chosen = [
        variant("samdirection", 0.1),
        variant("samdirection", 0.1, ascent="adaptive", eta=0.01),
        variant("samdirection", 0.1, granularity="tensor"),
        variant("samdirection", 0.1, granularity="global"),
        variant("asam", 0.1),
        variant("asam", 0.1, eta=0.5),
        variant("sgdhess", 0.1),
        variant("sgdhess", 0.1, curvature="exact"),
    ]
    for choice in reversed(chosen):
        study.add(cell(choice), 90.0)
    table = accuracy_table(load_runs(study.folder))
    assert table["rho=0.1"].tolist() == ["90.00"] * len(chosen)
    assert list(zip(table["optimizer"], table["granularity"], strict=True)) == [
        ("SGDHESS", ""),
        ("SGDHESS (exact)", ""),
        ("SAMDIRECTION", "element"),
        ("SAMDIRECTION", "tensor"),
        ("SAMDIRECTION", "global"),
        ("SAMDIRECTION (adaptive)", "element"),
        ("ASAM", ""),
        ("ASAM (eta 0.5)", ""),
    ]


def test_rows_follow_the_registry(study: Study) -> None:
    for name in sorted(VARIANTS):
        study.add(cell(variant(name, None if name == "sgd" else 0.1)), 90.0)
    table = accuracy_table(load_runs(study.folder))
    assert table["optimizer"].tolist() == [name.upper() for name in VARIANTS]


def test_recipes_are_split_and_never_averaged(study: Study) -> None:
    study.add(cell(variant("sgd"), seed=0), 90.0)
    study.add(cell(variant("sgd"), seed=1, epochs=5), 50.0)
    study.add(cell(variant("sgd"), seed=2, base="adamw", momentum=None), 70.0)
    runs = load_runs(study.folder)
    parts = split_by_recipe(runs)
    assert [title.split(", ")[1] for title, _ in parts] == ["5 epochs", "40 epochs", "40 epochs"]
    assert [accuracy_table(cells)["no rho"].tolist() for _, cells in parts] == [
        ["50.00"],
        ["70.00"],
        ["90.00"],
    ]
    together = accuracy_table(runs)
    assert sorted(together["no rho"]) == ["50.00", "70.00", "90.00"]
    assert set(together["recipe"]) == {title for title, _ in parts}


def test_the_summary_has_exact_numbers(study: Study) -> None:
    for seed, value in enumerate((90.0, 91.0, 95.0)):
        study.add(cell(variant("sam", 0.1), seed=seed), value)
    [row] = summarize(load_runs(study.folder), "test_accuracy").to_dict("records")
    assert (row["mean"], row["median"], row["n"]) == (92.0, 91.0, 3)
    assert row["sd"] == pytest.approx(7**0.5)


def test_frames_without_rows_give_tables_without_rows(study: Study) -> None:
    runs, measurements = load_runs(study.folder), load_measurements(study.folder)
    assert split_by_recipe(runs) == []
    joined = join_measurements(runs, measurements)
    for table in (accuracy_table(runs), sharpness_table(joined), sgd_table(runs)):
        assert table.empty and "model" in table


# --------------------------------------------------------------------------- sharpness


def test_sharpness_says_which_cells_were_not_measured(small_grid: Study) -> None:
    table = sharpness_table(_joined(small_grid))
    assert _row(table, "SGD")["no rho"] == "132.0"
    assert _row(table, "SAM") | {"rho=0.1": "53.20", "rho=0.2": "diverged"} == _row(table, "SAM")
    assert _row(table, "SAMDIRECTION", "element")["rho=0.2"] == "??"
    assert _row(table, "SAMDIRECTION", "global")["rho=0.1"] == "3738"


def test_different_settings_are_never_averaged(study: Study) -> None:
    study.add(
        cell(variant("sgd"), seed=0), 90.0, measurement(100.0), measurement(9.0, weights="best")
    )
    study.add(cell(variant("sgd"), seed=1), 90.0, measurement(102.0))
    table = sharpness_table(_joined(study))
    found = dict(zip(table["measurement"], table["no rho"], strict=True))
    tail = "tolerance 1e-4"
    assert found == {
        f"lambda_max, 2048 examples, best weights, {tail}": "9.000 (n=1, 1 missing)",
        f"lambda_max, 2048 examples, last weights, {tail}": "101.0 ± 1.4 (n=2)",
    }


def test_an_eigenvalue_that_did_not_converge_says_so(study: Study) -> None:
    unsure = measurement(100.0)
    unsure.result["converged"] = False
    study.add(cell(variant("sgd")), 90.0, unsure)
    table = sharpness_table(load_measurements(study.folder))
    assert table["no rho"].tolist() == ["100.0 (n=1, 1 not converged)"]


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (53.2, None, "53.20"),
        (3737.54, None, "3738"),
        (12345.6, None, "12350"),
        (0.012346, None, "0.01235"),
        (-3.5, 0.25, "-3.500 ± 0.250"),
        (1.5e7, 2.0e6, "1.500e+07 ± 2.000e+06"),
        (1.5e-6, None, "1.500e-06"),
        (9.99996, None, "10.00"),
        (0.0, None, "0.000"),
    ],
)
def test_four_significant_digits(mean: float, sd: float | None, text: str) -> None:
    assert significant(mean, sd) == text


# --------------------------------------------------------------------------- SGD and SGDHESS


def test_sgd_beside_sgdhess(study: Study) -> None:
    study.add(cell(variant("sgd")), 77.36, measurement(207.06))
    study.add(cell(variant("sgdhess", 1.0)), 76.75, measurement(151.62))
    study.add(cell(variant("sgdhess", 0.05)), 77.27)
    study.add(cell(variant("sgdhess", 2.0, curvature="exact")), status="diverged")
    study.add(cell(variant("sam", 0.1)), 79.24, measurement(71.04))
    assert sgd_table(_joined(study)).to_numpy().tolist() == [
        ["resnet8", "SGD", "", "77.36", "207.1"],
        ["resnet8", "SGDHESS", "0.05", "77.27", "??"],
        ["resnet8", "SGDHESS", "1", "76.75", "151.6"],
        ["resnet8", "SGDHESS (exact)", "2", "diverged", "diverged"],
    ]


def test_sgd_before_anything_was_measured(study: Study) -> None:
    study.add(cell(variant("sgd")), 77.36)
    table = sgd_table(load_runs(study.folder))
    assert table.to_numpy().tolist() == [["resnet8", "SGD", "", "77.36", "??"]]
