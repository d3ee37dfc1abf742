"""What runs inside a job of a cluster: a pool over the job's share of the cells."""

from __future__ import annotations

import logging
import os
import signal
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from samsweep.config import RunConfig
from samsweep.config.factory import add_search_path
from samsweep.config.plugins import load_plugins
from samsweep.records.provenance import code_fingerprint
from samsweep.records.remaining_work import work_left
from samsweep.records.schema import CellFailed, Status
from samsweep.records.store import CellFolder, RecordError
from samsweep.records.transitions import close_abandoned
from samsweep.sweep.display import Display
from samsweep.sweep.local.pool import Pool
from samsweep.sweep.local.runner import machine_of, slots_of
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.names import names_of
from samsweep.sweep.plan import Plan, Point, describe_states, plan_sweep
from samsweep.sweep.slurm.start import take_warnings
from samsweep.system.signals import Interrupted, StopRequest

log = logging.getLogger(__name__)

OnCodeChange = Literal["warn", "refuse"]


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """A job: called by submitit on the node, with everything fixed when it was submitted.

    Args:
        cells: Folder and runs of each cell.
        settings: How the job divides its machine.
        code: Fingerprint of samsweep's source at submission.
        on_code_change: What to do if the source has changed since.
        fail_fast: Whether the first failure stops the job's other cells.
        search_path: Folders where modules of the user's own lie.
    """

    cells: tuple[tuple[Path, tuple[RunConfig, ...]], ...]
    settings: PoolSettings
    code: str
    on_code_change: OnCodeChange = "warn"
    fail_fast: bool = False
    search_path: tuple[str, ...] = ()

    def __call__(self) -> None:
        """Train and measure the cells as their runs ask.

        Raises:
            CellFailed: If some are not finished, so that Slurm calls the job failed as well.
            Interrupted: If a signal stopped it; the cells have saved their states.
        """
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        # Sent with a preemption, and without meaning here. Submitit's handler logs, which is not
        # safe in the middle of another call of the same logger.
        signal.signal(signal.SIGCONT, signal.SIG_DFL)
        try:
            # If that takes too long Slurm kills the job; a second signal changes nothing.
            with StopRequest(patient=True) as stop, stop.deferred():
                take_warnings()
                self._work(stop)
        except Interrupted as stopped:
            self._hand_over(stopped)
            raise
        self._check_finished()

    def checkpoint(self) -> Any:
        """What submitit requeues after a preemption or a timeout: the same job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)

    def _work(self, stop: StopRequest) -> None:
        try:
            self._check_code()
            add_search_path(self.search_path)
            load_plugins({name for _, runs in self.cells for run in runs for name in run.plugins})
            plan = self._plan()
            if plan.to_do:
                self._run(plan, stop)
        except Exception:
            # No cell has started: the error goes to their records, where status finds it.
            self._close_cells("failed", traceback.format_exc())
            raise

    def _plan(self) -> Plan:
        return plan_sweep(
            Point(run=run, folder=CellFolder(folder)) for folder, runs in self.cells for run in runs
        )

    def _run(self, plan: Plan, stop: StopRequest) -> None:
        machine = machine_of(plan, download=False)
        slots = slots_of(plan, machine, self.settings)
        stop.check()
        with Display(names_of(plan.to_do)) as display:
            pool = Pool(slots, display, fail_fast=self.fail_fast, wait_for_others=False)
            pool.run(plan.to_do)

    def _hand_over(self, stopped: Interrupted) -> None:
        """After Slurm's warning of the time limit, let submitit requeue the job.

        Its handler is installed again; a preempted job (SIGTERM) is requeued by Slurm itself.

        Raises:
            CellFailed: If the job has reached its limit too often.
        """
        if stopped.signum != signal.SIGUSR2 or not self._plan().to_do:
            return
        from submitit.core.utils import UncompletedJobError

        try:
            os.kill(os.getpid(), signal.SIGUSR2)
        except UncompletedJobError as error:
            sentence = (
                f"{error} Its cells are saved: raise timeout_min or max_num_timeout of "
                "hydra.launcher, and the same command resumes them"
            )
            self._close_cells("interrupted", sentence)
            raise CellFailed(sentence) from error

    def _close_cells(self, status: Status, error: str) -> None:
        """Write into the records of unfinished cells why they are unfinished, where possible."""
        for folder, runs in self.cells:
            with suppress(RecordError, OSError):
                record = CellFolder(folder).read()
                if any(work_left(run, record) != "nothing" for run in runs):
                    close_abandoned(CellFolder(folder), status, error)

    def _check_code(self) -> None:
        if code_fingerprint() == self.code:
            return
        sentence = "samsweep's source has changed since this job was submitted"
        if self.on_code_change == "refuse":
            raise CellFailed(f"{sentence}, and on_code_change=refuse: submit the sweep again")
        log.warning("%s: its cells run on the source as it is now", sentence)

    def _check_finished(self) -> None:
        """Fail the job if a cell is not finished, so that Slurm shows it."""
        left = self._plan()
        if left.to_do:
            states = describe_states(left.to_do)
            raise CellFailed(f"{len(left.to_do)} of {len(left.cells)} cells not finished: {states}")
