"""Frames as files for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from pandas.testing import assert_frame_equal

from multirun_analysis.runs.columns import HISTORY_COLUMNS, MEASUREMENT_COLUMNS, RUN_COLUMNS
from multirun_analysis.study import open_study
from multirun_analysis.tables.export import export_frames

from ..conftest import Study, cell, dtypes, measurement, variant


def test_parquet_gives_back_the_frames(small_grid: Study, root: Path, tmp_path: Path) -> None:
    small_grid.add_history(small_grid.written[0], [{"train_loss": 1.5}, {"train_loss": 1.25}])
    study = open_study("default", root)
    files = export_frames(study, tmp_path / "frames")
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == sorted(
        file.name for file in files
    )
    for name, frame, columns in (
        ("runs", study.runs, RUN_COLUMNS),
        ("measurements", study.measurements, MEASUREMENT_COLUMNS),
        ("history", study.history, HISTORY_COLUMNS),
    ):
        back = pd.read_parquet(tmp_path / "frames" / f"{name}.parquet")
        assert dtypes(back) == dict(columns)
        if name == "measurements":  # lists come back as arrays
            back["eigenvalues"] = [list(values) for values in back["eigenvalues"]]
        assert_frame_equal(back, frame)


def test_csv_gives_back_the_numbers(study: Study, root: Path, tmp_path: Path) -> None:
    study.add(cell(variant("sam", 0.1)), 96.123456789, measurement(1 / 3))
    study.add(cell(variant("sgd")), status="failed", error='one\ntwo, "three"')
    export_frames(open_study("default", root), tmp_path)
    runs = pd.read_csv(tmp_path / "runs.csv").set_index("variant")
    assert runs.loc["sam", "test_accuracy"] == 96.123456789
    assert runs.loc["sgd", "error"] == 'one\ntwo, "three"'
    assert pd.isna(runs.loc["sgd", "test_accuracy"])
    measured = pd.read_csv(tmp_path / "measurements.csv")
    assert json.loads(measured["eigenvalues"].iloc[0]) == [1 / 3]


def test_a_study_without_measurements_exports_too(study: Study, root: Path, tmp_path: Path) -> None:
    study.add(cell(variant("sgd")))
    export_frames(open_study("default", root), tmp_path)
    assert pd.read_parquet(tmp_path / "measurements.parquet").empty
    assert list(pd.read_csv(tmp_path / "history.csv").columns) == list(HISTORY_COLUMNS)
