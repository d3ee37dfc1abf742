"""Wait for jobs of a cluster: Slurm says which are in its queue, records say how cells ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

from samsweep.records.lock import FolderLock
from samsweep.records.schema import Status
from samsweep.records.store import RecordError
from samsweep.records.transitions import close_abandoned
from samsweep.sweep.display import Display
from samsweep.sweep.plan import PlannedCell
from samsweep.sweep.slurm.ended import account_of, was_held_by
from samsweep.sweep.slurm.scheduler import (
    JobEnd,
    JobState,
    SlurmUnavailable,
    describe_jobs,
    ends_of_jobs,
    exclude_node,
    job_states,
)
from samsweep.system.signals import StopRequest

#: Seconds between two requests to Slurm.
_POLL_EVERY_S = 5.0
#: Answers without a job after which it is gone: a requeued one is missing for a moment.
_MISSING_TIMES = 2
_TICK_S = 0.5
#: Jobs that die on a node before a cell began, after which the launch does without it.
_NODE_FAILURES = 2


class JobWatch:
    """Waits until every job has left the queue and the record of every cell says how it ended."""

    def __init__(self, jobs: Mapping[str, tuple[PlannedCell, ...]], display: Display) -> None:
        self._jobs = dict(jobs)
        self._display = display
        self._missing: dict[str, int] = {}
        self._failures: Counter[str] = Counter()
        self._printed = ""

    def wait(self) -> None:
        """Until the last job is gone.

        Raises:
            Interrupted: If a signal asks to stop waiting; the jobs go on.
        """
        with StopRequest() as stop, stop.deferred():
            while self._jobs:
                self._poll()
                until = time.monotonic() + _POLL_EVERY_S
                while self._jobs and time.monotonic() < until:
                    stop.check()
                    time.sleep(_TICK_S)

    def _poll(self) -> None:
        try:
            states = job_states(self._jobs)
        except SlurmUnavailable as error:
            self._print(f"Slurm does not answer ({error}); asking again")
            return
        self._print(describe_jobs(states))
        for job_id in list(self._jobs):
            self._settle(job_id, states.get(job_id))

    def _print(self, line: str) -> None:
        """Unless it is what was printed last."""
        if line and line != self._printed:
            self._display.print(f"jobs: {line}")
            self._printed = line

    def _settle(self, job_id: str, state: JobState | None) -> None:
        """Close the cells of a job that is gone."""
        cells = self._jobs[job_id]
        if state is not None:
            self._missing.pop(job_id, None)
            return
        unfinished = [cell for cell in cells if _is_unfinished(cell)]
        self._missing[job_id] = self._missing.get(job_id, 0) + 1
        if unfinished and self._missing[job_id] < _MISSING_TIMES:
            return
        end = ends_of_jobs([job_id]).get(job_id)
        for cell in cells:
            if cell in unfinished:
                _settle_cell(cell, job_id, end)
            self._display.ended(cell.key, cell.summary())
        del self._jobs[job_id]
        if unfinished and end is not None and end.node:
            self._count_failure(
                end.node, [cell for cell in unfinished if _never_began(cell, job_id)]
            )

    def _count_failure(self, node: str, cells: Sequence[PlannedCell]) -> None:
        """Have no more jobs start on a node where two died before a cell began."""
        if not cells:
            return
        self._failures[node] += 1
        if self._failures[node] != _NODE_FAILURES or not self._jobs:
            return
        try:
            excluded = exclude_node(node, self._jobs)
        except SlurmUnavailable as error:
            self._display.print(f"jobs: {node} could not be excluded ({error})")
            return
        if excluded:
            self._display.print(f"jobs: {node} failed twice, the waiting jobs do without it")


def _is_unfinished(cell: PlannedCell) -> bool:
    """By its record; a cell whose record cannot be read is not finished."""
    try:
        return cell.is_unfinished_in(cell.folder.read())
    except RecordError:
        return True


def _settle_cell(cell: PlannedCell, job_id: str, end: JobEnd | None) -> None:
    """Write how its job ended into the record of a cell, unless that says why it ended."""
    # What a job has left behind looks alive until its heartbeat is old; Slurm knows better.
    left_behind = end is not None and was_held_by(cell.folder, job_id)
    if (FolderLock(cell.folder.path).alive and not left_behind) or _has_measuring_error(cell, end):
        return
    status: Status = "interrupted" if end is not None and end.interrupts else "failed"
    account = account_of(cell.folder.study, job_id, end)
    with suppress(RecordError):
        close_abandoned(cell.folder, status, account, job_id=job_id if end is not None else None)


def _never_began(cell: PlannedCell, job_id: str) -> bool:
    """Whether no process of a job came to work on a cell."""
    with suppress(RecordError):
        record = cell.folder.read()
        attempts = () if record is None else record.attempts
        return all(attempt.provenance.job_id != job_id for attempt in attempts)
    return False


def _has_measuring_error(cell: PlannedCell, end: JobEnd | None) -> bool:
    """Whether the record has the error of a failed measurement, of this job and not an earlier one.

    A job that FAILED was not killed: its cells wrote their errors themselves.
    """
    before = None if cell.record is None else cell.record.measuring_error
    try:
        record = cell.folder.read()
    except RecordError:
        return False
    error = None if record is None else record.measuring_error
    return error is not None and (error != before or (end is not None and end.state == "FAILED"))
