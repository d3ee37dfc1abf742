"""Records on disk to frames."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from multirun_analysis import load_history, load_measurements, load_runs
from multirun_analysis.runs import load
from multirun_analysis.runs.columns import HISTORY_COLUMNS, MEASUREMENT_COLUMNS, RUN_COLUMNS
from samsweep.config import MEASURES
from samsweep.records.schema import Metrics
from samsweep.records.store import CellFolder

from ..conftest import Study, attempt, cell, dtypes, measurement, provenance, taken, variant


def test_a_row_per_cell_with_its_identity_and_results(study: Study) -> None:
    late = attempt(seconds=5.0, provenance=provenance(host="node2", git_dirty=True))
    record = study.add(cell(variant("sam", 0.1), seed=3), 96.5, attempts=(attempt(), late))
    runs = load_runs(study.folder)
    row = runs.iloc[0]
    assert len(runs) == 1
    assert row["cell_id"] == record.cell_id
    assert (row["model"], row["variant"], row["optimizer"]) == ("resnet8", "sam", "SAM")
    assert (row["rho"], row["seed"], row["ascent"]) == (0.1, 3, "plain")
    assert pd.isna(row["granularity"]) and pd.isna(row["curvature"])
    assert (row["dataset"], row["label_noise"], row["crop_padding"]) == ("digits", 0.4, 1)
    assert (row["epochs"], row["lr"], row["base"]) == (40, 0.1, "sgd")
    assert (row["test_accuracy"], row["best_epoch"]) == (96.5, 37)
    assert (row["seconds"], row["host"], row["git_dirty"]) == (15.0, "node2", True)
    assert row["formula"] == record.formula
    assert set(Metrics.model_fields) <= set(runs.columns)


def test_dtypes_are_fixed_whatever_the_rows(study: Study, small_grid: Study, root: Path) -> None:
    assert dtypes(load_runs(small_grid.folder)) == dict(RUN_COLUMNS)
    assert dtypes(load_measurements(small_grid.folder)) == dict(MEASUREMENT_COLUMNS)
    nowhere = root / "nowhere"
    assert load_runs(nowhere).empty and dtypes(load_runs(nowhere)) == dict(RUN_COLUMNS)
    assert dtypes(load_measurements(nowhere)) == dict(MEASUREMENT_COLUMNS)
    assert dtypes(load_history(nowhere)) == dict(HISTORY_COLUMNS)


def test_keys_say_which_cells_belong_together(study: Study) -> None:
    study.add(cell(variant("sam", 0.1), seed=0), 1.0)
    study.add(cell(variant("sam", 0.1), seed=1), 1.0)
    study.add(cell(variant("sam", 0.2), seed=0), 1.0)
    study.add(cell(variant("sgd"), model="resnet20"), 1.0)
    study.add(cell(variant("sam", 0.1), epochs=5), 1.0)
    older = cell(variant("sam", 0.1), seed=9)
    study.add(older, 1.0, results_version=0)
    runs = load_runs(study.folder)
    assert runs["identity_without_seed"].nunique() == 5
    assert runs["row_key"].nunique() == 4
    assert runs["recipe_key"].nunique() == 3


def test_an_unfinished_cell_has_no_numbers(study: Study) -> None:
    study.add(cell(variant("sgd")), status="planned", progress=None, attempts=())
    row = load_runs(study.folder).iloc[0]
    assert row["epochs_done"] == 0 and row["seconds"] == 0
    assert row[list(Metrics.model_fields)].isna().all()
    assert pd.isna(row["host"])


def test_an_unreadable_record_is_skipped_with_a_warning(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    study.add(cell(variant("sgd")), 92.4)
    broken = study.plant("broken", b'{"schema_version": 1, "results')
    with caplog.at_level(logging.WARNING):
        runs = load_runs(study.folder)
    assert len(runs) == 1
    assert str(broken) in caplog.text and "EOF while parsing" in caplog.text
    [skipped] = runs.attrs["skipped"]
    assert skipped.file == str(broken) and "EOF while parsing" in skipped.reason


def test_a_copied_folder_does_not_count_its_seed_twice(study: Study) -> None:
    record = study.add(cell(variant("sgd")), 92.4)
    copy = study.folder / "cells" / "copy"
    copy.mkdir()
    CellFolder(copy).write(record)
    runs = load_runs(study.folder)
    assert len(runs) == 1
    assert "named after it" in runs.attrs["skipped"][0].reason


def test_a_row_per_measurement(study: Study) -> None:
    top5 = measurement(50.0, "top5")
    top5.result["bulk_outlier_ratio"] = 4.0
    study.add(cell(variant("sam", 0.1)), 96.5, measurement(53.2), top5)
    study.add(cell(variant("sgd")), 92.4)
    found = load_measurements(study.folder).set_index("name")
    assert len(found) == 2
    assert found.loc["lambda_max", "lambda_max"] == 53.2
    assert found.loc["lambda_max", "error"] == 1e-5
    assert found.loc["lambda_max", "eigenvalues"] == [53.2]
    assert found.loc["lambda_max", "num_hvps"] == 6
    assert found.loc["top5", "bulk_outlier_ratio"] == 4.0
    assert found.loc["top5", "rho"] == 0.1
    label = "lambda_max, 2048 examples, last weights, tolerance 1e-4"
    assert found.loc["lambda_max", "settings_label"] == label


def test_labels_of_settings_show_what_differs(study: Study) -> None:
    measured = (measurement(1.0), measurement(2.0, seed=1), measurement(3.0, num_examples=100))
    study.add(cell(variant("sgd")), 92.4, *measured)
    labels = set(load_measurements(study.folder)["settings_label"])
    tail = "last weights, tolerance 1e-4"
    assert labels == {
        f"lambda_max, 2048 examples, {tail}, seed 0",
        f"lambda_max, 2048 examples, {tail}, seed 1",
        f"lambda_max, 100 examples, {tail}, seed 0",
    }


def test_history_is_a_row_per_epoch_and_tolerates_a_half_written_line(study: Study) -> None:
    record = study.add(cell(variant("sgd")), 92.4)
    folder = CellFolder(study.cell_folder(record))
    folder.write_history(
        [
            {"epoch": 1, "train_loss": 2.0, "gap": None, "layer": {"a": 0.5}},
            {"epoch": 2, "train_loss": 1.5, "gap": None, "layer": {"a": 0.25}},
        ]
    )
    with folder.history_file.open("a") as file:
        file.write('{"epoch": 3, "tra')
    history = load_history(study.folder)
    assert list(history["epoch"]) == [1, 2]
    assert list(history["cell_id"]) == [record.cell_id] * 2
    assert list(history["layer.a"]) == [0.5, 0.25]
    assert history["gap"].dtype == "float64"
    assert "line 3" in history.attrs["skipped"][0].reason


def test_a_field_of_a_later_minor_version_is_ignored(study: Study) -> None:
    record = study.add(cell(variant("sgd")), 92.4)
    file = CellFolder(study.cell_folder(record)).record_file
    file.write_text(json.dumps(json.loads(file.read_text()) | {"mood": "good"}))
    assert len(load_runs(study.folder)) == 1


def test_more_records_than_one_chunk(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_CHUNK", 2)
    for seed in range(5):
        record = study.add(cell(variant("sam", 0.1), seed=seed), 90.0 + seed, measurement(seed))
        rows = [{"train_loss": 2.0 - seed, f"layer{seed}": {"a": 0.5}} for _ in range(3)]
        study.add_history(record, rows)
    runs, measured = load_runs(study.folder), load_measurements(study.folder)
    assert dict(zip(runs["seed"], runs["test_accuracy"], strict=True)) == {
        seed: 90.0 + seed for seed in range(5)
    }
    assert dict(zip(measured["seed"], measured["lambda_max"], strict=True)) == {
        seed: float(seed) for seed in range(5)
    }
    assert measured["cell_id"].is_unique and dtypes(measured) == dict(MEASUREMENT_COLUMNS)
    history = load_history(study.folder)
    assert len(history) == 15 and history["layer4.a"].notna().sum() == 3
    seeds = history["cell_id"].map(runs.set_index("cell_id")["seed"])
    assert (history["train_loss"] == 2.0 - seeds).all()


def test_a_cell_counts_once(study: Study) -> None:
    record = study.add(cell(variant("sgd")), 92.4)
    study.add(cell(variant("sgd")), 10.0, cell_id="another-name")
    runs = load_runs(study.folder)
    assert len(runs) == 1
    [skipped] = runs.attrs["skipped"]
    assert "the same cell as" in skipped.reason and record.cell_id in (
        *runs["cell_id"],
        skipped.file.split("/")[-2],
    )


def test_no_value_without_a_number(study: Study) -> None:
    result = {"trace": 12, "loss": True, "num_gradients": 4, "num_forwards": 2}
    study.add(cell(variant("sgd")), 92.4, taken("trace", result))
    row = load_measurements(study.folder).iloc[0]
    assert (row["quantity"], row["value"]) == ("trace", 12.0)
    assert row[["loss", "lambda_max", "num_hvps"]].isna().all()
    assert (row["num_gradients"], row["num_forwards"]) == (4, 2)


@pytest.mark.parametrize("name", [name for name, info in MEASURES.items() if info.headline])
def test_the_value_of_a_measure_is_its_headline(study: Study, name: str) -> None:
    headline = MEASURES[name].headline
    result = {"loss": 1.4, "weight_norm": 3.0, "lambda_max": 12.0, str(headline): 12}
    study.add(cell(variant("sgd")), 92.4, taken(name, result))
    row = load_measurements(study.folder).iloc[0]
    assert (row["quantity"], row["value"]) == (headline, 12.0)


def test_a_measure_has_no_value_but_its_headline(study: Study) -> None:
    study.add(
        cell(variant("sgd")),
        92.4,
        taken("trace", {"lambda_max": 5.0}),
        taken("x", {"lambda_max": 5.0}),
    )
    found = load_measurements(study.folder).set_index("name")
    assert found.loc["trace", "quantity"] == "trace" and pd.isna(found.loc["trace", "value"])
    assert found.loc["x", "quantity"] == "lambda_max" and found.loc["x", "value"] == 5.0


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"error_estimates": [0.25, 0.5], "error_bounds": [0.75, 1.0]}, 0.25),
        ({"errors": [0.25, 0.5], "standard_error": 9.0}, 0.25),
        ({"standard_error": 0.5}, 0.5),
        ({"errors": [], "standard_error": 0.5}, 0.5),
        ({"errors": [None], "standard_error": 0.5}, 0.5),
        ({"standard_error": None}, None),
        ({"standard_error": [0.5]}, None),
        ({"errors": {"a": 1}, "standard_error": "small"}, None),
    ],
)
def test_the_error_is_an_estimate_or_a_standard_error(
    study: Study, result: dict[str, Any], error: float | None
) -> None:
    study.add(cell(variant("sgd")), 92.4, taken("trace", {"trace": 1.0, **result}))
    found = load_measurements(study.folder)["error"].iloc[0]
    assert pd.isna(found) if error is None else found == error
