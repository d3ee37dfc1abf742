"""Launchers that take a plan, and Hydra's way to the pool: ``hydra/launcher=local``."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from samsweep.hydra_config import Composer
from samsweep.records.schema import CellFailed
from samsweep.sweep.local.launcher import Outlook, look_ahead, run_pool
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.plan import Plan, Point, plan_sweep


class PlanLauncher(Launcher):
    """A launcher that takes a plan from samsweep's own sweeper.

    Other sweepers hand it overrides, as Hydra has it; it makes a plan of them.
    """

    composer: Composer | None = None
    fail_fast: bool = False

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's call before the first launch."""
        self.composer = Composer(hydra_context.config_loader, config)
        self.fail_fast = bool(config.fail_fast)

    @abstractmethod
    def look_ahead(self, plan: Plan, *, prepare: bool = True, estimate: bool = True) -> Outlook:
        """Make sure that the cells can run, and tell what they will cost.

        Args:
            plan: Of which at least one cell is not finished.
            prepare: Whether to get the data sets ready, downloading them if need be.
            estimate: Whether to estimate the cost.

        Raises:
            ConfigError: If something that they need cannot be had.
        """

    @abstractmethod
    def launch_plan(self, plan: Plan, outlook: Outlook) -> bool:
        """Run what is not finished; how that went is in the records.

        Returns:
            Whether the cells have been worked through; False if they go on without us.
        """

    def show(self, plan: Plan) -> None:
        """Print what a dry run has to tell beside the plan."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the points that another sweeper proposes.

        Returns:
            For each point the validation accuracy in percent: 0 for a cell that diverged, NaN for
            one that did not get done, the error of one that failed.
        """
        assert self.composer is not None
        points = self.composer.points(job_overrides)
        plan = plan_sweep(points)
        if plan.to_do or plan.elsewhere:
            self.launch_plan(plan, self.look_ahead(plan, estimate=False))
        return [_job_return(point) for point in points]


class LocalLauncher(PlanLauncher):
    """Runs cells at the same time on this machine, each in a process of its own.

    Args:
        workers: See :class:`~samsweep.sweep.local.slots.PoolSettings`, also for the others.
        gpus: GPUs to use.
        cells_per_gpu: Cells that share a GPU.

    Raises:
        ConfigError: If a value cannot be.
    """

    def __init__(
        self,
        workers: int | None = None,
        gpus: Sequence[int] | None = None,
        cells_per_gpu: int = 1,
    ) -> None:
        values = {
            "workers": workers,
            "gpus": None if gpus is None else tuple(gpus),
            "cells_per_gpu": cells_per_gpu,
        }
        self.settings = PoolSettings.parse(values, prefix="hydra.launcher.")

    def look_ahead(self, plan: Plan, *, prepare: bool = True, estimate: bool = True) -> Outlook:
        """See :meth:`PlanLauncher.look_ahead`."""
        return look_ahead(plan, self.settings, prepare=prepare, estimate=estimate)

    def launch_plan(self, plan: Plan, outlook: Outlook) -> bool:
        """See :meth:`PlanLauncher.launch_plan`."""
        run_pool(plan, outlook, self.settings, fail_fast=self.fail_fast)
        return True


def _job_return(point: Point) -> JobReturn:
    record = point.folder.read()
    result = JobReturn(
        overrides=list(point.overrides),
        working_dir=str(Path.cwd()),
        task_name="samsweep",
        status=JobStatus.COMPLETED,
    )
    if record is not None and record.status == "failed":
        result.status = JobStatus.FAILED
        result.return_value = CellFailed(f"{point.folder.path.name}: {record.summary}")
    elif record is not None and record.status == "diverged":
        result.return_value = 0.0
    elif record is None or record.metrics is None:
        result.return_value = math.nan
    else:
        result.return_value = record.metrics.val_accuracy
    return result
