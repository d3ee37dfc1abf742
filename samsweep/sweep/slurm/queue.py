"""Which cells of a study are in the queue of a cluster, by the manifests of its launches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from samsweep.config import RunConfig
from samsweep.records.identity import CellKey
from samsweep.records.store import CellFolder
from samsweep.sweep.manifest import launch_folders, readable_manifests, study_folder
from samsweep.sweep.slurm.scheduler import JobState, job_states


@dataclass(frozen=True, kw_only=True)
class QueuedCell:
    """A cell whose job waits or runs.

    Args:
        job_id: ``A_a`` in an array.
        state: Of the job.
        mates: Cells that share the job, this one among them.
    """

    job_id: str
    state: JobState
    mates: tuple[CellKey, ...]


def queued_cells(study: Path) -> dict[CellKey, QueuedCell]:
    """The cells whose jobs wait or run; of two jobs of a cell the one launched last.

    Args:
        study: ``multirun/<study>``.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    cells_of_job: dict[str, list[CellKey]] = {}
    for launch in launch_folders(study):
        for cell, job_id in launch.jobs().items():
            cells_of_job.setdefault(job_id, []).append(cell)
    states = job_states(cells_of_job) if cells_of_job else {}
    return _by_cell(states, cells_of_job)


def _by_cell(
    states: Mapping[str, JobState], cells_of_job: Mapping[str, Iterable[CellKey]]
) -> dict[CellKey, QueuedCell]:
    return {
        cell: QueuedCell(job_id=job_id, state=state, mates=tuple(mates))
        for job_id, mates in cells_of_job.items()
        if (state := states.get(job_id)) is not None
        for cell in mates
    }


def runs_of_job(cell: CellFolder, job_id: str) -> tuple[RunConfig, ...]:
    """How a cell is to run in a job; empty if no manifest that can be read says so."""
    for manifest in readable_manifests(study_folder(cell)):
        launched = manifest.cells.get(cell.key.cell_id)
        if launched is not None and launched.job_id == job_id:
            return launched.runs
    return ()
