"""What a sweep will cost, from records of similar cells or from a short timed probe."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from samsweep.config import CellConfig, RunConfig, Variant
from samsweep.records.identity import CellKey, canonical_json
from samsweep.records.remaining_work import missing_measurements
from samsweep.records.schema import Attempt, Provenance, Record
from samsweep.records.store import CellFolder, RecordError
from samsweep.sweep.plan import Plan, PlannedCell
from samsweep.system.machine import Slot
from samsweep.system.text import counted

#: Records that are read, at most: the estimate must not cost more than it is worth.
_MOST_RECORDS = 200

#: Times an epoch of each run on this machine.
Probe = Callable[[Sequence[RunConfig]], Sequence[float]]

#: What makes the epochs of two cells alike: model, images, precision.
Kind = tuple[str | int | None, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of work, of one process with the machine's share that it gets.

    Args:
        cells: Seconds of each cell that has work left.
        source: Where the numbers come from.
        uncounted: Measurements that will be taken and of whose duration nothing is known.
    """

    cells: Mapping[CellKey, float]
    source: str
    uncounted: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """Of all cells together."""
        return sum(self.cells.values())

    def seconds_with(self, workers: int) -> float:
        """From start to end with so many cells at a time, longest first."""
        ends = [0.0] * workers
        for seconds in sorted(self.cells.values(), reverse=True):
            ends[ends.index(min(ends))] += seconds
        return max(ends)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is known of a launch before it starts.

    Args:
        slots: How this machine is divided; None if the runner does not divide it.
        cost: The estimate; None if there is none.
    """

    slots: tuple[Slot, ...] | None = None
    cost: Cost | None = None


def estimate_cost(
    plan: Plan, *, device: str | None, num_threads: int | None, probe: Probe | None
) -> Cost | None:
    """Estimate the seconds of the work that is left; cells that run elsewhere are not counted.

    An epoch's duration is the median over records of the same model and data set on the same kind
    of device: those with as many threads and of the same variant if there are any, else scaled by
    the gradients that a step takes. Where there is no record, steps are timed, once for each model
    and data set.

    Args:
        plan: The sweep; the records of all studies beside its own are read.
        device: As in ``Provenance.device``; None if it is not known: records of all devices count.
        num_threads: CPU threads that the cells will have, if that is known.
        probe: Times steps; None if that is not possible.

    Returns:
        None if a record is missing and steps cannot be timed.
    """
    records = _recent_records(plan.studies[0].parent)
    durations = _Durations(records, device=device, num_threads=num_threads)
    to_train = [cell for cell in plan.to_do if cell.action != "measure"]
    unknown: dict[tuple[Kind, int], RunConfig] = {}
    for cell in to_train:
        if durations.epoch_s(cell.run.cell) is None:
            unknown.setdefault(_probe_key(cell.run.cell), cell.run)
    if unknown and probe is None:
        return None
    seconds_probed = probe(list(unknown.values())) if unknown and probe is not None else ()
    timed = {
        key: seconds / run.cell.variant.passes
        for (key, run), seconds in zip(unknown.items(), seconds_probed, strict=True)
    }

    def epoch_s(cell: CellConfig) -> float:
        known = durations.epoch_s(cell)
        return timed[_probe_key(cell)] * cell.variant.passes if known is None else known

    seconds: dict[CellKey, float] = {}
    uncounted: set[str] = set()
    for cell in plan.to_do:
        training = 0.0 if cell.action == "measure" else epoch_s(cell.run.cell) * _epochs_left(cell)
        measuring = 0.0
        for key, name in _missing(cell).items():
            known = durations.measurement_s(cell.run.cell, key)
            if known is None:
                uncounted.add(name)
            measuring += known or 0.0
        seconds[cell.key] = training + measuring
    return Cost(
        cells=seconds,
        source=_source(durations, num_timed=len(timed), device=device),
        uncounted=frozenset(uncounted),
    )


def _source(durations: _Durations, *, num_timed: int, device: str | None) -> str:
    parts = []
    where = f"this {device}" if device is not None else "any device"
    if durations.used:
        parts.append(f"from {counted(len(durations.used), 'record')} on {where}")
    if num_timed:
        parts.append(f"from timed steps on {where}")
    return " and ".join(parts)


@dataclass(frozen=True, kw_only=True)
class _Epoch:
    """One attempt's seconds per epoch."""

    key: CellKey
    variant: Variant
    num_threads: int
    seconds: float


class _Durations:
    """Durations on a device (None is any), from records; ``num_threads`` is preferred."""

    def __init__(
        self, records: Iterable[Record], *, device: str | None, num_threads: int | None
    ) -> None:
        self._device = device
        self._num_threads = num_threads
        self._epochs: dict[Kind, list[_Epoch]] = defaultdict(list)
        self._measurements: dict[tuple[Kind, str], list[tuple[CellKey, float]]] = defaultdict(list)
        #: Cells whose records were used.
        self.used: set[CellKey] = set()
        for record in records:
            self._add(record)

    def _add(self, record: Record) -> None:
        kind = _kind(record.identity)
        for attempt in record.attempts:
            seconds = _epoch_seconds(attempt, record)
            if seconds is not None and self._is_alike(attempt.provenance):
                self._epochs[kind].append(
                    _Epoch(
                        key=record.key,
                        variant=record.identity.variant,
                        num_threads=attempt.provenance.num_threads,
                        seconds=seconds,
                    )
                )
        for key, measurement in record.measurements.items():
            seconds = measurement.result.get("seconds")
            if isinstance(seconds, float) and self._is_alike(measurement.provenance):
                self._measurements[kind, key].append((record.key, seconds))

    def _is_alike(self, provenance: Provenance) -> bool:
        return self._device in (None, provenance.device)

    def epoch_s(self, cell: CellConfig) -> float | None:
        """Median seconds of an epoch; None if there is no record."""
        epochs = self._epochs.get(_kind(cell), [])
        epochs = [e for e in epochs if e.num_threads == self._num_threads] or epochs
        epochs = [e for e in epochs if e.variant.name == cell.variant.name] or epochs
        self.used.update(e.key for e in epochs)
        scaled = [e.seconds * cell.variant.passes / e.variant.passes for e in epochs]
        return statistics.median(scaled) if scaled else None

    def measurement_s(self, cell: CellConfig, key: str) -> float | None:
        """Median seconds of a measurement with the same settings; None if there is no record."""
        entries = self._measurements.get((_kind(cell), key), [])
        self.used.update(cell for cell, _ in entries)
        return statistics.median(seconds for _, seconds in entries) if entries else None


def _recent_records(root: Path) -> Iterable[Record]:
    """The latest records of all studies that can be read."""
    files = root.glob("*/cells/*/record.json")
    dated = sorted(((file.stat().st_mtime, file) for file in files), reverse=True)
    for _, file in dated[:_MOST_RECORDS]:
        try:
            record = CellFolder(file.parent).read()
        except RecordError:
            # Reported by whatever plans or tabulates that cell.
            continue
        if record is not None:
            yield record


def _epoch_seconds(attempt: Attempt, record: Record) -> float | None:
    """Seconds of an epoch in an attempt that ended cleanly after at least one."""
    if attempt.seconds is None or attempt.end_step is None or record.progress is None:
        return None
    epochs = (attempt.end_step - (attempt.start_step or 0)) / record.progress.steps_per_epoch
    return attempt.seconds / epochs if epochs >= 1 else None


def _epochs_left(cell: PlannedCell) -> int:
    epochs = cell.run.cell.recipe.epochs
    progress = None if cell.record is None else cell.record.progress
    return epochs if progress is None else max(0, epochs - progress.epoch)


def _missing(cell: PlannedCell) -> dict[str, str]:
    """Names, by key, of the measurements that the points of a cell ask for and that lack."""
    record = cell.record or Record.planned(cell.run)
    return {
        key: name
        for point in cell.points
        for key, name in missing_measurements(point.run, record).items()
    }


def _kind(cell: CellConfig) -> Kind:
    dataset = cell.dataset
    return (
        cell.model.name,
        canonical_json(cell.model.args or {}),
        dataset.name,
        dataset.image_size,
        dataset.fingerprint,
        cell.recipe.precision,
    )


def _probe_key(cell: CellConfig) -> tuple[Kind, int]:
    """Cells that one timing stands for, scaled by the gradients of a step."""
    return (_kind(cell), cell.recipe.batch_size)
