"""Where the cells of a study stand, by their records, their locks and the queue of a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from samsweep.records.identity import CellKey
from samsweep.records.lock import FolderLock
from samsweep.records.schema import Attempt, Record
from samsweep.records.store import CellFolder, RecordError, cell_folders
from samsweep.sweep.names import hidden_differences
from samsweep.sweep.slurm.ended import account_of, was_held_by
from samsweep.sweep.slurm.queue import QueuedCell
from samsweep.sweep.slurm.standing import GoneCell, Standing, standing_of
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
            for one whose job waits on a cluster, ``submitted`` where that does not answer,
            ``unmeasured`` for a trained one whose measurement failed.
        record: The record, if there is one.
        differs: What tells it from cells of the same name but for the hash, as ``lr=0.1``.
        problem: What is wrong with an unreadable one.
        queued: Its job on a cluster, if that waits or runs.
        gone: Its job, if that has ended and the record does not say so.
        account: How that ended.
        submitted: Its job, where the cluster does not answer.
    """

    name: str
    state: str
    record: Record | None = None
    differs: str = ""
    problem: str | None = None
    queued: QueuedCell | None = None
    gone: GoneCell | None = None
    account: str | None = None
    submitted: str | None = None

    @property
    def label(self) -> str:
        """Its id, and what that leaves out."""
        return f"{self.name} ({self.differs})" if self.differs else self.name

    @property
    def where(self) -> str:
        """Host and job, and what a queued job waits for."""
        waits = self.state in ("queued", "submitted")
        parts = [self.attempt.provenance.host] if self.attempt and not waits else []
        if self.gone is not None:
            end = f" ({self.gone.end.state})" if self.gone.end else ""
            parts.append(f"job {self.gone.job_id}{end}")
        elif self.submitted is not None and not self.attempt:
            parts.append(f"job {self.submitted}")
        elif self.queued is not None:
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
        reasons = [self.problem, self.account]
        if self.record is not None:
            reasons += [self.record.error, self.record.measuring_error]
        return "\n".join(text for text in reasons if text)

    @property
    def lacked(self) -> str | None:
        """The key of ``hydra.launcher`` of which its job had too little, if that was it."""
        if self.state not in ("failed", "interrupted"):
            return None
        told = self.reason
        lacks = {"OUT_OF_MEMORY": "mem_gb", "TIMEOUT": "timeout_min", "timed-out": "timeout_min"}
        return next((key for words, key in lacks.items() if words in told), None)

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
    return StatusReader(study, warn).read()


class StatusReader:
    """Reads the state of every cell of a study, the next times only what has changed.

    Args:
        study: Its folder.
        warn: Is told, once, if a cluster does not answer.
        max_age_s: Seconds for which what a cluster has answered is good, whoever asked.
    """

    def __init__(
        self,
        study: Path,
        warn: Callable[[str], None] = lambda text: None,
        *,
        max_age_s: float = 0.0,
    ) -> None:
        self._study = study
        self._warn = warn
        self._max_age_s = max_age_s
        self._records: dict[Path, tuple[object, Record | RecordError | None]] = {}
        self._warned: str | None = None
        self._compared: set[CellKey] = set()
        self._differences: Mapping[CellKey, str] = {}

    def read(self) -> list[CellStatus]:
        """The cells in the order of their names."""
        found = {folder: self._record(folder) for folder in cell_folders(self._study)}
        open_cells = {
            folder.key
            for folder, record in found.items()
            if isinstance(record, Record) and not record.finished and record.status != "failed"
        }
        standing = standing_of(self._study, open_cells, max_age_s=self._max_age_s)
        if standing.problem is not None and standing.problem != self._warned:
            # This machine cannot ask the cluster; the states are those of the records.
            self._warn(
                f"Slurm does not answer here ({standing.problem}): "
                "what follows is from the records alone."
            )
        self._warned = standing.problem
        differences = self._differences_of(found)
        return [
            replace(_cell_status(folder, record, standing), differs=differences.get(folder.key, ""))
            for folder, record in found.items()
        ]

    def _differences_of(
        self, found: Mapping[CellFolder, Record | RecordError | None]
    ) -> Mapping[CellKey, str]:
        """As long as the cells are the same, they differ in the same."""
        cells = {
            f.key: record.identity for f, record in found.items() if isinstance(record, Record)
        }
        if cells.keys() != self._compared:
            self._compared, self._differences = set(cells), hidden_differences(cells)
        return self._differences

    def _record(self, folder: CellFolder) -> Record | RecordError | None:
        try:
            state = folder.record_file.stat()
        except OSError:
            state = None
        # A record is replaced as a whole, by another file.
        signature = state and (state.st_ino, state.st_mtime_ns, state.st_size)
        known = self._records.get(folder.path)
        if known is not None and known[0] == signature:
            return known[1]
        record: Record | RecordError | None
        try:
            record = folder.read()
        except RecordError as error:
            record = error
        self._records[folder.path] = (signature, record)
        return record


def _cell_status(
    folder: CellFolder, record: Record | RecordError | None, standing: Standing
) -> CellStatus:
    name, key = folder.path.name, folder.key
    if isinstance(record, RecordError):
        return CellStatus(name=name, state="unreadable", problem=str(record))
    if record is None:
        return CellStatus(name=name, state="starting")
    state: str = record.status
    queued, gone = standing.queued.get(key), standing.gone.get(key)
    submitted = standing.unknown.get(key)
    alive = not record.finished and FolderLock(folder.path).alive
    # What a job has left behind looks alive until its heartbeat is old; Slurm knows better.
    left_behind = gone is not None and gone.end is not None and was_held_by(folder, gone.job_id)
    if gone is not None and (not alive or left_behind):
        return _of_gone_job(folder, record, gone)
    if state == "running" and not alive:
        state = "stalled"
    if record.measuring_error is not None:
        state = "unmeasured"
    waits = not alive and not record.finished and state != "failed"
    if queued is not None and waits:
        state = state if _ended_in(record, queued) else "queued"
    elif submitted is not None and state == "planned":
        state = "submitted"
    return CellStatus(name=name, state=state, record=record, queued=queued, submitted=submitted)


def _of_gone_job(folder: CellFolder, record: Record, gone: GoneCell) -> CellStatus:
    """A cell that did not come to say how it ended, by how its job did."""
    state: str = record.status
    if state in ("planned", "running"):
        interrupts = gone.end is not None and gone.end.interrupts
        state = "interrupted" if interrupts else "failed"
    account = account_of(folder.study, gone.job_id, gone.end)
    return CellStatus(name=folder.path.name, state=state, record=record, gone=gone, account=account)


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
