"""Hydra's sweep over a grid: planned as a whole, told, and only then run."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.samsweep_launcher import PlanLauncher
from samsweep.config import ConfigError
from samsweep.hydra_config import Composer
from samsweep.sweep.execute import PlanRunner, carry_out
from samsweep.sweep.local.launcher import Outlook, look_ahead
from samsweep.sweep.manifest import Launcher, launched, study_folder
from samsweep.sweep.plan import Plan, plan_sweep

log = logging.getLogger(__name__)


#: Keys of the sweep itself, with what to do in place of several values.
_SINGLE = {
    "experiment": "each preset brings a grid of its own; run one after the other.",
    **dict.fromkeys(
        ("dry_run", "fail_fast", "detach", "on_code_change"), "give one value for the whole sweep."
    ),
}


class SamsweepSweeper(BasicSweeper):
    """Refuses a grid as a whole, or hands its unfinished cells to the launcher.

    Args:
        params: Grid of a preset, as ``key: "value,value"``; the command line goes before it.
        grids: Further grids of the same form, each completed by ``params``; the sweep is their
            union. Empty is ``params`` alone.
        dry_run: Whether to end with the plan.
        fail_fast: Whether the first failure ends the sweep.
    """

    def __init__(
        self,
        params: Mapping[str, str] | None = None,
        grids: Sequence[Mapping[str, str]] = (),
        dry_run: bool = False,
        fail_fast: bool = False,
    ) -> None:
        super().__init__(max_batch_size=None, params=dict(params or {}))
        self._grids = [dict(grid) for grid in grids] or [{}]
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
        plan = plan_sweep(composer.points(self._grid(arguments)))
        if not plan.cells:
            raise ConfigError("This grid is empty: one of its ranges or lists has no values.")
        carry_out(
            plan,
            self._plan_launcher(),
            dry_run=self._dry_run,
            show_results=lambda: _print_accuracy(plan),
        )
        return []

    def _grid(self, arguments: list[str]) -> Iterator[list[str]]:
        """The overrides of every point; what the command line says goes before a preset's grid."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        for grid in self._grids:
            preset = [f"{key}={values}" for key, values in (self.params | grid).items()]
            overrides = parser.parse_overrides([*preset, *arguments])
            _refuse_several(overrides)
            yield from self.split_arguments(overrides, max_batch_size=None)[0]

    def _plan_launcher(self) -> PlanRunner:
        assert self.launcher is not None and self.config is not None
        if isinstance(self.launcher, PlanLauncher):
            return self.launcher
        return _ByOverrides(self.launcher, self.config, fail_fast=self._fail_fast)


class _ByOverrides:
    """A launcher that is not ours, given overrides, which composes the cells again.

    Args:
        launcher: Hydra's basic one, joblib's, ...
        config: The sweep's own.
        fail_fast: Whether the first failure ends the sweep.
    """

    def __init__(self, launcher: HydraLauncher, config: DictConfig, *, fail_fast: bool) -> None:
        self._launcher = launcher
        self._config = config
        self._fail_fast = fail_fast

    def look_ahead(self, plan: Plan, *, prepare: bool) -> Outlook:
        """See :meth:`PlanLauncher.look_ahead`."""
        return look_ahead(plan, None, prepare=prepare)

    def show(self, plan: Plan) -> None:
        """See :meth:`PlanLauncher.show`; there is nothing beside the plan."""

    def launch_plan(self, plan: Plan, outlook: Outlook) -> bool:
        """See :meth:`PlanLauncher.launch_plan`."""
        name = self._config.hydra.runtime.choices["hydra/launcher"]
        settings = OmegaConf.to_container(self._config.hydra.launcher, resolve=True)
        index = 0
        with launched(plan.to_do, Launcher(name=name, settings=settings)):
            for batch in self._batches(plan):
                results = self._launcher.launch(batch, initial_job_idx=index)
                index += len(batch)
                failures = [result for result in results if result.status == JobStatus.FAILED]
                for failure in failures:
                    _log_failure(failure)
                if failures and self._fail_fast:
                    break
        return True

    def _batches(self, plan: Plan) -> Iterator[list[list[str]]]:
        """What may run at the same time: never two points of one cell.

        With ``fail_fast`` one cell at a time, since such a launcher cannot be stopped.
        """
        rounds = itertools.zip_longest(*(cell.points for cell in plan.to_do))
        for points in rounds:
            batch = [list(point.overrides) for point in points if point is not None]
            if self._fail_fast:
                yield from ([overrides] for overrides in batch)
            else:
                yield batch


def _refuse_several(overrides: Sequence[Override]) -> None:
    """Refuse several values where a sweep has but one.

    Raises:
        ConfigError: With a sentence for each.
    """
    problems = [
        f"{override.input_line}: {_SINGLE[override.key_or_group]}"
        for override in overrides
        if override.is_sweep_override() and override.key_or_group in _SINGLE
    ]
    if problems:
        raise ConfigError(*problems)


def _log_failure(result: JobReturn) -> None:
    """Say which cell failed and why; the traceback is in its record and its run.log."""
    try:
        _ = result.return_value
    except Exception as error:
        log.error("failed: %s: %s", " ".join(result.overrides or ()), error)


def _print_accuracy(plan: Plan) -> None:
    """The accuracy tables of the studies that the sweep belongs to, also after failures."""
    from multirun_analysis import accuracy_markdown

    for study in {study_folder(cell.folder): None for cell in plan.cells}:
        print(accuracy_markdown(study))
