"""A pool: cells in processes of their own, a number at a time, isolated from each other."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

from samsweep.records.lock import FolderLock
from samsweep.records.schema import Status
from samsweep.records.store import RecordError
from samsweep.records.transitions import close_abandoned
from samsweep.sweep.display import Display
from samsweep.sweep.local.process import ProcessDied, start
from samsweep.sweep.plan import PlannedCell
from samsweep.system.machine import Slot
from samsweep.system.signals import StopRequest
from samsweep.system.text import duration

#: What a process of the pool runs.
_WORK = "samsweep.training.worker:work"

#: Seconds between two checks of signals, and of cells that run elsewhere.
_TICK_S = 0.2
_CHECK_ELSEWHERE_S = 1.0
#: Seconds between two SIGTERMs to a process.
_TERMINATE_AGAIN_S = 1.0

#: Signals after which everything ends at once.
_AT_ONCE = 2

#: Exit statuses, without their signs, of a process that was stopped by SIGTERM.
_STOPPED = (signal.SIGTERM, 128 + signal.SIGTERM)


@dataclass(kw_only=True)
class _Worker:
    """A process at work on a cell."""

    cell: PlannedCell
    slot: Slot
    process: ForkServerProcess
    reports: Connection
    started: float = field(default_factory=time.monotonic)
    #: The error with which it ended, if it sent one.
    error: str | None = None


class Pool:
    """Runs cells at the same time, each in a process bound to its slot.

    A cell that fails, crashes or is killed leaves the others running. A signal to stop is passed
    on: every cell saves its state at the next step. A second one ends everything at once.

    Args:
        slots: One for each cell that may run at a time.
        display: Where progress is shown.
        fail_fast: Whether the first failure stops the others cleanly.
        wait_for_others: Whether to wait for cells that other processes work on.
        work: What a process runs, ``module:function``; see :func:`samsweep.training.worker.work`.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        display: Display,
        *,
        fail_fast: bool = False,
        wait_for_others: bool = True,
        work: str = _WORK,
    ) -> None:
        self._free = deque(slots)
        self._display = display
        self._fail_fast = fail_fast
        self._wait_for_others = wait_for_others
        self._work = work
        self._waiting: deque[PlannedCell] = deque()
        self._elsewhere: list[PlannedCell] = []
        self._workers: list[_Worker] = []
        self._stopping = False
        self._checked_at = time.monotonic()
        self._terminated_at = 0.0

    def run(self, cells: Iterable[PlannedCell], elsewhere: Iterable[PlannedCell] = ()) -> None:
        """Run all cells; the results are in their records.

        Args:
            cells: In the order to start them.
            elsewhere: Cells that other processes work on. They are waited for; if such a process
                dies, its cell is taken over.

        Raises:
            Interrupted: If a signal stopped the pool; the cells have saved their states.
        """
        self._waiting.extend(cells)
        for cell in elsewhere:
            self._defer(cell)
        with StopRequest(patient=True) as stop, stop.deferred():
            try:
                while (self._workers or self._is_open) and stop.times < _AT_ONCE:
                    self._step(stop)
            except Exception:
                self._stop("An error in samsweep: each cell saves its state and stops.")
                while self._workers and stop.times < _AT_ONCE:
                    self._step(stop)
                raise
            finally:
                self._kill()
        stop.check()

    @property
    def _is_open(self) -> bool:
        """Whether there is something to start, now or later."""
        return not self._stopping and bool(self._waiting or self._elsewhere)

    def _step(self, stop: StopRequest) -> None:
        if stop.signum is not None and not self._stopping:
            self._stop(
                "Stopping: each cell saves its state at its next step. "
                "Once more, and they are stopped at once."
            )
        while self._waiting and self._free and not self._stopping:
            self._start(self._waiting.popleft())
        if self._stopping:
            self._terminate_workers()
        self._receive_all()
        for worker in [w for w in self._workers if not w.process.is_alive()]:
            self._end(worker)
        self._check_elsewhere()

    # ------------------------------------------------------------------ processes

    def _start(self, cell: PlannedCell) -> None:
        slot = self._free.popleft()
        runs = tuple(point.run for point in cell.points)
        try:
            process, reports = start(self._work, cell.folder.path, runs, slot, cell.num_attempts)
        except ProcessDied as died:
            if not self._workers:
                raise
            # Its slot is not free again: those that run fill the machine.
            self._waiting.appendleft(cell)
            self._display.print(f"One more process {died.how}; {len(self._workers)} at a time.")
            return
        self._workers.append(_Worker(cell=cell, slot=slot, process=process, reports=reports))
        self._display.started(cell.key, slot)

    def _receive_all(self) -> None:
        """Wait for reports or ends, and show the reports."""
        by_reports = {worker.reports: worker for worker in self._workers}
        sentinels = [worker.process.sentinel for worker in self._workers]
        ready = wait([*by_reports, *sentinels], timeout=_TICK_S)
        for reports, worker in by_reports.items():
            if reports in ready:
                self._receive(worker)

    def _receive(self, worker: _Worker) -> None:
        """Read the reports of a process; of several snapshots the latest counts."""
        latest = None
        try:
            while worker.reports.poll():
                report = worker.reports.recv()
                if isinstance(report, str):
                    worker.error = report
                else:
                    latest = report
        except (EOFError, OSError):
            # It has ended, perhaps in the middle of a report; its sentinel is ready too.
            worker.process.join(_TICK_S)
        if latest is not None:
            self._display.progress(worker.cell.key, latest)

    def _end(self, worker: _Worker) -> None:
        """Show how a process ended, and free its slot."""
        self._receive(worker)
        worker.process.join()
        exitcode = worker.process.exitcode or os.EX_OK
        worker.process.close()
        worker.reports.close()
        self._workers.remove(worker)
        self._free.append(worker.slot)
        cell = worker.cell
        if exitcode == os.EX_TEMPFAIL:
            self._defer(cell)
            return
        problem = self._problem(worker, exitcode)
        stopped = self._stopping or abs(exitcode) in _STOPPED
        if problem is not None:
            problem = _close(cell, "interrupted" if stopped else "failed", problem)
        self._display.ended(cell.key, _outcome(worker, problem))
        if (exitcode != 0 or problem is not None) and not stopped and self._fail_fast:
            self._stop("fail_fast=true: the other cells save their states and stop.")

    def _problem(self, worker: _Worker, exitcode: int) -> str | None:
        """Why a process ended, where its cell could not write that into the record."""
        if exitcode < 0:
            name = signal.Signals(-exitcode).name
            if exitcode == -signal.SIGKILL and self._stopping:
                return "it was stopped at once, and resumes at its last checkpoint"
            if exitcode == -signal.SIGKILL:
                return (
                    f"its process was killed ({name}): out of memory? Fewer cells at a time take "
                    "less, hydra.launcher.workers=1; its log is run.log"
                )
            return f"its process ended with {name}; its log is run.log"
        if worker.error is None and _is_abandoned(worker.cell):
            return (
                f"its process ended with status {exitcode} in the middle, by os._exit or the like; "
                "its log is run.log"
            )
        return worker.error

    # ------------------------------------------------------------------ cells of others

    def _defer(self, cell: PlannedCell) -> None:
        """Another process works on it: check again later."""
        holder = FolderLock(cell.folder.path).holder()
        self._display.removed(cell.key)
        where = f"runs elsewhere ({holder or 'unknown'})"
        if self._wait_for_others:
            self._display.print(f"{where}; waiting for it", cell.key)
            self._elsewhere.append(cell)
        else:
            self._display.ended(cell.key, where)

    def _check_elsewhere(self) -> None:
        if time.monotonic() - self._checked_at < _CHECK_ELSEWHERE_S:
            return
        self._checked_at = time.monotonic()
        for cell in [c for c in self._elsewhere if not FolderLock(c.folder.path).alive]:
            self._elsewhere.remove(cell)
            if _is_left_unfinished(cell):
                self._display.print("was left unfinished elsewhere; resumed here", cell.key)
                self._waiting.append(cell)
            else:
                self._display.ended(cell.key, f"{cell.summary()}, elsewhere")

    # ------------------------------------------------------------------ stopping

    def _stop(self, why: str) -> None:
        self._stopping = True
        self._display.print(why)

    def _terminate_workers(self) -> None:
        """Send SIGTERM again and again: a process that is just starting does not handle it yet.

        One that does ignores all but the first.
        """
        if time.monotonic() - self._terminated_at < _TERMINATE_AGAIN_S:
            return
        self._terminated_at = time.monotonic()
        for worker in self._workers:
            worker.process.terminate()

    def _kill(self) -> None:
        """End what still runs: after a second signal, or an error in samsweep."""
        self._stopping = True
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            self._end(worker)


def _is_abandoned(cell: PlannedCell) -> bool:
    """Whether a cell without a process is still called running."""
    try:
        record = cell.folder.read()
    except RecordError:
        return False
    is_running = record is not None and record.status == "running"
    return is_running and not FolderLock(cell.folder.path).alive


def _is_left_unfinished(cell: PlannedCell) -> bool:
    """Whether a cell that ran elsewhere is to be resumed here; one that failed there is not.

    An unreadable record is reported by the process that resumes the cell.
    """
    try:
        record = cell.folder.read()
    except RecordError:
        return True
    if record is not None and (record.status == "failed" or record.measuring_error):
        return False
    return cell.is_unfinished_in(record)


def _close(cell: PlannedCell, status: Status, problem: str) -> str:
    """Write a problem into the cell's record; returns it, and why if it could not be written."""
    try:
        close_abandoned(cell.folder, status, problem)
    except (RecordError, OSError) as error:
        return f"{problem}; nor can its record be written: {error}"
    return problem


def _outcome(worker: _Worker, problem: str | None) -> str:
    seconds = duration(time.monotonic() - worker.started)
    if problem is not None:
        return f"ended after {seconds}: {problem}"
    return f"{worker.cell.summary()}  in {seconds}"
