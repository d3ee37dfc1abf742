"""Hydra's sweep over a grid, checked as a whole before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from samsweep.config import ConfigError, RunConfig
from samsweep.hydra_config import explain, prepare_run, to_run_config
from samsweep.launch.plan import Plan, plan_sweep

log = logging.getLogger(__name__)

Point = tuple[RunConfig, tuple[str, ...], Path]


class SamsweepSweeper(BasicSweeper):
    """Refuses a grid as a whole, or hands its unfinished cells to the launcher.

    Args:
        params: Grid of a preset, as ``key: "value,value"``; the command line goes before it.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(max_batch_size=None, params=params)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the grid that the arguments describe.

        Raises:
            ConfigError: With a sentence for every point that cannot be run; nothing is created.
            SystemExit: With status 1 if a cell failed; the others have run.
        """
        plan = plan_sweep(self._points(arguments))
        for run in {(c.run.device, c.run.cell.dataset.name): c.run for c in plan.to_do}.values():
            prepare_run(run)
        log.info("%s", plan)
        try:
            results = self._launch(plan)
        finally:
            _print_accuracy(plan)
        failures = [result for result in results if result.status == JobStatus.FAILED]
        for failure in failures:
            _log_failure(failure)
        if failures:
            raise SystemExit(1)
        return [results]

    def _points(self, arguments: list[str]) -> Iterator[Point]:
        """Compose every point of the grid, once."""
        assert self.hydra_context is not None and self.config is not None
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        points: list[Point] = []
        problems: dict[str, None] = {}
        for point in self.split_arguments(overrides, max_batch_size=None)[0]:
            try:
                config = loader.load_sweep_config(self.config, list(point))
                run = to_run_config(config)
            except (ConfigError, HydraException, OmegaConfBaseException) as error:
                problems |= dict.fromkeys(explain(error).splitlines())
                continue
            sweep = config.hydra.sweep
            points.append((run, tuple(point), Path(sweep.dir) / sweep.subdir))
        if problems:
            raise ConfigError(*problems)
        return iter(points)

    def _launch(self, plan: Plan) -> Sequence[JobReturn]:
        assert self.launcher is not None
        if not plan.to_do:
            return []
        return self.launcher.launch([list(c.overrides) for c in plan.to_do], initial_job_idx=0)


def _log_failure(result: JobReturn) -> None:
    """Say which cell failed and why; the traceback is in its record and its run.log."""
    try:
        _ = result.return_value
    except Exception as error:
        log.error("failed: %s: %s", " ".join(result.overrides or ()), error)


def _print_accuracy(plan: Plan) -> None:
    """The accuracy tables of the studies that the sweep belongs to, also after failures."""
    from multirun_analysis.render import accuracy_markdown

    for study in {cell.folder.path.parent.parent: None for cell in plan.cells}:
        print(accuracy_markdown(study))
