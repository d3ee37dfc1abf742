"""What was measured of some cells, as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from samsweep.config import MEASURES, RunConfig, SharpnessConfig
from samsweep.records.identity import measurement_settings, wanted_measurements
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, RecordError

#: Characters of the headers beside each other; more make a further table.
_MOST_WIDTH = 80

#: What stands for a value that is not there.
_MISSING = "??"
#: What stands for a value that only a figure can show.
_FIGURE = "measured"
#: Marks a value whose error bound is larger than was asked for.
_MARK = "*"


@dataclass(frozen=True, kw_only=True)
class _Column:
    """One measure with one choice of its settings.

    Args:
        index: Of the settings, among those that were asked for.
        name: Of the measure.
        note: The settings that differ from those of another column of the measure.
    """

    index: int
    name: str
    note: str

    @property
    def header(self) -> str:
        """Name and note, on lines of their own."""
        return f"{self.name}\n{self.note}".strip()

    @property
    def width(self) -> int:
        """Of the header, with the space beside it."""
        return max(map(len, self.header.splitlines())) + 2


def measurement_tables(
    asked: Mapping[CellFolder, Sequence[RunConfig]], settings: Sequence[SharpnessConfig]
) -> Group:
    """A row for each cell with the headline of each measure, as the records have them by now.

    Args:
        asked: The runs of each cell, one for each of the settings.
        settings: As the user asked for them.
    """
    columns = list(_columns(settings))
    rows = {folder: _row(folder, runs, columns) for folder, runs in asked.items()}
    marked = any(text.endswith(_MARK) for row in rows.values() for text in row)
    parts: list[Table | Text] = []
    for shown in _side_by_side(columns):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1))
        table.add_column("cell", overflow="fold")
        for column in columns[shown]:
            table.add_column(column.header, justify="right", overflow="fold")
        for folder, row in rows.items():
            table.add_row(folder.path.name, *row[shown])
        parts.append(table)
    if marked:
        parts.append(Text(f"{_MARK} stopped at max_hvps, above the tolerance that was asked for"))
    return Group(*parts)


def _columns(settings: Sequence[SharpnessConfig]) -> Iterator[_Column]:
    chosen = [
        (index, name, _flat(measurement_settings(config, name)))
        for index, config in enumerate(settings)
        for name in config.measures
    ]
    for index, name, values in chosen:
        others = [other for _, another, other in chosen if another == name]
        differing = [key for key in values if len({str(other[key]) for other in others}) > 1]
        note = "\n".join(f"{key}={values[key]}" for key in differing)
        yield _Column(index=index, name=name, note=note)


def _side_by_side(columns: Sequence[_Column]) -> Iterator[slice]:
    """The columns of one table after the other."""
    start, width = 0, 0
    for index, column in enumerate(columns):
        if index > start and width + column.width > _MOST_WIDTH:
            yield slice(start, index)
            start, width = index, 0
        width += column.width
    yield slice(start, len(columns))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _row(folder: CellFolder, runs: Sequence[RunConfig], columns: Sequence[_Column]) -> list[str]:
    try:
        record = folder.read()
    except RecordError:
        record = None
    return [_text(record, runs[column.index].sharpness, column.name) for column in columns]


def _text(record: Record | None, settings: SharpnessConfig, name: str) -> str:
    keys = {name: key for key, name in wanted_measurements(settings).items()}
    measurement = None if record is None else record.measurements.get(keys[name])
    if measurement is None:
        return _MISSING
    headline = MEASURES[name].headline
    if headline is None:
        return _FIGURE
    value = measurement.result.get(headline)
    text = f"{value:.4g}" if isinstance(value, int | float) else str(value).lower()
    return f"{text}{_MARK}" if measurement.result.get("converged") is False else text
