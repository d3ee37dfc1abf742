"""Waiting for jobs of a cluster: the records on the shared disk are the truth, Slurm is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from samsweep.records.lock import FolderLock
from samsweep.records.schema import Status
from samsweep.records.store import RecordError
from samsweep.records.transitions import close_abandoned
from samsweep.sweep.display import Display
from samsweep.sweep.plan import PlannedCell
from samsweep.sweep.slurm.scheduler import (
    JobState,
    SlurmUnavailable,
    describe_jobs,
    end_of_job,
    job_states,
)
from samsweep.system.signals import StopRequest

#: Seconds between two questions to Slurm.
_ASK_EVERY_S = 5.0
#: Questions for which a job may be missing from the queue: a requeued one is for a moment.
_MISSING_TIMES = 2
_TICK_S = 0.5

#: Ends of a job after which its cells were stopped rather than failed.
_STOPPED = ("CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "DEADLINE")


class JobWatch:
    """Waits until every job has left the queue and every cell has been accounted for.

    Args:
        jobs: Cells by the job that they are in.
        display: What tells the user.
    """

    def __init__(self, jobs: Mapping[str, tuple[PlannedCell, ...]], display: Display) -> None:
        self._jobs = dict(jobs)
        self._display = display
        self._missing: dict[str, int] = {}
        self._told = ""

    def wait(self) -> None:
        """Until the last job is gone.

        Raises:
            Interrupted: If a signal asks to stop waiting; the jobs go on.
        """
        with StopRequest() as stop, stop.deferred():
            while self._jobs:
                self._look()
                until = time.monotonic() + _ASK_EVERY_S
                while self._jobs and time.monotonic() < until:
                    stop.check()
                    time.sleep(_TICK_S)

    def _look(self) -> None:
        try:
            states = job_states(self._jobs)
        except SlurmUnavailable as error:
            self._tell(f"Slurm does not answer ({error}); asking again")
            return
        self._tell(describe_jobs(states))
        for job_id in list(self._jobs):
            self._settle(job_id, states.get(job_id))

    def _tell(self, news: str) -> None:
        if news and news != self._told:
            self._display.print(f"jobs: {news}")
            self._told = news

    def _settle(self, job_id: str, state: JobState | None) -> None:
        """Take a job that is gone off the list, and say what became of its cells."""
        cells = self._jobs[job_id]
        if state is not None:
            self._missing.pop(job_id, None)
            return
        unfinished = [cell for cell in cells if _is_unfinished(cell)]
        self._missing[job_id] = self._missing.get(job_id, 0) + 1
        if unfinished and self._missing[job_id] < _MISSING_TIMES:
            return
        end = end_of_job(job_id)
        for cell in cells:
            if cell in unfinished:
                _settle_cell(cell, job_id, end)
            self._display.ended(cell.key, cell.summary())
        del self._jobs[job_id]


def _is_unfinished(cell: PlannedCell) -> bool:
    """By its record; one that cannot be read says nothing of being finished."""
    try:
        return cell.is_unfinished_in(cell.folder.read())
    except RecordError:
        return True


def _settle_cell(cell: PlannedCell, job_id: str, end: str) -> None:
    """Say in the record of a cell whose job is gone what became of it, unless it says so itself."""
    if FolderLock(cell.folder.path).alive or _says_why_it_is_not_measured(cell, end):
        return
    status: Status = "interrupted" if end.startswith(_STOPPED) else "failed"
    told = end or "and Slurm does not remember how"
    with suppress(RecordError):
        close_abandoned(cell.folder, status, f"its job {job_id} ended: {told}")


def _says_why_it_is_not_measured(cell: PlannedCell, end: str) -> bool:
    """Whether a failed measurement is told in the record already, and not from an earlier attempt.

    A job that was not killed has ended as its cells did.
    """
    before = None if cell.record is None else cell.record.measuring_error
    try:
        record = cell.folder.read()
    except RecordError:
        return False
    told = None if record is None else record.measuring_error
    return told is not None and (told != before or end.startswith("FAILED"))
