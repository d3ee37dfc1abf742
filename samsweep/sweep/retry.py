"""Retry cells that failed or were stopped, with the settings that they were launched with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from samsweep.config import ConfigError, RunConfig, unknown_name
from samsweep.config.factory import is_path
from samsweep.records.store import CellFolder
from samsweep.sweep.execute import Runner
from samsweep.sweep.local.runner import LocalRunner
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.manifest import LauncherSettings, Manifest, readable_manifests
from samsweep.sweep.plan import Plan, Point, plan_sweep
from samsweep.sweep.plan_table import print_plan
from samsweep.sweep.slurm.job_arrays import merged
from samsweep.sweep.slurm.submit import SlurmRunner

#: Launchers whose cells can be retried from their manifest.
_RETRIED = ("local", "basic", "joblib", "slurm")


def plan_retries(
    study: Path, folders: Iterable[CellFolder], changes: Mapping[str, Any] = MappingProxyType({})
) -> tuple[list[tuple[LauncherSettings, Plan]], list[str]]:
    """Plan cells of a study that have stopped, by the settings of the latest launch of each.

    Args:
        study: Its folder.
        folders: Of the cells.
        changes: Values of ``hydra.launcher`` that differ from those of the launch.

    Returns:
        The plans, and a sentence for each cell that cannot be retried from here.
    """
    manifests = list(readable_manifests(study))
    groups: dict[str, tuple[LauncherSettings, list[Point]]] = {}
    problems = []
    for folder in folders:
        cell_id = folder.key.cell_id
        manifest = next((m for m in manifests if cell_id in m.cells), None)
        if manifest is None:
            problems.append(_never_launched(folder))
            continue
        launcher = manifest.launcher
        if launcher.name not in _RETRIED:
            problems.append(
                f"{cell_id} was launched by hydra/launcher={launcher.name}: "
                f"the command that launched it resumes it, {manifest.command}"
            )
            continue
        if any(_names_modules(run) for run in manifest.cells[cell_id].runs):
            # What stands in a run folder is not imported on its own word.
            problems.append(
                f"{cell_id} has components that conf/ or plugins of its command name: "
                f"give that command again, {manifest.command}"
            )
            continue
        if changes:
            _refuse_of_other_launchers(launcher, changes)
            settings = merged(launcher.settings, changes)
            launcher = launcher.model_copy(update={"settings": settings})
        _, points = groups.setdefault(launcher.model_dump_json(), (launcher, []))
        points += _points(folder, manifest)
    retries = [(launcher, plan_sweep(points)) for launcher, points in groups.values()]
    return retries, problems


def retry(launcher: LauncherSettings, plan: Plan) -> None:
    """Run cells again: on the cluster that they were submitted to, or in a pool here.

    Raises:
        ConfigError: If they cannot run; none of them is started.
    """
    runner = _runner(launcher)
    prepared = runner.prepare(plan)
    print_plan(plan, prepared)
    runner.run(plan, prepared)


def _runner(launcher: LauncherSettings) -> Runner:
    """With the resources of the launch; a pool for a launcher of Hydra's that had as many workers.

    A retried Slurm launch waits for its jobs, whether or not the launch was detached.
    """
    if launcher.name == "slurm":
        return SlurmRunner(launcher.settings)
    if launcher.name == "basic":
        return LocalRunner(settings=PoolSettings(workers=1))
    if launcher.name == "joblib":
        jobs = launcher.settings.get("n_jobs")
        workers = jobs if isinstance(jobs, int) and jobs > 0 else None
        return LocalRunner(settings=PoolSettings(workers=workers))
    settings = {k: v for k, v in launcher.settings.items() if k in PoolSettings.model_fields}
    return LocalRunner(settings=PoolSettings.model_validate(settings, strict=False))


def _refuse_of_other_launchers(launcher: LauncherSettings, changes: Mapping[str, Any]) -> None:
    """Of Slurm's values the runner takes care.

    Raises:
        ConfigError: If a pool is given a value that it does not have.
    """
    known = PoolSettings.model_fields
    unknown = [key for key in changes if key not in known and launcher.name != "slurm"]
    if unknown:
        raise ConfigError(*(unknown_name("hydra.launcher", key, known) for key in unknown))


def _names_modules(run: RunConfig) -> bool:
    """Whether a run names modules to import, beside those of installed plugins."""
    names = [name for name in run.cell.names() if is_path(name)]
    pruner = run.pruning is not None and is_path(run.pruning.name)
    return bool(run.plugins or names or run.tracking.factory or pruner)


def _points(folder: CellFolder, manifest: Manifest) -> list[Point]:
    runs = manifest.cells[folder.key.cell_id].runs
    threads = manifest.launcher.settings.get("num_threads")
    return [Point(run=_with_threads(run, threads), folder=folder) for run in runs]


def _with_threads(run: RunConfig, threads: int | None) -> RunConfig:
    """With the number of threads that the launch gave its cells."""
    if run.num_threads is not None or threads is None:
        return run
    return run.model_copy(update={"num_threads": threads})


def _never_launched(folder: CellFolder) -> str:
    record = folder.read()
    attempts = record.attempts if record is not None else ()
    command = attempts[-1].provenance.command if attempts else "its command"
    return (
        f"{folder.key.cell_id} was started on its own, not by a launch: "
        f"the command that started it resumes it, {command}"
    )
