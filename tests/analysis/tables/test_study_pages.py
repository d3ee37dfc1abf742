"""Frames to tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from multirun_analysis import load_runs
from multirun_analysis.runs.measurements import MEANINGS
from multirun_analysis.study import open_study
from multirun_analysis.tables.accuracy_sharpness import accuracy_page
from multirun_analysis.tables.pages import Page, Section
from multirun_analysis.tables.study_pages import study_pages
from samsweep.config import MEASURES, VARIANTS

from ..conftest import Study, cell, line, measurement, plane, spectrum, taken, variant


def _page(root: Path, name: str) -> Page:
    [page] = [page for page in study_pages(open_study("default", root)) if page.name == name]
    return page


def _accuracy(study: Study, column: str = "test_accuracy") -> list[pd.DataFrame]:
    """The tables of the page of accuracies: of radii, then of SGDHESS."""
    page = accuracy_page("default", load_runs(study.folder), column)
    return [section.table for section in page.sections if section.table is not None]


def test_rho_is_sorted_as_a_number_and_no_column_says_that_there_is_none(study: Study) -> None:
    for rho in (10.0, 0.05, 2.0):
        study.add(cell(variant("sam", rho)), 96.0)
    [table] = _accuracy(study)
    assert list(table.columns)[2:] == ["rho=0.05", "rho=2", "rho=10"]


def test_sgdhess_has_a_table_of_its_own_and_competes_with_no_radius(study: Study) -> None:
    for rho, accuracy in ((0.1, 96.0), (0.2, 97.0)):
        study.add(cell(variant("sam", rho)), accuracy)
        study.add(cell(variant("samdirection", rho)), accuracy - 1)
    study.add(cell(variant("sgdhess", 0.1)), 99.0)
    study.add(cell(variant("sgdhess", 2.0, curvature="exact")), 91.0)
    page = accuracy_page("default", load_runs(study.folder))
    radii, factors = (section for section in page.sections if section.table is not None)
    assert (radii.heading, factors.heading) == (
        "resnet8",
        "resnet8, SGDHESS, whose rho is a factor of the curvature",
    )
    assert radii.table is not None and radii.best is not None
    assert radii.table["optimizer"].tolist() == ["SAM", "SAMDIRECTION"]
    assert radii.best["rho=0.1"].tolist() == [True, False]
    assert factors.table is not None and factors.best is not None
    # A radius that only SAM was given is no cell missing from SGDHESS.
    assert factors.table.to_dict("records") == [
        {"optimizer": "SGDHESS", "rho=0.1": "99.00", "rho=2": "??"},
        {"optimizer": "SGDHESS (exact)", "rho=0.1": "??", "rho=2": "91.00"},
    ]
    assert not factors.best.to_numpy().any()


def test_a_model_lacks_the_cells_that_another_has(study: Study) -> None:
    study.add(cell(variant("sam", 0.1), model="resnet20"), 90.0)
    study.add(cell(variant("sam", 0.1), model="resnet8"), 90.0)
    study.add(cell(variant("sam", 0.2), model="resnet8"), 90.0)
    page = accuracy_page("default", load_runs(study.folder))
    assert [section.heading for section in page.sections[1:]] == ["resnet8", "resnet20"]
    assert [table["rho=0.2"].tolist() for table in _accuracy(study)] == [["90.00"], ["??"]]


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
    [table] = _accuracy(study)
    assert table["rho=0.1"].tolist() == [text]


def test_best_validation_is_another_column(study: Study) -> None:
    study.add(cell(variant("sam", 0.1)), 96.0)
    [table] = _accuracy(study, "best_test_accuracy")
    assert table["rho=0.1"].tolist() == ["97.00"]


def test_different_optimizers_are_different_rows(study: Study) -> None:
    chosen = [
        variant("samdirection", 0.1),
        variant("samdirection", 0.1, ascent="adaptive", eta=0.01, scaled="weights"),
        variant("samdirection", 0.1, granularity="tensor"),
        variant("samdirection", 0.1, granularity="global"),
        variant("asam", 0.1),
        variant("asam", 0.1, eta=0.5),
        variant("sgdhess", 0.1),
        variant("sgdhess", 0.1, curvature="exact"),
    ]
    for choice in reversed(chosen):
        study.add(cell(choice), 90.0)
    found = [
        (row["optimizer"], row.get("granularity", ""), row["rho=0.1"])
        for table in _accuracy(study)
        for row in table.to_dict("records")
    ]
    assert found == [
        ("SAMDIRECTION", "element", "90.00"),
        ("SAMDIRECTION", "tensor", "90.00"),
        ("SAMDIRECTION", "global", "90.00"),
        ("SAMDIRECTION (adaptive)", "element", "90.00"),
        ("ASAM", "", "90.00"),
        ("ASAM (eta 0.5)", "", "90.00"),
        ("SGDHESS", "", "90.00"),
        ("SGDHESS (exact)", "", "90.00"),
    ]


def test_rows_follow_the_registry(study: Study) -> None:
    for name in sorted(VARIANTS):
        study.add(cell(variant(name, None if name == "sgd" else 0.1)), 90.0)
    table, _ = _accuracy(study)
    assert table["optimizer"].tolist() == [n.upper() for n in VARIANTS if n != "sgdhess"]


def test_a_study_without_rows_has_no_tables(study: Study) -> None:
    assert _accuracy(study) == []


# --------------------------------------------------------------------------- sharpness


def _sharpness(root: Path) -> dict[str, pd.DataFrame]:
    """The tables of the page of sharpness, by heading."""
    return {s.heading: s.table for s in _page(root, "sharpness").sections if s.table is not None}


def test_different_settings_are_never_averaged(study: Study, root: Path) -> None:
    study.add(
        cell(variant("sgd"), seed=0), 90.0, measurement(100.0), measurement(9.0, weights="best")
    )
    study.add(cell(variant("sgd"), seed=1), 90.0, measurement(102.0))
    tail = "tolerance 1e-4"
    assert {heading: table["no rho"].item() for heading, table in _sharpness(root).items()} == {
        f"resnet8, lambda_max, 2048 examples, best weights, {tail}": "9.000 (n=1, 1 missing)",
        f"resnet8, lambda_max, 2048 examples, last weights, {tail}": "101.0 ± 1.4 (n=2)",
    }


def test_an_eigenvalue_that_did_not_converge_says_so(study: Study, root: Path) -> None:
    unsure = measurement(100.0)
    unsure.result["converged"] = False
    study.add(cell(variant("sgd")), 90.0, unsure)
    [table] = _sharpness(root).values()
    assert table["no rho"].tolist() == ["100.0 (n=1, 1 not converged)"]


# --------------------------------------------------------------------------- SGD and SGDHESS


def test_sgd_beside_sgdhess(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")), 77.36, measurement(207.06))
    study.add(cell(variant("sgdhess", 1.0)), 76.75, measurement(151.62))
    study.add(cell(variant("sgdhess", 0.05)), 77.27)
    study.add(cell(variant("sgdhess", 2.0, curvature="exact")), status="diverged")
    study.add(cell(variant("sam", 0.1)), 79.24, measurement(71.04))
    table = _page(root, "sgdhess").sections[1].table
    assert table is not None and table.to_numpy().tolist() == [
        ["SGD", "", "77.36", "207.1"],
        ["SGDHESS", "0.05", "77.27", "??"],
        ["SGDHESS", "1", "76.75", "151.6"],
        ["SGDHESS (exact)", "2", "diverged", "diverged"],
    ]


def test_sgd_before_anything_was_measured(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")), 77.36)
    _, section = _page(root, "sgdhess").sections
    assert section.heading == "resnet8, not measured" and section.table is not None
    assert section.table.to_numpy().tolist() == [["SGD", "", "77.36", "??"]]


# --------------------------------------------------------------------------- best of a column


def _bold(section: Section) -> dict[tuple[str, str], list[str]]:
    """Columns in which each optimizer and granularity is the best."""
    assert section.table is not None and section.best is not None
    rows = zip(section.table.to_dict("records"), section.best.to_dict("records"), strict=True)
    return {
        (row["optimizer"], row.get("granularity", "")): [
            str(n) for n, best in marks.items() if best
        ]
        for row, marks in rows
    }


def test_what_reads_the_same_is_best_alike(study: Study, root: Path) -> None:
    study.add(cell(variant("sam", 0.1)), 96.001)
    study.add(cell(variant("samdirection", 0.1)), 96.004)
    study.add(cell(variant("sammagnitude", 0.1)), 95.0)
    marks = _bold(_page(root, "accuracy").sections[1])
    assert [bool(columns) for columns in marks.values()] == [True, True, False]


def test_a_mean_that_leaves_out_diverged_seeds_is_not_best(study: Study, root: Path) -> None:
    study.add(cell(variant("sam", 0.1), seed=0), 99.0)
    study.add(cell(variant("sam", 0.1), seed=1), status="diverged")
    study.add(cell(variant("samdirection", 0.1)), 96.0)
    study.add(cell(variant("sammagnitude", 0.1)), 95.0)
    marks = _bold(_page(root, "accuracy").sections[1])
    assert [optimizer for (optimizer, _), columns in marks.items() if columns] == ["SAMDIRECTION"]


def test_an_eigenvalue_known_too_roughly_is_not_best(study: Study, root: Path) -> None:
    unsure = measurement(1.0)
    unsure.result["converged"] = False
    study.add(cell(variant("sam", 0.1)), 90.0, unsure)
    study.add(cell(variant("samdirection", 0.1)), 90.0, measurement(5.0))
    study.add(cell(variant("sammagnitude", 0.1)), 90.0, measurement(7.0))
    marks = _bold(_page(root, "sharpness").sections[1])
    assert [optimizer for (optimizer, _), columns in marks.items() if columns] == ["SAMDIRECTION"]


def test_each_model_and_recipe_has_a_best_of_its_own(study: Study, root: Path) -> None:
    for model, offset in (("resnet8", 0), ("resnet20", 5)):
        for epochs in (5, 40):
            study.add(cell(variant("sam", 0.1), model=model, epochs=epochs), 80.0 + offset)
            study.add(cell(variant("asam", 0.1), model=model, epochs=epochs), 81.0 + offset)
    tables = [section for section in _page(root, "accuracy").sections if section.level == 3]
    assert [_bold(table)["ASAM", ""] for table in tables] == [["rho=0.1"]] * 4


# --------------------------------------------------------------------------- measurements


def _texts(page: Page) -> dict[str, list[str]]:
    """The column without a rho of each table."""
    return {s.heading: s.table["no rho"].tolist() for s in page.sections if s.table is not None}


def test_every_measurement_and_quantity_has_a_table(study: Study, root: Path) -> None:
    top5 = measurement(50.0, "top5")
    top5.result["bulk_outlier_ratio"] = 4.0
    trace = taken("trace", {"trace": 1234.5}, trace={"num_samples": 100})
    newer = taken("later", {"later": 7.0})
    study.add(cell(variant("sgd")), 90.0, newer, trace, measurement(51.0), top5)
    page = _page(root, "sharpness")
    tail = "2048 examples, last weights"
    found = _texts(page)
    assert list(found.items()) == [
        (f"resnet8, lambda_max, {tail}, tolerance 1e-4", ["51.00"]),
        (f"resnet8, top5, {tail}, tolerance 1e-4", ["50.00"]),
        (f"resnet8, top5, {tail}, tolerance 1e-4: bulk-outlier ratio", ["4.000"]),
    ]
    assert page.data["quantity"].tolist() == ["lambda_max", "lambda_max", "bulk_outlier_ratio"]
    assert _texts(_page(root, "measure_later")) == {f"resnet8, later, {tail}": ["7.000"]}
    assert _texts(_page(root, "trace")) == {f"resnet8, trace, {tail}": ["1234"]}


#: A result of each measure as a run writes it: the headline is the number of the measure's place.
RESULTS = {
    info.headline: {info.headline: float(place), "standard_error": 0.5, "loss": 1.4}
    for place, info in enumerate(MEASURES.values(), start=1)
    if info.headline not in (None, "lambda_max")
}


def test_every_measure_with_a_number_has_a_page_in_the_order_of_the_registry(
    study: Study, root: Path
) -> None:
    others = [taken(name, RESULTS[name]) for name in sorted(RESULTS)]
    curves = [spectrum(0.0, 1.0), line(1.0), plane()]
    study.add(cell(variant("sgd")), 90.0, *others, measurement(53.0), *curves)
    pages = {page.name: page for page in study_pages(open_study("default", root))}
    assert list(pages) == [
        "accuracy", "accuracy_best", "accuracy_train", "sharpness",
        "relative_flatness", "adaptive_lambda_max", "trace", "ggn_trace", "fisher_trace",
        "worst_case_l2", "worst_case_linf", "adaptive_worst_case_l2", "adaptive_worst_case_linf",
        "average_case", "adaptive_average_case", "sam_gap", "empirical_sam",
        "sgdhess", "amplified",
    ]  # fmt: skip
    for name, result in RESULTS.items():
        page = pages[name]
        assert page.data["mean"].tolist() == [result[name]]
        assert page.data["quantity"].tolist() == [name]
        [texts] = _texts(page).values()
        assert [float(text) for text in texts] == [result[name]]
        assert MEANINGS[name] in page.legend
    assert len({page.title for page in pages.values()}) == len(pages)
    assert _texts(pages["sharpness"]) == {
        "resnet8, lambda_max, 2048 examples, last weights, tolerance 1e-4": ["53.00"]
    }
    assert set(pages["sgdhess"].data["quantity"]) == {"test_accuracy", "lambda_max", *RESULTS}


def test_the_lowest_of_every_measure_is_best_and_no_settings_are_mixed(
    study: Study, root: Path
) -> None:
    for name, low in (("sam", -0.25), ("samdirection", 0.5)):
        gaps = [
            taken("sam_gap", {"sam_gap": low + rho}, sam_gap={"rho": rho, "batch_size": 128})
            for rho in (0.1, 0.2)
        ]
        study.add(cell(variant(name, 0.1)), 90.0, *gaps)
    tables = [s for s in _page(root, "sam_gap").sections if s.table is not None]
    tail = "2048 examples, last weights"
    assert [section.heading for section in tables] == [
        f"resnet8, sam_gap, {tail}, rho {rho}, batches of 128" for rho in (0.1, 0.2)
    ]
    for section, texts in zip(tables, (["-0.1500", "0.6000"], ["-0.05000", "0.7000"]), strict=True):
        assert section.table is not None and section.table["rho=0.1"].tolist() == texts
        assert _bold(section) == {("SAM", ""): ["rho=0.1"], ("SAMDIRECTION", "element"): []}


def test_spectra_and_landscapes_are_in_no_table(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")), 90.0, spectrum(0.0, 1.0), line(1.0), plane())
    read = open_study("default", root)
    [section] = _page(root, "sharpness").sections
    assert section.text == ("Not measured yet.",)
    assert len(read.measurements) == 3


# --------------------------------------------------------------------------- amplified share


def test_the_amplified_share_at_three_epochs(study: Study, root: Path) -> None:
    for seed, offset in enumerate((0.0, 0.02)):
        record = study.add(cell(variant("sam", 0.1), seed=seed, epochs=5), 90.0)
        shares = (0.5, 0.6, 0.7, 0.8, 0.85)
        study.add_history(record, [{"amplified_share": share + offset} for share in shares])
    study.add(cell(variant("samdirection", 0.1), epochs=5), 90.0)
    study.add(cell(variant("sammagnitude", 0.1), epochs=5), status="diverged")
    study.add(cell(variant("sgd"), epochs=5), 90.0)
    table = _page(root, "amplified").sections[1].table
    assert table is not None
    assert list(table.columns) == [
        "optimizer", "granularity", "rho", "epoch 1", "epoch 3", "epoch 5"
    ]  # fmt: skip
    assert table.to_numpy().tolist() == [
        ["SAM", "", "0.1"] + [f"{x}.00 ± 1.41 (n=2)" for x in (51, 71, 86)],
        ["SAMDIRECTION", "element", "0.1", "??", "??", "??"],
        ["SAMMAGNITUDE", "element", "0.1", "diverged", "diverged", "diverged"],
    ]


def test_a_study_without_a_second_gradient_says_so(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")), 90.0)
    [section] = _page(root, "amplified").sections
    assert section.text == ("No cells with a second gradient in this study.",)
