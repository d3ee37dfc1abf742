"""Launchers that run a plan: what Hydra calls, in front of a runner that knows no Hydra."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from samsweep.config import ConfigError
from samsweep.hydra_config.compose import Composer
from samsweep.hydra_config.convert import to_options
from samsweep.records.schema import CellFailed
from samsweep.sweep.execute import Runner
from samsweep.sweep.plan import Point, plan_sweep


class PlanLauncher(Launcher):
    """A launcher whose runner takes the plans of samsweep's own sweeper and of ``measure``.

    Other sweepers pass it overrides, as they do with any launcher; it makes a plan of them.
    """

    runner: Runner
    composer: Composer | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's call before the first launch."""
        self.composer = Composer(hydra_context.config_loader, config)
        self.runner.fail_fast = bool(config.fail_fast)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the points that another sweeper proposes.

        Returns:
            For each point the validation accuracy in percent, of a pruned cell that of its last
            epoch: 0 for a cell that diverged, NaN for one that was not run to its end, the error of
            one that failed.
        """
        assert self.composer is not None
        points = self.composer.points(job_overrides)
        plan = plan_sweep(points)
        if plan.to_do or plan.elsewhere:
            self.runner.run(plan, self.runner.prepare(plan, estimate=False))
        return [_job_return(point) for point in points]


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
        result.return_value = CellFailed(f"{record.cell_id}: {record.summary}")
    else:
        result.return_value = math.nan if record is None else record.objective
    return result


def plan_launcher(loader: ConfigLoader, master: DictConfig) -> PlanLauncher:
    """The launcher that is chosen, for a command that is no sweep of Hydra's.

    Raises:
        ConfigError: If it cannot run a plan.
    """
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
        task_function=to_options,
        config=master,
    )
    if not isinstance(launcher, PlanLauncher):
        name = master.hydra.runtime.choices["hydra/launcher"]
        raise ConfigError(
            f"hydra/launcher={name} cannot measure: choose hydra/launcher=local or "
            "hydra/launcher=slurm."
        )
    return launcher
