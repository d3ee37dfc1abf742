"""The frames of a study as files for other tools: CSV and Parquet.

Parquet keeps the dtypes of :mod:`multirun_analysis.runs.columns`; in CSV a list is JSON, a
missing value is empty, and a text that a spreadsheet would run as a formula has an apostrophe
before it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from multirun_analysis.study import Study
from multirun_analysis.tables.formats import csv_text
from samsweep.records.store import atomic_path, write_text


def export_frames(study: Study, folder: Path | str) -> list[Path]:
    """Write runs, measurements and history, each in both formats; returns the files."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    frames = {"runs": study.runs, "measurements": study.measurements, "history": study.history}
    return [file for name, frame in frames.items() for file in _write(frame, target / name)]


def _write(frame: pd.DataFrame, stem: Path) -> tuple[Path, Path]:
    csv, parquet = stem.with_suffix(".csv"), stem.with_suffix(".parquet")
    lists = frame.select_dtypes("object").columns
    write_text(csv, csv_text(frame.assign(**{name: frame[name].map(_json) for name in lists})))
    bare = frame.copy(deep=False)
    bare.attrs = {}  # Parquet would store what could not be read beside the data.
    with atomic_path(parquet) as temporary:
        bare.to_parquet(temporary, index=False)
    return csv, parquet


def _json(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value
