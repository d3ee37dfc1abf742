"""Hydra's sweep over a grid: planned as a whole, printed, and only then run."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from samsweep.config import ConfigError
from samsweep.hydra_config.compose import Composer
from samsweep.hydra_config.grid import Grids
from samsweep.hydra_config.launcher import PlanLauncher
from samsweep.sweep.estimate import Prepared
from samsweep.sweep.execute import Runner, execute
from samsweep.sweep.local.runner import prepare
from samsweep.sweep.manifest import LauncherSettings, launched
from samsweep.sweep.plan import Plan, plan_sweep

log = logging.getLogger(__name__)


class PlanSweeper(BasicSweeper):
    """Refuses a grid as a whole, or runs its unfinished cells with the launcher.

    Args:
        params: Grid of a preset, as ``key: "value,value"``; the command line goes before it.
        grids: Further grids of the same form, each completed by ``params``; the sweep is their
            union. Empty is ``params`` alone. Each may have a ``zip`` and an ``exclude``.
        zip: Keys of every grid that vary together, of the same form, with as many values each.
        exclude: Points that are left out: those that have, of every key of an entry, one of its
            values.
        dry_run: Whether to end with the plan.
        fail_fast: Whether the first failure ends the sweep.
    """

    def __init__(
        self,
        params: Mapping[str, str] | None = None,
        grids: Sequence[Mapping[str, Any]] = (),
        zip: Mapping[str, Any] | None = None,
        exclude: Sequence[Mapping[str, Any]] | None = None,
        dry_run: bool = False,
        fail_fast: bool = False,
    ) -> None:
        super().__init__(max_batch_size=None, params=dict(params or {}))
        self._grids = [_plain(grid) for grid in grids]
        self._zip = _plain(zip) or {}
        self._exclude = _plain(exclude) or ()
        self._dry_run = dry_run
        self._fail_fast = fail_fast

    def sweep(self, arguments: list[str]) -> Any:
        """Run the grid that the arguments describe.

        Raises:
            ConfigError: With a sentence for every point that cannot be run; nothing is created.
            SystemExit: With status 1 unless every cell is finished in the end.
        """
        assert self.hydra_context is not None and self.config is not None
        composer = Composer(self.hydra_context.config_loader, self.config)
        grids = self._all_grids(composer)
        points = composer.points(grids.points(arguments))
        plan = plan_sweep(points, num_excluded=grids.num_excluded)
        if not plan.cells:
            raise ConfigError(
                "This grid is empty: every point is excluded."
                if plan.num_excluded
                else "This grid is empty: one of its ranges or lists has no values."
            )
        execute(
            plan,
            self._runner(),
            dry_run=self._dry_run,
            print_results=lambda: _print_accuracy(plan),
        )
        return []

    def _all_grids(self, composer: Composer) -> Grids:
        assert self.hydra_context is not None and self.config is not None
        typed = self.config.hydra.overrides.hydra
        return Grids(
            params=_plain(self.params),
            grids=self._grids,
            zip=self._zip,
            exclude=self._exclude,
            loader=self.hydra_context.config_loader,
            compose=composer.config,
            strict=any("hydra.sweeper.exclude" in override for override in typed),
        )

    def _runner(self) -> Runner:
        assert self.launcher is not None and self.config is not None
        if isinstance(self.launcher, PlanLauncher):
            return self.launcher.runner
        return _OverridesRunner(self.launcher, self.config, fail_fast=self._fail_fast)


class _OverridesRunner:
    """A :class:`~samsweep.sweep.execute.Runner`: a launcher that takes overrides alone.

    It composes the cells again.
    """

    def __init__(self, launcher: Launcher, config: DictConfig, *, fail_fast: bool) -> None:
        self._launcher = launcher
        self._config = config
        self.fail_fast = fail_fast

    def prepare(self, plan: Plan, *, download: bool = True, estimate: bool = True) -> Prepared:
        """See :func:`~samsweep.sweep.local.runner.prepare`."""
        return prepare(plan, None, download=download, estimate=estimate)

    def scripts(self, plan: Plan) -> tuple[str, ...]:
        """There are none."""
        return ()

    def run(self, plan: Plan, prepared: Prepared) -> bool:
        """Launch batch by batch."""
        name = self._config.hydra.runtime.choices["hydra/launcher"]
        settings = OmegaConf.to_container(self._config.hydra.launcher, resolve=True)
        index = 0
        with launched(plan.to_do, LauncherSettings(name=name, settings=settings)):
            for batch in self._batches(plan):
                results = self._launcher.launch(batch, initial_job_idx=index)
                index += len(batch)
                failures = [result for result in results if result.status == JobStatus.FAILED]
                for failure in failures:
                    _log_failure(failure)
                if failures and self.fail_fast:
                    break
        return True

    def _batches(self, plan: Plan) -> Iterator[list[list[str]]]:
        """What may run at the same time: never two points of one cell.

        With ``fail_fast`` one cell at a time, since such a launcher cannot be stopped.
        """
        rounds = itertools.zip_longest(*(cell.points for cell in plan.to_do))
        for points in rounds:
            batch = [list(point.overrides) for point in points if point is not None]
            if self.fail_fast:
                yield from ([overrides] for overrides in batch)
            else:
                yield batch


def _plain(values: Any) -> Any:
    return OmegaConf.to_container(values, resolve=True) if OmegaConf.is_config(values) else values


def _log_failure(result: JobReturn) -> None:
    """Log which cell failed and why; the traceback is in its record and its run.log."""
    try:
        _ = result.return_value
    except Exception as error:
        log.error("failed: %s: %s", " ".join(result.overrides or ()), error)


def _print_accuracy(plan: Plan) -> None:
    """The accuracy tables of the studies that the sweep belongs to, also after failures."""
    from multirun_analysis.tables.render import accuracy_markdown

    for study in plan.studies:
        print(accuracy_markdown(study))
