"""Records on disk to tidy DataFrames.

:func:`load_runs` gives a row per cell, :func:`load_measurements` a row per cell and measurement,
:func:`load_history` a row per cell and epoch. ``cell_id`` joins them. Their columns are in
:mod:`multirun_analysis.runs.columns`; runs have a further one for every other key of the
configuration that varies (:mod:`multirun_analysis.runs.keys`).

Files that cannot be read are skipped with a warning that names the file and the reason; they are
also listed in ``frame.attrs["skipped"]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from multirun_analysis.runs.columns import (
    CELL_COLUMNS,
    HISTORY_COLUMNS,
    MEASUREMENT_COLUMNS,
    RUN_COLUMNS,
    VALUE_COLUMNS,
)
from multirun_analysis.runs.keys import (
    DEFAULTS,
    column_of,
    is_of_ascent,
    is_of_model,
    is_of_optimizer,
    other_keys,
    sources_of,
)
from multirun_analysis.runs.measurements import LARGEST, settings_key
from multirun_analysis.runs.reading import (
    Skipped,
    cell_names,
    parse_line,
    read_history,
    read_records,
    skip,
)
from multirun_analysis.wording.labels import (
    labels_with_differences,
    optimizer_label,
    settings_labels,
    short_names,
    varying,
)
from samsweep.config import MEASURES, CellConfig, DatasetConfig, ModelConfig, RecipeConfig, Variant
from samsweep.records.identity import short_hash
from samsweep.records.schema import Measurement, Record

T = TypeVar("T")

#: Rows that are Python objects at one time: memory grows by the frames alone.
_CHUNK = 2_000
#: Columns of a history, at most: a network has some dozens of tensors.
_MOST_COLUMNS = 2_000
_MOST_EPOCHS = 2**31
#: What an Int64 column can hold.
_INT64 = range(-(2**63), 2**63)

Row = dict[str, Any]


class Frames(NamedTuple):
    """What the records of a study say."""

    runs: pd.DataFrame
    measurements: pd.DataFrame
    skipped: list[Skipped]


# --------------------------------------------------------------------------- public


def load_runs(study_folder: Path | str) -> pd.DataFrame:
    """A row per cell record of a study.

    Returns:
        :data:`RUN_COLUMNS`, of these dtypes without rows too; then a column for every other key of
        the configuration that varies, by its name: ``model.args.width``.
    """
    runs, _, skipped = read_frames(study_folder)
    return _with_skipped(runs, skipped)


def load_measurements(study_folder: Path | str) -> pd.DataFrame:
    """A row per cell and measurement: :data:`MEASUREMENT_COLUMNS`, of these dtypes always."""
    _, measurements, skipped = read_frames(study_folder)
    return _with_skipped(measurements, skipped)


def load_history(study_folder: Path | str) -> pd.DataFrame:
    """A row per cell and epoch.

    Returns:
        :data:`HISTORY_COLUMNS` with these dtypes, also when there are no rows; then whatever else
        ``history.jsonl`` has, in float64. A mapping inside a line becomes one column per entry,
        ``outer.inner``.
    """
    skipped: list[Skipped] = []
    columns = dict.fromkeys(HISTORY_COLUMNS)
    chunks = [
        _history_chunk(rows, columns)
        for rows in _chunks(_history_rows(Path(study_folder), columns, skipped))
    ]
    frame = pd.concat([_history_chunk([], columns), *chunks], ignore_index=True)
    return _with_skipped(frame.astype(dict(HISTORY_COLUMNS)), skipped)


def read_frames(study_folder: Path | str) -> Frames:
    """Runs and measurements of a study, each record read once."""
    skipped: list[Skipped] = []
    settings: dict[str, tuple[str, Mapping[str, Any]]] = {}
    others: dict[str, dict[str, Any]] = {}
    # No record is kept: spectra and landscapes make it large.
    rows = (
        (row, list(_measured_rows(record, settings, skipped)))
        for record, row in _once_each(Path(study_folder), skipped, others)
    )
    runs, found = [_typed([], RUN_COLUMNS)], [_typed([], _FOUND)]
    for chunk in _chunks(rows):
        runs.append(_typed([row for row, _ in chunk], RUN_COLUMNS))
        found.append(_typed([row for _, of_cell in chunk for row in of_cell], _FOUND))
    frame = _with_other_keys(pd.concat(runs, ignore_index=True), others)
    return Frames(frame, _with_cells(pd.concat(found, ignore_index=True), frame, settings), skipped)


# --------------------------------------------------------------------------- records to rows


def _once_each(
    study_folder: Path, skipped: list[Skipped], others: dict[str, dict[str, Any]]
) -> Iterator[tuple[Record, Row]]:
    """Every record with its row, those aside that repeat another's cell.

    Keys without a column of their own go to ``others``, by ``identity_without_seed``.
    """
    seen: dict[tuple[str, int], str] = {}
    for record in read_records(study_folder, skipped):
        file = study_folder / "cells" / record.cell_id / "record.json"
        try:
            row = _run_row(record)
            keys = _other_keys(*_parts(record.identity))
        except ValueError as error:
            skip(skipped, file, str(error))
            continue
        cell = row["identity_without_seed"], row["seed"]
        if cell in seen:
            skip(skipped, file, f"the same cell as {seen[cell]}, whose seed would count twice")
            continue
        seen[cell] = record.cell_id
        others[row["identity_without_seed"]] = keys
        yield record, row


def _run_row(record: Record) -> Row:
    latest = record.attempts[-1].provenance if record.attempts else None
    row = {
        **_cell_row(record),
        **(vars(record.metrics) if record.metrics else {}),
        "epochs_done": record.progress.epoch if record.progress else 0,
        "seconds": record.seconds,
        "host": latest and latest.host,
        "job_id": latest and latest.job_id,
        "device": latest and latest.device,
        "git_commit": latest and latest.git_commit,
        "git_dirty": latest and latest.git_dirty,
        "error": record.error,
    }
    for name in _INTEGERS:
        if (value := row.get(name)) is not None and value not in _INT64:
            raise ValueError(f"{name} is no number that a cell can have")
    return row


_INTEGERS = [name for name, dtype in RUN_COLUMNS.items() if dtype == "Int64"]


def _cell_row(record: Record) -> Row:
    cell = record.identity
    # The fields of a model are all that its __dict__ has; iterating over a model is much slower.
    variant, recipe = vars(cell.variant), vars(cell.recipe)
    is_own = variant["combination"] is not None or variant["optimizer"] is not None
    return {
        **variant,
        **dict.fromkeys(("direction", "magnitude") if is_own else ()),
        "cell_id": record.cell_id,
        "study": record.study,
        "status": record.status,
        "model": cell.model.name,
        "model_name": cell.model.name,
        "optimizer": optimizer_label(variant),
        "variant": variant["name"],
        "formula": record.formula,
        **vars(cell.dataset),
        **vars(cell.dataset.augment),
        "dataset": cell.dataset.name,
        **recipe,
        "metric": recipe["metric"] or DEFAULTS["metric"],
        "results_version": record.results_version,
        "seed": cell.seed,
        **_keys(*_parts(cell), record.results_version),
    }


def _parts(cell: CellConfig) -> tuple[Any, ...]:
    """All of a cell but its seed."""
    return cell.model, cell.variant, cell.dataset, cell.recipe, cell.sources


_other_keys = lru_cache(maxsize=4096)(other_keys)


@lru_cache(maxsize=4096)
def _keys(
    model: ModelConfig,
    variant: Variant,
    dataset: DatasetConfig,
    recipe: RecipeConfig,
    sources: Mapping[str, Any] | None,
    results_version: int,
) -> dict[str, str]:
    """Hashes that say which cells belong together; those of another results version never do."""
    of_recipe, of_row = (sources_of(sources, of_recipe=which) for which in (True, False))
    shared = {
        "dataset": dataset.model_dump(mode="json", exclude_none=True),
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "results_version": results_version,
        **({"sources": of_recipe} if of_recipe else {}),
    }
    described = variant.model_dump(mode="json", exclude_none=True)
    described_model = model.model_dump(mode="json", exclude_none=True)
    identity = {"model": described_model, "variant": described, **shared}
    identity |= {"row_sources": of_row} if of_row else {}
    row = {key: value for key, value in described.items() if key != "rho"}
    return {
        "identity_without_seed": short_hash(identity),
        "row_key": short_hash({**identity, "variant": row}),
        "recipe_key": short_hash(shared),
    }


def _with_other_keys(runs: pd.DataFrame, others: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """With a column for every key that varies, and the labels with what such keys change."""
    names = varying(others.values())
    shown = {"opt": "opt", **short_names(names)}
    hashes = runs["identity_without_seed"]
    first = runs.drop_duplicates("identity_without_seed").set_index("identity_without_seed")
    for label, is_of in (
        ("model", is_of_model),
        ("optimizer", is_of_optimizer),
        ("ascent", is_of_ascent),
    ):
        of_label = [name for name in names if is_of(name)]
        items = {
            key: (base, {name: others[key][name] for name in of_label if name in others[key]})
            for key, base in {str(key): base for key, base in first[label].dropna().items()}.items()
        }
        if label == "optimizer":
            # In capitals two names may be one.
            items = {
                key: (base, {"opt": str(first.at[key, "variant"]), **values})
                for key, (base, values) in items.items()
            }
        labels = labels_with_differences(items, shown)
        runs[label] = hashes.map(labels).astype("string")
    columns = {name: column_of(name, others, hashes) for name in names}
    return pd.concat([runs, pd.DataFrame(columns, index=runs.index)], axis="columns")


# --------------------------------------------------------------------------- measurements

#: What is read of a measurement; the cell's own columns are joined to it.
_FOUND = {"cell_id": "string", "name": "string", "settings_key": "string", **VALUE_COLUMNS}


def _measured_rows(
    record: Record, settings: dict[str, tuple[str, Mapping[str, Any]]], skipped: list[Skipped]
) -> Iterator[Row]:
    for stored_as, measurement in record.measurements.items():
        try:
            key = settings_key(measurement)
        except ValueError as error:
            skip(skipped, Path(record.cell_id), f"measurement {stored_as}: {error}")
            continue
        settings[key] = (measurement.name, measurement.settings)
        yield {
            "cell_id": record.cell_id,
            "name": measurement.name,
            "settings_key": key,
            "measurement": stored_as,
            **_values(measurement),
        }


def _values(measurement: Measurement) -> Row:
    result = measurement.result
    converged = result.get("converged")
    eigenvalues = result.get("eigenvalues")
    quantity = _quantity(measurement)
    return {
        "quantity": quantity,
        "value": _float(result.get(quantity)),
        "lambda_max": _float(result.get(LARGEST)),
        "error": _error(result),
        "error_bound": _first(result.get("error_bounds", result.get("residuals"))),
        "converged": converged if isinstance(converged, bool) else None,
        "eigenvalues": [_float(x) for x in eigenvalues] if isinstance(eigenvalues, list) else None,
        "bulk_outlier_ratio": _float(result.get("bulk_outlier_ratio")),
        **{name: _int(result.get(name)) for name in ("num_hvps", "num_gradients", "num_forwards")},
        "loss": _float(result.get("loss")),
        "measured_weight_norm": _float(result.get("weight_norm")),
        "measured_seconds": _float(result.get("seconds")),
        "measured_on": measurement.provenance.device,
    }


def _quantity(measurement: Measurement) -> str:
    """What the headline number is; of a measure that is unknown, what its result suggests."""
    if measurement.name in MEASURES:
        return MEASURES[measurement.name].headline or measurement.name
    return LARGEST if LARGEST in measurement.result else measurement.name


def _error(result: Mapping[str, Any]) -> float | None:
    """The error estimate of the first eigenvalue, or the standard error of an estimate.

    Records of before bounds and estimates had names of their own call the estimates ``errors``.
    """
    estimate = _first(result.get("error_estimates", result.get("errors")))
    return _float(result.get("standard_error")) if estimate is None else estimate


def _first(numbers: Any) -> float | None:
    """The first of several numbers, or the only one."""
    return _float(numbers[0] if isinstance(numbers, list) and numbers else numbers)


def _float(value: Any) -> float | None:
    """A number, or None for what a free-form result holds in its place."""
    if isinstance(value, float):
        return value
    return float(value) if _int(value) is not None else None


def _int(value: Any) -> int | None:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return value if is_int and value in _INT64 else None


def _with_cells(
    found: pd.DataFrame,
    runs: pd.DataFrame,
    settings: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> pd.DataFrame:
    """The measurements with the columns of their cells, and labels of their settings."""
    labels = settings_labels(settings)
    frame = found.merge(runs[list(CELL_COLUMNS)], on="cell_id", how="left")
    frame["settings_label"] = frame["settings_key"].map(labels)
    return frame[list(MEASUREMENT_COLUMNS)].astype(dict(MEASUREMENT_COLUMNS))


# --------------------------------------------------------------------------- history


def _history_rows(
    study_folder: Path, columns: dict[str, None], skipped: list[Skipped]
) -> Iterator[Row]:
    """The readable lines of all cells, flat; names that are new go to ``columns``."""
    cells = str(study_folder / "cells")
    for name in cell_names(study_folder, skipped):
        for index, line in enumerate(read_history(cells, name, skipped).splitlines(), start=1):
            try:
                row = _history_row(line)
                _admit(row, columns)
            except ValueError as error:
                skip(skipped, Path(cells, name, "history.jsonl"), f"line {index}: {error}")
            else:
                yield {**row, "cell_id": name}


def _history_row(line: bytes) -> Row:
    row: Row = {}
    for name, value in parse_line(line).items():
        if isinstance(value, dict):
            row.update({f"{name}.{inner}": _float(number) for inner, number in value.items()})
        else:
            row[name] = _float(value)
    epoch = row.get("epoch")
    if epoch is None or not epoch.is_integer() or not 0 < epoch < _MOST_EPOCHS:
        raise ValueError("no epoch")
    return row


def _admit(row: Row, columns: dict[str, None]) -> None:
    """Add a line's names to the columns, as long as they do not fill memory."""
    if row.keys() <= columns.keys():
        return
    new = row.keys() - columns.keys()
    if len(columns) + len(new) > _MOST_COLUMNS:
        raise ValueError(f"more than {_MOST_COLUMNS} different names in a study's histories")
    columns.update((name, None) for name in row if name in new)


def _history_chunk(rows: Sequence[Row], columns: Iterable[str]) -> pd.DataFrame:
    values = {
        name: pd.Series(
            [row.get(name) for row in rows], dtype="string" if name == "cell_id" else "float64"
        )
        for name in columns
    }
    return pd.DataFrame(values)


# --------------------------------------------------------------------------- frames


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def _typed(rows: Sequence[Row], columns: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns), dtype="object").astype(dict(columns))


def _with_skipped(frame: pd.DataFrame, skipped: Sequence[Skipped]) -> pd.DataFrame:
    frame.attrs["skipped"] = list(skipped)
    return frame
