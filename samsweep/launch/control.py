"""Launches from outside: stop what runs, take up again what failed or was stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samsweep.config import ConfigError, RunConfig
from samsweep.launch.local import look_ahead, run_pool
from samsweep.launch.manifest import Launcher, LaunchFolder, Manifest, launch_folders
from samsweep.launch.plan import Plan, Point, plan_sweep
from samsweep.launch.report import tell
from samsweep.launch.slots import PoolSettings
from samsweep.records.lock import FolderLock, Holder
from samsweep.records.store import CellFolder

# --------------------------------------------------------------------------- stopping


def cancel(study: Path) -> list[str]:
    """Tell everything that works on a study to stop at its next step.

    Args:
        study: ``multirun/<study>``.

    Returns:
        A sentence for each process that was told, or could not be.
    """
    sentences = [
        _tell_to_stop(holder, f"launch {launch.path.name}")
        for launch, holder in _launches_at_work(study)
    ]
    launched = cells_at_work(study)
    for path in sorted(study.glob("cells/*/lock.json")):
        if path.parent.name not in launched:
            sentences += cancel_cell(CellFolder(path.parent))
    return sentences


def cells_at_work(study: Path) -> set[str]:
    """Ids of the cells that a launch runs, or will run."""
    return {name for launch, _ in _launches_at_work(study) for name in launch.read().cells}


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
    lock = FolderLock(folder.path)
    holder = lock.holder()
    if holder is None or not lock.alive:
        return []
    return [_tell_to_stop(holder, folder.path.name)]


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


@dataclass(frozen=True)
class _Retry:
    """Cells that were launched alike."""

    launcher: Launcher
    points: tuple[Point, ...]


def retry(study: Path, folders: Sequence[CellFolder]) -> Plan:
    """Take up cells as they were launched last: with the same launcher, settings and resources.

    Args:
        study: ``multirun/<study>``.
        folders: Cells of the study that have stopped.

    Returns:
        The plan of all that were taken up; how they fared is in their records.

    Raises:
        ConfigError: If a cell was never launched, or cannot run here; nothing is started.
    """
    retries = _as_launched(study, folders)
    plans = [plan_sweep(group.points) for group in retries]
    for group, plan in zip(retries, plans, strict=True):
        settings = _pool_settings(group.launcher)
        outlook = look_ahead(plan, settings)
        tell(plan, outlook)
        run_pool(plan, outlook, settings)
    return plan_sweep(point for group in retries for point in group.points)


def _as_launched(study: Path, folders: Iterable[CellFolder]) -> list[_Retry]:
    """The cells by the settings of the latest launch that each was part of."""
    manifests = [launch.read() for launch in reversed(launch_folders(study))]
    groups: dict[str, tuple[Launcher, list[Point]]] = {}
    problems = []
    for folder in folders:
        manifest = next((m for m in manifests if folder.path.name in m.cells), None)
        if manifest is None:
            problems.append(_never_launched(folder))
            continue
        launcher = manifest.launcher
        _, points = groups.setdefault(launcher.model_dump_json(), (launcher, []))
        points += _points(folder, manifest)
    if problems:
        raise ConfigError(*problems)
    return [_Retry(launcher, tuple(points)) for launcher, points in groups.values()]


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
        f"it goes on with the command that started it, {command}."
    )


def _pool_settings(launcher: Launcher) -> PoolSettings:
    """The pool that a launch had; one cell at a time where another launcher was at work."""
    if launcher.name != "local":
        return PoolSettings(workers=1)
    settings = {k: v for k, v in launcher.settings.items() if k in PoolSettings.model_fields}
    return PoolSettings.model_validate(settings, strict=False)
