"""Which cells of a study are in the queue of a cluster, by the manifests of its launches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from samsweep.config import RunConfig
from samsweep.sweep.manifest import launch_folders, readable_manifests
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
    mates: tuple[str, ...]


def queued_cells(study: Path) -> dict[str, QueuedCell]:
    """The cells whose jobs wait or run, by id; of two jobs of a cell the one launched last.

    Args:
        study: ``multirun/<study>``.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    cells_of_job: dict[str, list[str]] = {}
    for launch in launch_folders(study):
        for name, job_id in launch.jobs().items():
            cells_of_job.setdefault(job_id, []).append(name)
    states = job_states(cells_of_job) if cells_of_job else {}
    return _by_cell(states, cells_of_job)


def _by_cell(
    states: Mapping[str, JobState], cells_of_job: Mapping[str, Iterable[str]]
) -> dict[str, QueuedCell]:
    return {
        name: QueuedCell(job_id=job_id, state=state, mates=tuple(names))
        for job_id, names in cells_of_job.items()
        if (state := states.get(job_id)) is not None
        for name in names
    }


def asked_of_job(study: Path, name: str, job_id: str) -> tuple[RunConfig, ...]:
    """How a cell is to run in a job; empty if no manifest that can be read says so."""
    for manifest in readable_manifests(study):
        cell = manifest.cells.get(name)
        if cell is not None and cell.job_id == job_id:
            return cell.runs
    return ()
