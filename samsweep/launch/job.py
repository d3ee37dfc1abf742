"""What runs inside a job of a cluster: a pool over the job's share of the cells."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from samsweep.config import RunConfig
from samsweep.launch.display import Display
from samsweep.launch.local import look_at_machine, slots_of
from samsweep.launch.plan import Plan, Point, describe_states, plan_sweep
from samsweep.launch.pool import Pool
from samsweep.launch.slots import PoolSettings
from samsweep.records.provenance import code_fingerprint
from samsweep.records.schema import CellFailed
from samsweep.records.store import CellFolder
from samsweep.signals import Interrupted

log = logging.getLogger(__name__)

OnCodeChange = Literal["warn", "refuse"]


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """A job: called by submitit on the node, with everything fixed when it was submitted.

    Args:
        cells: Folder and runs of each cell.
        settings: How the job divides its machine.
        code: Fingerprint of samsweep's source at submission.
        on_code_change: What to do if it is another one now.
        fail_fast: Whether the first failure stops the job's other cells.
    """

    cells: tuple[tuple[Path, tuple[RunConfig, ...]], ...]
    settings: PoolSettings
    code: str
    on_code_change: OnCodeChange = "warn"
    fail_fast: bool = False

    def __call__(self) -> None:
        """Bring the cells to where their runs want them.

        Raises:
            CellFailed: If some are not finished, so that Slurm calls the job failed as well.
            Interrupted: If a signal stopped it; the cells have saved their states.
        """
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        self._check_code()
        plan = self._plan()
        if plan.to_do:
            try:
                self._run(plan)
            except Interrupted as stop:
                self._hand_over(stop)
                raise
        self._check_finished()

    def checkpoint(self) -> Any:
        """What submitit submits again after a preemption or a timeout: the same job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)

    def _points(self) -> Iterator[Point]:
        for folder, runs in self.cells:
            for run in runs:
                yield Point(run=run, overrides=(), folder=CellFolder(folder))

    def _plan(self) -> Plan:
        return plan_sweep(self._points())

    def _run(self, plan: Plan) -> None:
        machine = look_at_machine(plan, prepare=False)
        slots = slots_of(plan, machine, self.settings)
        with Display(len(plan.to_do)) as display:
            pool = Pool(slots, display, fail_fast=self.fail_fast, wait_for_others=False)
            pool.run(plan.to_do)

    def _hand_over(self, stop: Interrupted) -> None:
        """After Slurm's warning of the end, let submitit have the job queued again.

        Its handler is in place again; on SIGTERM Slurm itself queues a preempted job again.
        """
        if stop.signum == signal.SIGUSR2 and self._plan().to_do:
            os.kill(os.getpid(), signal.SIGUSR2)

    def _check_code(self) -> None:
        if code_fingerprint() == self.code:
            return
        sentence = "samsweep's source has changed since this job was submitted"
        if self.on_code_change == "refuse":
            raise CellFailed(f"{sentence}, and on_code_change=refuse: submit the sweep again")
        log.warning("%s: its cells run on the source as it is now", sentence)

    def _check_finished(self) -> None:
        """Let Slurm know."""
        left = self._plan()
        if left.to_do:
            told = describe_states(left.to_do)
            raise CellFailed(f"{len(left.to_do)} of {len(left.cells)} cells not finished: {told}")
