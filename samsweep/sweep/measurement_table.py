"""What was measured of some cells, as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from samsweep.config import MEASURES, RunConfig
from samsweep.records.identity import measurement_settings, wanted_measurements
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, RecordError


def measurement_table(asked: Mapping[CellFolder, Sequence[RunConfig]]) -> Table:
    """A row for each measure and cell with the measure's headline, as the record has it by now.

    Args:
        asked: The runs of each cell, one for each choice of settings.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for header in ("measure", "cell"):
        table.add_column(header, overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    rows: dict[str, list[tuple[str, str]]] = {}
    for folder, runs in asked.items():
        record = _read(folder)
        settings = [
            (key, name, _flat(measurement_settings(run.sharpness, name)))
            for run in runs
            for key, name in wanted_measurements(run.sharpness).items()
        ]
        for key, name, values in settings:
            others = [other for _, another, other in settings if another == name]
            differing = [k for k in values if any(other[k] != values[k] for other in others)]
            label = " ".join([name, *(f"{k}={values[k]}" for k in differing)])
            rows.setdefault(label, []).append((folder.path.name, _value(record, key, name)))
    for label, cells in rows.items():
        for cell, value in cells:
            table.add_row(label, cell, value)
        table.add_section()
    if any(value.endswith("*") for cells in rows.values() for _, value in cells):
        table.caption = "* not converged: the error is above the tolerance that was asked for"
    return table


def _read(folder: CellFolder) -> Record | None:
    try:
        return folder.read()
    except RecordError:
        return None


def _value(record: Record | None, key: str, name: str) -> str:
    """The headline; ?? if it is missing, marked by * if it did not converge."""
    measurement = None if record is None else record.measurements.get(key)
    if measurement is None:
        return "??"
    headline = MEASURES[name].headline
    if headline is None:
        return "measured"  # only a figure can show it
    value = measurement.result.get(headline)
    text = f"{value:.4g}" if isinstance(value, int | float) else str(value).lower()
    return f"{text}*" if measurement.result.get("converged") is False else text


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
