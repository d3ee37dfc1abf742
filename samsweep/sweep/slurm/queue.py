"""Which cells are in the queue of a cluster, by the manifests of their studies' launches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samsweep.config import ConfigError, RunConfig
from samsweep.records.identity import CellKey, wanted_measurements
from samsweep.records.remaining_work import missing_measurements
from samsweep.records.store import CellFolder
from samsweep.sweep.manifest import launch_folders, readable_manifests
from samsweep.sweep.plan import Plan, PlannedCell
from samsweep.sweep.slurm.scheduler import JobState, SlurmUnavailable, job_states


@dataclass(frozen=True, kw_only=True)
class QueuedCell:
    """A cell whose job waits or runs.

    Args:
        job_id: ``A_a`` in an array.
        state: Of the job.
        sharing: Cells that share the job, this one among them.
    """

    job_id: str
    state: JobState
    sharing: tuple[CellKey, ...]


def queued_cells(study: Path) -> dict[CellKey, QueuedCell]:
    """The cells of a study whose jobs wait or run; of two jobs of a cell the one launched last.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    cells_of_job: dict[str, list[CellKey]] = {}
    for launch in launch_folders(study):
        for cell, job_id in launch.jobs().items():
            cells_of_job.setdefault(job_id, []).append(cell)
    states = job_states(cells_of_job) if cells_of_job else {}
    return {
        cell: QueuedCell(job_id=job_id, state=states[job_id], sharing=tuple(sharing))
        for job_id, sharing in cells_of_job.items()
        if job_id in states
        for cell in sharing
    }


def queued_jobs(plan: Plan) -> dict[str, tuple[PlannedCell, ...]]:
    """The cells of a plan whose jobs wait or run, and will finish them, by job.

    Raises:
        ConfigError: If the controller does not answer.
    """
    planned = {cell.key: cell for cell in plan.cells}
    jobs: dict[str, list[PlannedCell]] = {}
    for study in plan.studies:
        try:
            found = queued_cells(study)
        except SlurmUnavailable as error:
            raise ConfigError(
                f"Slurm does not say which cells of {study.name} are in its queue ({error}): "
                "nothing was submitted; try again on a login node."
            ) from None
        for key, queued in found.items():
            if key in planned and _will_finish(queued.job_id, planned[key]):
                jobs.setdefault(queued.job_id, []).append(planned[key])
    return {job_id: tuple(cells) for job_id, cells in jobs.items()}


def _will_finish(job_id: str, cell: PlannedCell) -> bool:
    """Whether a job does everything that is asked of a cell.

    One that is shared stays in the queue after this cell is trained, and takes only the
    measurements with which it was submitted.
    """
    if cell.action != "measure" or cell.record is None:
        return True
    runs = _runs_of_job(cell.folder, job_id)
    asked = {key for run in runs for key in wanted_measurements(run.sharpness)}
    return all(
        missing_measurements(point.run, cell.record).keys() <= asked for point in cell.points
    )


def _runs_of_job(cell: CellFolder, job_id: str) -> tuple[RunConfig, ...]:
    """How a cell is to run in a job; empty if no readable manifest says so."""
    for manifest in readable_manifests(cell.study):
        launched = manifest.cells.get(cell.key.cell_id)
        if launched is not None and launched.job_id == job_id:
            return launched.runs
    return ()
