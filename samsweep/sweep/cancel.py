"""Launches from outside: stop what runs, take up again what failed or was stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from samsweep.config import ConfigError, RunConfig
from samsweep.records.identity import CellKey
from samsweep.records.lock import FolderLock, Holder
from samsweep.records.store import CellFolder
from samsweep.sweep.local.launcher import look_ahead, run_pool
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.manifest import (
    Launcher,
    LaunchFolder,
    Manifest,
    launch_folders,
    readable_manifests,
)
from samsweep.sweep.plan import Plan, Point, plan_sweep
from samsweep.sweep.plan_table import tell
from samsweep.sweep.slurm.queue import QueuedCell, queued_cells
from samsweep.sweep.slurm.scheduler import SlurmUnavailable, cancel_jobs
from samsweep.system.text import counted

# --------------------------------------------------------------------------- stopping


def cancel(study: Path) -> list[str]:
    """Tell everything that works on a study to stop at its next step.

    Args:
        study: ``multirun/<study>``.

    Returns:
        A sentence for each process that was told, or could not be.
    """
    sentences = _cancel_jobs(study)
    told: set[int] = set()
    passed_on: set[CellKey] = set()
    for launch, owner in _launches_at_work(study):
        sentences.append(_tell_to_stop(owner, f"launch {launch.path.name}"))
        told.add(owner.pid)
        if launch.read().launcher.name == "local":
            # The pool tells its cells.
            passed_on |= launch.cells()
    for path in sorted(study.glob("cells/*/lock.json")):
        lock = FolderLock(path.parent)
        holder = lock.holder()
        if CellFolder(path.parent).key not in passed_on and holder is not None and lock.alive:
            if holder.pid not in told:
                sentences.append(_tell_to_stop(holder, path.parent.name))
            told.add(holder.pid)
    return sentences


def _cancel_jobs(study: Path) -> list[str]:
    """Take what is on a cluster from its queue."""
    jobs = sorted({cell.job_id for cell in _queued(study).values()})
    if not jobs:
        return []
    cancel_jobs(jobs)
    told = "what runs is saved at its next step"
    return [f"{counted(len(jobs), 'job')} of {study.name} cancelled ({', '.join(jobs)}); {told}."]


def _queued(study: Path) -> dict[CellKey, QueuedCell]:
    """The cells in the queue of a cluster.

    Raises:
        ConfigError: If the cluster does not answer.
    """
    try:
        return queued_cells(study)
    except SlurmUnavailable as error:
        raise ConfigError(
            f"Cells of {study.name} were sent to Slurm, which does not answer here ({error}): "
            "try again on a login node."
        ) from None


def cells_at_work(study: Path) -> set[CellKey]:
    """The cells that a launch runs, or will run."""
    launched = {key for launch, _ in _launches_at_work(study) for key in launch.cells()}
    return launched | _queued(study).keys()


def _launches_at_work(study: Path) -> Iterator[tuple[LaunchFolder, Holder]]:
    for launch in launch_folders(study):
        lock = FolderLock(launch.path)
        holder = lock.holder()
        if lock.alive and holder is not None:
            yield launch, holder


def cancel_cell(folder: CellFolder) -> list[str]:
    """Tell the process that works on one cell to stop at its next step.

    Returns:
        A sentence about it; none if there is no such process.
    """
    name = folder.path.name
    queued = _queued(folder.path.parent.parent).get(folder.key)
    if queued is not None and len(queued.mates) == 1:
        cancel_jobs([queued.job_id])
        return [f"{name}: job {queued.job_id} cancelled; what runs is saved at its next step."]
    lock = FolderLock(folder.path)
    holder = lock.holder()
    if holder is not None and lock.alive:
        return [_tell_to_stop(holder, name)]
    for launch, owner in _launches_at_work(folder.path.parent.parent):
        if folder.key in launch.cells():
            return [f"{name} waits its turn in launch {launch.path.name}, run by {owner}."]
    if queued is not None:
        others = counted(len(queued.mates) - 1, "other cell")
        return [f"{name} waits in job {queued.job_id} with {others}: scancel {queued.job_id}"]
    return []


def _tell_to_stop(holder: Holder, what: str) -> str:
    if not holder.is_here:
        return f"{what} is run by {holder}: stop it there."
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:
        return f"{what} has just ended."
    except PermissionError:
        return f"{what} is run by {holder}, which belongs to another user: ask them to stop it."
    return f"{what}: told {holder} to stop; what runs is saved at its next step."


# --------------------------------------------------------------------------- taking up again


#: Launchers whose cells can be taken up from their manifest.
_TAKEN_UP = ("local", "basic", "joblib", "slurm")


def as_launched(
    study: Path, folders: Iterable[CellFolder]
) -> tuple[list[tuple[Launcher, Plan]], list[str]]:
    """What is left of cells, by the settings of the latest launch that each was part of.

    Args:
        study: ``multirun/<study>``.
        folders: Cells of the study that have stopped.

    Returns:
        The plans, and a sentence for each cell that cannot be taken up from here.
    """
    manifests = list(readable_manifests(study))
    groups: dict[str, tuple[Launcher, list[Point]]] = {}
    problems = []
    for folder in folders:
        manifest = next((m for m in manifests if folder.path.name in m.cells), None)
        if manifest is None:
            problems.append(_never_launched(folder))
            continue
        launcher = manifest.launcher
        if launcher.name not in _TAKEN_UP:
            problems.append(
                f"{folder.path.name} was launched by hydra/launcher={launcher.name}: "
                f"it goes on with the command that launched it, {manifest.command}"
            )
            continue
        _, points = groups.setdefault(launcher.model_dump_json(), (launcher, []))
        points += _points(folder, manifest)
    retries = [(launcher, plan_sweep(points)) for launcher, points in groups.values()]
    return retries, problems


def run_in_pool(launcher: Launcher, plan: Plan) -> None:
    """Take up cells in a pool on this machine, with the resources that their launch had.

    Raises:
        ConfigError: If they cannot run here; none of them is started.
    """
    settings = _pool_settings(launcher)
    outlook = look_ahead(plan, settings)
    tell(plan, outlook)
    run_pool(plan, outlook, settings)


def _points(folder: CellFolder, manifest: Manifest) -> list[Point]:
    runs = manifest.cells[folder.path.name].runs
    threads = manifest.launcher.settings.get("num_threads")
    return [Point(run=_with_threads(run, threads), overrides=(), folder=folder) for run in runs]


def _with_threads(run: RunConfig, threads: int | None) -> RunConfig:
    """The share of threads that the launch gave its cells."""
    if run.num_threads is not None or threads is None:
        return run
    return run.model_copy(update={"num_threads": threads})


def _never_launched(folder: CellFolder) -> str:
    record = folder.read()
    attempts = record.attempts if record is not None else ()
    command = attempts[-1].provenance.command if attempts else "its command"
    return (
        f"{folder.path.name} was started on its own, not by a launch: "
        f"it goes on with the command that started it, {command}"
    )


def _pool_settings(launcher: Launcher) -> PoolSettings:
    """The pool that a launch had, or one with as many cells at a time."""
    if launcher.name == "basic":
        return PoolSettings(workers=1)
    if launcher.name == "joblib":
        jobs = launcher.settings.get("n_jobs")
        return PoolSettings(workers=jobs if isinstance(jobs, int) and jobs > 0 else None)
    settings = {k: v for k, v in launcher.settings.items() if k in PoolSettings.model_fields}
    return PoolSettings.model_validate(settings, strict=False)
