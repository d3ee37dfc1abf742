"""Cancel what works on a study, from any shell: processes here, jobs on a cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from samsweep.config import ConfigError
from samsweep.records.identity import CellKey
from samsweep.records.lock import FolderLock, Holder
from samsweep.records.store import CellFolder, cell_folders
from samsweep.sweep.manifest import LaunchFolder, launch_folders
from samsweep.sweep.slurm.queue import QueuedCell, queued_cells
from samsweep.sweep.slurm.scheduler import SlurmUnavailable, cancel_jobs
from samsweep.system.text import counted

#: What becomes of a cell that is stopped.
_SAVED = "running cells save their states at their next step"


def cancel(study: Path) -> list[str]:
    """Stop everything that works on a study, at the next step of each cell.

    Returns:
        A sentence for each process or group of jobs.
    """
    sentences = _cancel_jobs(study)
    stopped: set[int] = set()
    of_pools: set[CellKey] = set()
    for launch, holder in _active_launches(study):
        sentences.append(_terminate(holder, f"launch {launch.path.name}"))
        stopped.add(holder.pid)
        if launch.read().launcher.name == "local":
            # The pool stops its cells.
            of_pools |= launch.cells()
    for cell in cell_folders(study):
        holder_of_cell = _holder(cell.path)
        if holder_of_cell is None or cell.key in of_pools:
            continue
        if holder_of_cell.pid not in stopped:
            sentences.append(_terminate(holder_of_cell, cell.key.cell_id))
        stopped.add(holder_of_cell.pid)
    return sentences


def cancel_cell(folder: CellFolder) -> list[str]:
    """Stop the process that works on one cell, at its next step.

    Returns:
        A sentence about it; none if there is no such process.
    """
    study, name = folder.study, folder.key.cell_id
    queued = _queued(study).get(folder.key)
    if queued is not None and len(queued.sharing) == 1:
        cancel_jobs([queued.job_id])
        return [f"{name}: job {queued.job_id} cancelled; {_SAVED}."]
    holder = _holder(folder.path)
    if holder is not None:
        return [_terminate(holder, name)]
    for launch, owner in _active_launches(study):
        if folder.key in launch.cells():
            return [f"{name} waits its turn in launch {launch.path.name}, run by {owner}."]
    if queued is not None:
        others = counted(len(queued.sharing) - 1, "other cell")
        return [f"{name} waits in job {queued.job_id} with {others}: scancel {queued.job_id}"]
    return []


def active_cells(study: Path) -> set[CellKey]:
    """The cells that a launch or a job runs, or will run.

    Raises:
        ConfigError: If cells are on a cluster that does not answer.
    """
    launched = {key for launch, _ in _active_launches(study) for key in launch.cells()}
    return launched | _queued(study).keys()


def _active_launches(study: Path) -> Iterator[tuple[LaunchFolder, Holder]]:
    for launch in launch_folders(study):
        holder = _holder(launch.path)
        if holder is not None:
            yield launch, holder


def _holder(folder: Path) -> Holder | None:
    """The process that works in a folder, if one does."""
    lock = FolderLock(folder)
    holder = lock.holder()
    return holder if lock.alive else None


def _terminate(holder: Holder, what: str) -> str:
    if not holder.is_here:
        return f"{what} is run by {holder}: cancel it there."
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:
        return f"{what} has just ended."
    except PermissionError:
        return f"{what} is run by {holder}, which belongs to another user: ask them to cancel it."
    return f"{what}: stopping {holder}; {_SAVED}."


def _cancel_jobs(study: Path) -> list[str]:
    jobs = sorted({cell.job_id for cell in _queued(study).values()})
    if not jobs:
        return []
    cancel_jobs(jobs)
    return [f"{counted(len(jobs), 'job')} of {study.name} cancelled ({', '.join(jobs)}); {_SAVED}."]


def _queued(study: Path) -> dict[CellKey, QueuedCell]:
    """The cells in the queue of a cluster.

    Raises:
        ConfigError: If the cluster does not answer.
    """
    try:
        return queued_cells(study)
    except SlurmUnavailable as error:
        raise ConfigError(
            f"Cells of {study.name} were submitted to Slurm, which does not answer here ({error}): "
            "try again on a login node."
        ) from None
