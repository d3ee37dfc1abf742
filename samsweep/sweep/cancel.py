"""Cancel what works on a study, from any shell: processes here, jobs on a cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from samsweep.config import ConfigError
from samsweep.records.cancel_mark import CancelMark
from samsweep.records.identity import CellKey
from samsweep.records.lock import FolderLock, Holder
from samsweep.records.store import CellFolder, RecordError, cell_folders
from samsweep.sweep.manifest import LaunchFolder, launch_folders
from samsweep.sweep.slurm.queue import QueuedCell, queued_cells
from samsweep.sweep.slurm.scheduler import SlurmUnavailable, cancel_jobs
from samsweep.system.text import counted

#: What becomes of a cell that is stopped, and of one that has not begun.
_SAVED = "running cells save their states at their next step"
_LEFT = "it will be left out"


def cancel(study: Path) -> list[str]:
    """Stop everything that works on a study, at the next step of each cell.

    Returns:
        A sentence for each process or group of jobs.
    """
    jobs = sorted({cell.job_id for cell in _queued(study).values()})
    sentences = []
    if jobs:
        cancel_jobs(jobs)
        told = f"{counted(len(jobs), 'job')} of {study.name} cancelled ({', '.join(jobs)})"
        sentences.append(f"{told}; {_SAVED}.")
    stopped: set[Holder] = set()
    of_pools: set[CellKey] = set()
    for launch, holder in _active_launches(study):
        unfinished = [cell for cell in _cells(launch, study) if not _is_finished(cell)]
        sentences.append(_stop(holder, f"launch {launch.path.name}", unfinished))
        stopped.add(_process(holder))
        if launch.read().launcher.name == "local":
            # The pool stops its cells, or their marks do.
            of_pools |= launch.cells()
    for cell in cell_folders(study):
        holder_of_cell = _holder(cell.path)
        if holder_of_cell is None or cell.key in of_pools or holder_of_cell.job_id in jobs:
            continue
        if _process(holder_of_cell) not in stopped:
            sentences.append(_stop(holder_of_cell, cell.key.cell_id, [cell]))
        stopped.add(_process(holder_of_cell))
    return sentences


def cancel_cell(folder: CellFolder) -> list[str]:
    """Stop what works on one cell, at its next step; if it waits its turn, it is left out.

    Returns:
        A sentence about it; none if nothing does.
    """
    study, name = folder.study, folder.key.cell_id
    queued = _queued(study).get(folder.key)
    if queued is not None and len(queued.sharing) == 1:
        cancel_jobs([queued.job_id])
        return [f"{name}: job {queued.job_id} cancelled; {_SAVED}."]
    holder = _holder(folder.path)
    if holder is not None:
        return [_stop(holder, name, [folder])]
    if _is_finished(folder):
        return []
    for launch, owner in _active_launches(study):
        if folder.key in launch.cells():
            CancelMark(folder.path).set()
            return [f"{name} waits its turn in launch {launch.path.name}, run by {owner}; {_LEFT}."]
    if queued is not None:
        CancelMark(folder.path).set()
        others = counted(len(queued.sharing) - 1, "other cell")
        return [f"{name} waits in job {queued.job_id} with {others}, which go on; {_LEFT}."]
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


def _process(holder: Holder) -> Holder:
    """Who holds several locks is one process."""
    return replace(holder, token="")


def _cells(launch: LaunchFolder, study: Path) -> list[CellFolder]:
    return [CellFolder(study / "cells" / key.cell_id) for key in sorted(launch.cells())]


def _is_finished(cell: CellFolder) -> bool:
    with suppress(RecordError):
        record = cell.read()
        return record is not None and record.finished
    return False


def _stop(holder: Holder, what: str, cells: Iterable[CellFolder]) -> str:
    """Signal a process of this machine; to others speak marks in the folders of the cells."""
    if holder.is_here:
        try:
            os.kill(holder.pid, signal.SIGTERM)
        except ProcessLookupError:
            return f"{what} has just ended."
        except PermissionError:
            pass
        else:
            return f"{what}: stopping {holder}; {_SAVED}."
    for cell in cells:
        CancelMark(cell.path).set()
    return f"{what}: {holder} is asked to stop, which takes some seconds; {_SAVED}."


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
