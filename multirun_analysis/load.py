"""Records on disk to tidy DataFrames.

:func:`load_runs` gives a row per cell, :func:`load_measurements` a row per cell and measurement,
:func:`load_history` a row per cell and epoch. ``cell_id`` joins them.

Files that cannot be read are skipped with a warning that names the file and the reason; they are
also listed in ``frame.attrs["skipped"]``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from multirun_analysis.labels import optimizer_label, settings_labels
from samsweep.records.identity import short_hash
from samsweep.records.schema import Measurement, Metrics, Record
from samsweep.records.store import CellFolder

_log = logging.getLogger(__name__)

#: Columns that say what a cell is, and whether it has a result.
CELL_COLUMNS: Mapping[str, str] = {
    "cell_id": "string",  # name of the folder
    "study": "string",
    "status": "string",  # see samsweep.records.schema.Status
    "model": "string",
    "optimizer": "string",  # label of the table row, e.g. SAMDIRECTION (adaptive)
    "variant": "string",
    "direction": "string",
    "magnitude": "string",
    "granularity": "string",  # <NA> where unused, like the next four
    "rho": "float64",
    "ascent": "string",
    "eta": "float64",
    "curvature": "string",
    "formula": "string",  # the vector handed to the base optimizer
    "dataset": "string",
    "label_noise": "float64",
    "crop_padding": "Int64",
    "flip": "boolean",
    "cutout": "Int64",
    "cutout_prob": "float64",
    "image_size": "Int64",
    "fingerprint": "string",
    "base": "string",
    "lr": "float64",
    "momentum": "float64",
    "weight_decay": "float64",
    "lr_schedule": "string",
    "epochs": "Int64",
    "batch_size": "Int64",
    "precision": "string",
    "results_version": "Int64",
    "seed": "Int64",
    # Hashes: of everything but the seed (cells to average over) ...
    "identity_without_seed": "string",
    # ... but seed and rho (one row of a table) ...
    "row_key": "string",
    # ... but model, variant and seed (cells that may stand in one table).
    "recipe_key": "string",
}

#: Columns of :func:`load_runs`: those of the cell, its results and where they come from.
RUN_COLUMNS: Mapping[str, str] = {
    **CELL_COLUMNS,
    # Every field of samsweep.records.schema.Metrics; NaN unless the cell is complete.
    **{name: "float64" for name in Metrics.model_fields if name != "best_epoch"},
    "best_epoch": "Int64",
    "epochs_done": "Int64",
    "seconds": "float64",  # of all attempts
    "host": "string",  # of the latest attempt, like the rest
    "job_id": "string",
    "device": "string",
    "git_commit": "string",
    "git_dirty": "boolean",
    "error": "string",  # traceback, or where the numbers were left
}

#: What decides a measurement's value.
SETTINGS_COLUMNS: Mapping[str, str] = {
    "name": "string",  # a key of samsweep.config.MEASURES
    "settings_key": "string",  # name and hash of the settings
    "settings_label": "string",
}

#: What a measurement found.
VALUE_COLUMNS: Mapping[str, str] = {
    "measurement": "string",  # where it stands in the record
    "lambda_max": "float64",
    "error": "float64",  # error bound of lambda_max
    "converged": "boolean",
    "eigenvalues": "object",  # list of floats, largest first
    "bulk_outlier_ratio": "float64",
    "num_hvps": "Int64",
    "loss": "float64",
    "measured_weight_norm": "float64",
    "measured_seconds": "float64",
    "measured_on": "string",
}

#: Columns of :func:`load_measurements`.
MEASUREMENT_COLUMNS: Mapping[str, str] = {**CELL_COLUMNS, **SETTINGS_COLUMNS, **VALUE_COLUMNS}


class Skipped(NamedTuple):
    """A file, or a part of it, that could not be read."""

    file: str
    reason: str


# --------------------------------------------------------------------------- public


def load_runs(study_folder: Path | str) -> pd.DataFrame:
    """A row per cell record of a study.

    Args:
        study_folder: ``multirun/<study>``.

    Returns:
        :data:`RUN_COLUMNS` with these dtypes, also when there are no rows.
    """
    records, skipped = read_records(study_folder)
    return runs_frame(records, skipped)


def load_measurements(study_folder: Path | str) -> pd.DataFrame:
    """A row per cell and measurement.

    Args:
        study_folder: ``multirun/<study>``.

    Returns:
        :data:`MEASUREMENT_COLUMNS` with these dtypes, also when there are no rows.
    """
    records, skipped = read_records(study_folder)
    return measurements_frame(records, skipped)


def load_history(study_folder: Path | str) -> pd.DataFrame:
    """A row per cell and epoch.

    Args:
        study_folder: ``multirun/<study>``.

    Returns:
        ``cell_id``, ``epoch`` and whatever ``history.jsonl`` has; a mapping inside a line becomes
        one column per entry, ``outer.inner``.
    """
    skipped: list[Skipped] = []
    rows = [
        {**row, "cell_id": file.parent.name}
        for file in sorted(Path(study_folder).glob("cells/*/history.jsonl"))
        for row in _history_rows(file, skipped)
    ]
    frame = pd.json_normalize(rows) if rows else pd.DataFrame()
    columns = ["cell_id", "epoch"]
    frame = frame.reindex(columns=[*columns, *(name for name in frame if name not in columns)])
    # A diagnostic that was never finite is a column of nulls; it is a number all the same.
    empty = {name: "float64" for name in frame.columns if frame[name].isna().all()}
    frame = frame.astype({**empty, "cell_id": "string", "epoch": "Int64"})
    return _with_skipped(frame, skipped)


# --------------------------------------------------------------------------- reading


def read_records(study_folder: Path | str) -> tuple[list[Record], list[Skipped]]:
    """Every record of a study that can be read, and why the others cannot."""
    records: list[Record] = []
    skipped: list[Skipped] = []
    for file in sorted(Path(study_folder).glob("cells/*/record.json")):
        try:
            record = _read_record(file)
        except (ValueError, OSError) as error:
            _skip(skipped, file, str(error).removeprefix(f"{file}: "))
        else:
            records += [record] if record is not None else []
    return records, skipped


def _read_record(file: Path) -> Record | None:
    record = CellFolder(file.parent).read()
    # A copied folder would count its seed twice.
    if record is not None and record.cell_id != file.parent.name:
        raise ValueError(
            f"the record is cell {record.cell_id!r}'s: a cell's folder is named after it; "
            "rename or remove this one"
        )
    return record


def _history_rows(file: Path, skipped: list[Skipped]) -> Iterable[dict[str, Any]]:
    """The readable lines: the last one may be half written while the cell runs."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        _skip(skipped, file, str(error))
        return
    for index, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            _skip(skipped, file, f"line {index}: {error}")
            continue
        if isinstance(row, dict):
            yield row
        else:
            _skip(skipped, file, f"line {index}: not a mapping")


def _skip(skipped: list[Skipped], file: Path, reason: str) -> None:
    _log.warning("skipped %s: %s", file, reason)
    skipped.append(Skipped(str(file), reason))


# --------------------------------------------------------------------------- records to frames


def runs_frame(records: Iterable[Record], skipped: Sequence[Skipped] = ()) -> pd.DataFrame:
    """The frame of :func:`load_runs`."""
    return _with_skipped(_typed([_run_row(record) for record in records], RUN_COLUMNS), skipped)


def measurements_frame(records: Iterable[Record], skipped: Sequence[Skipped] = ()) -> pd.DataFrame:
    """The frame of :func:`load_measurements`."""
    problems = list(skipped)
    rows: list[dict[str, Any]] = []
    settings: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for record in records:
        for stored_as, measurement in record.measurements.items():
            try:
                key = f"{measurement.name}-{short_hash(measurement.settings)}"
            except ValueError as error:
                _skip(problems, Path(record.cell_id), f"measurement {stored_as}: {error}")
                continue
            settings[key] = (measurement.name, measurement.settings)
            found = {"name": measurement.name, "settings_key": key, "measurement": stored_as}
            rows.append({**_cell_row(record), **found, **_values(measurement)})
    labels = settings_labels(settings)
    rows = [{**row, "settings_label": labels[row["settings_key"]]} for row in rows]
    return _with_skipped(_typed(rows, MEASUREMENT_COLUMNS), problems)


def _typed(rows: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns), dtype="object").astype(dict(columns))


def _with_skipped(frame: pd.DataFrame, skipped: Sequence[Skipped]) -> pd.DataFrame:
    frame.attrs["skipped"] = list(skipped)
    return frame


def _run_row(record: Record) -> dict[str, Any]:
    latest = record.attempts[-1].provenance if record.attempts else None
    return {
        **_cell_row(record),
        **(record.metrics.model_dump() if record.metrics else {}),
        "epochs_done": record.progress.epoch if record.progress else 0,
        "seconds": record.seconds,
        "host": latest and latest.host,
        "job_id": latest and latest.job_id,
        "device": latest and latest.device,
        "git_commit": latest and latest.git_commit,
        "git_dirty": latest and latest.git_dirty,
        "error": record.error,
    }


def _cell_row(record: Record) -> dict[str, Any]:
    cell = record.identity
    variant = cell.variant.model_dump()
    return {
        "cell_id": record.cell_id,
        "study": record.study,
        "status": record.status,
        "model": cell.model.name,
        "optimizer": optimizer_label(variant),
        "variant": variant.pop("name"),
        **variant,
        "formula": record.formula,
        "dataset": cell.dataset.name,
        **cell.dataset.model_dump(exclude={"name", "augment"}),
        **cell.dataset.augment.model_dump(),
        **cell.recipe.model_dump(),
        "results_version": record.results_version,
        "seed": cell.seed,
        **_keys(record),
    }


def _keys(record: Record) -> dict[str, str]:
    """Hashes that say which cells belong together.

    Cells trained by code of different ``RESULTS_VERSION`` never do.
    """
    identity = {**record.identity.identity(), "results_version": record.results_version}
    del identity["seed"]
    variant = {key: value for key, value in identity["variant"].items() if key != "rho"}
    recipe = {key: identity[key] for key in ("dataset", "recipe", "results_version")}
    return {
        "identity_without_seed": short_hash(identity),
        "row_key": short_hash({**identity, "variant": variant}),
        "recipe_key": short_hash(recipe),
    }


def _values(measurement: Measurement) -> dict[str, Any]:
    result = measurement.result
    errors = result.get("errors") or [None]
    converged = result.get("converged")
    return {
        "lambda_max": _float(result.get("lambda_max")),
        "error": _float(errors[0] if isinstance(errors, list) else errors),
        "converged": converged if isinstance(converged, bool) else None,
        "eigenvalues": result.get("eigenvalues"),
        "bulk_outlier_ratio": _float(result.get("bulk_outlier_ratio")),
        "num_hvps": _int(result.get("num_hvps")),
        "loss": _float(result.get("loss")),
        "measured_weight_norm": _float(result.get("weight_norm")),
        "measured_seconds": _float(result.get("seconds")),
        "measured_on": measurement.provenance.device,
    }


def _float(value: Any) -> float | None:
    """A number, or None for what a free-form result holds in its place."""
    return float(value) if isinstance(value, int | float) else None


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) else None
