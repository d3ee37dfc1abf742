"""Which cells of a study are in the queue of a cluster, by the manifests of its launches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from samsweep.launch.manifest import launch_folders
from samsweep.launch.slurm import JobState, job_states


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
    """The cells whose jobs wait or run, by id.

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
        name: QueuedCell(job_id=job_id, state=state, mates=tuple(cells_of_job[job_id]))
        for job_id, state in states.items()
        for name in cells_of_job[job_id]
    }
