"""Where the cells of a study stand, by their records, their locks and the queue of a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from samsweep.records.lock import FolderLock
from samsweep.records.schema import Attempt, Record
from samsweep.records.store import CellFolder, RecordError, cell_folders
from samsweep.sweep.slurm.queue import QueuedCell, queued_cells
from samsweep.sweep.slurm.scheduler import SlurmUnavailable
from samsweep.system.text import counted

#: States of cells that have stopped before their end, unless a launch is about to start them.
STOPPED = ("failed", "unmeasured", "interrupted", "stalled", "planned")


@dataclass(frozen=True, kw_only=True)
class CellStatus:
    """One row of the table.

    Args:
        name: The cell's id.
        state: The record's status; ``stalled`` for a running cell without a heartbeat,
            ``starting`` for one without a record, ``unreadable`` for a broken record, ``queued``
            for one whose job waits on a cluster, ``unmeasured`` for a trained one whose measurement
            failed.
        record: The record, if there is one.
        problem: What is wrong with an unreadable one.
        queued: Its job on a cluster, if that waits or runs.
    """

    name: str
    state: str
    record: Record | None = None
    problem: str | None = None
    queued: QueuedCell | None = None

    @property
    def where(self) -> str:
        """Host and job, and what a queued job waits for."""
        parts = [self.attempt.provenance.host] if self.attempt and self.state != "queued" else []
        if self.queued is not None:
            parts.append(f"job {self.queued.job_id}")
            if self.state == "queued":
                parts.append(f"({self.queued.state.reason or self.queued.state.state.lower()})")
        elif self.attempt and self.attempt.provenance.job_id:
            parts.append(f"job {self.attempt.provenance.job_id}")
        return " ".join(parts)

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.record.attempts[-1] if self.record and self.record.attempts else None

    @property
    def reason(self) -> str:
        """What went wrong."""
        reasons = [self.problem]
        if self.record is not None:
            reasons += [self.record.error, self.record.measuring_error]
        return "\n".join(text for text in reasons if text)

    @property
    def epochs(self) -> str:
        """Complete epochs of all."""
        progress = self.record.progress if self.record else None
        return f"{progress.epoch}/{progress.num_epochs}" if progress else ""

    @property
    def elapsed_s(self) -> float | None:
        """Seconds of work: of all attempts that ended, and of the one that is running."""
        if self.record is None or self.attempt is None:
            return None
        running = _seconds_since(self.attempt.started) if self.state == "running" else 0.0
        return self.record.seconds + running

    @property
    def remaining_s(self) -> float | None:
        """Seconds to go at the pace of the running attempt; None until it ends an epoch."""
        if self.state != "running" or self.record is None or self.attempt is None:
            return None
        progress, start = self.record.progress, self.attempt.start_step
        if progress is None or start is None:
            return None
        done = progress.epoch - start / progress.steps_per_epoch
        if done <= 0:
            return None
        seconds = _seconds_between(self.attempt.started, progress.updated)
        return seconds / done * (progress.num_epochs - progress.epoch)


def read_status(study: Path, warn: Callable[[str], None] = lambda text: None) -> list[CellStatus]:
    """The state of every cell of a study; ``warn`` is told if a cluster does not answer."""
    try:
        queued = queued_cells(study)
    except SlurmUnavailable as error:
        # This machine cannot ask the cluster; the states are those of the records.
        warn(f"Slurm does not answer here ({error}): what follows is from the records alone.")
        queued = {}
    return [_cell_status(folder, queued.get(folder.key)) for folder in cell_folders(study)]


def _cell_status(folder: CellFolder, queued: QueuedCell | None) -> CellStatus:
    name = folder.path.name
    try:
        record = folder.read()
    except RecordError as error:
        return CellStatus(name=name, state="unreadable", problem=str(error))
    if record is None:
        return CellStatus(name=name, state="starting")
    state: str = record.status
    alive = not record.finished and FolderLock(folder.path).alive
    if state == "running" and not alive:
        state = "stalled"
    if record.measuring_error is not None:
        state = "unmeasured"
    if queued is not None and not alive and not record.finished and state != "failed":
        state = state if _ended_in(record, queued) else "queued"
    return CellStatus(name=name, state=state, record=record, queued=queued)


def _ended_in(record: Record, queued: QueuedCell) -> bool:
    """Whether a cell was stopped in a job that runs others, or pruned: that job will not resume it.

    If the whole job was stopped it is queued again, and waits.
    """
    ran_there = bool(record.attempts) and record.attempts[-1].provenance.job_id == queued.job_id
    stopped = record.status == "interrupted" and queued.state.state == "RUNNING"
    return ran_there and (stopped or record.status == "pruned")


def totals(cells: Sequence[CellStatus]) -> str:
    """How many cells are in which state."""
    counts = Counter(cell.state for cell in cells)
    parts = ", ".join(f"{n} {state}" for state, n in counts.most_common())
    return f"{counted(len(cells), 'cell')}: {parts}"


def _seconds_since(moment: str) -> float:
    return _seconds_between(moment, datetime.now(UTC).isoformat())


def _seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
