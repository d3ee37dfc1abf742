"""Which cells are in the queue of a cluster, by the manifests of their studies' launches."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from samsweep.config import ConfigError, RunConfig
from samsweep.records.identity import CellKey, wanted_measurements
from samsweep.records.lock import FolderLock
from samsweep.records.remaining_work import missing_measurements
from samsweep.records.store import CellFolder, RecordError
from samsweep.sweep.manifest import launch_folders, readable_manifests
from samsweep.sweep.plan import Plan, PlannedCell
from samsweep.sweep.slurm.scheduler import (
    JobState,
    SlurmUnavailable,
    job_states,
    jobs_by_comment,
)

#: Seconds to wait for another launch that is submitting.
_RECEIPT_S = 60.0


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
    reconcile(study)
    cells_of_job = submitted_cells(study)
    return in_queue(cells_of_job, job_states(cells_of_job) if cells_of_job else {})


def submitted_cells(study: Path) -> dict[str, list[CellKey]]:
    """The cells of every job that a launch of the study submitted, oldest first."""
    cells_of_job: dict[str, list[CellKey]] = {}
    for launch in launch_folders(study):
        for cell, job_id in launch.jobs().items():
            cells_of_job.setdefault(job_id, []).append(cell)
    return cells_of_job


def in_queue(
    cells_of_job: Mapping[str, Sequence[CellKey]], states: Mapping[str, JobState]
) -> dict[CellKey, QueuedCell]:
    """The cells of jobs that wait or run, by the states of those; the latest job counts."""
    return {
        cell: QueuedCell(job_id=job_id, state=states[job_id], sharing=tuple(sharing))
        for job_id, sharing in cells_of_job.items()
        if job_id in states
        for cell in sharing
    }


def reconcile(study: Path) -> None:
    """Find the jobs that a launch submitted and did not live to write down, by their comments.

    What is not in the queue either was never submitted, or has ended; records say which.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    lost = {launch: intents for launch in launch_folders(study) if (intents := launch.intents())}
    lost = {launch: i for launch, i in lost.items() if not FolderLock(launch.path).alive}
    if not lost:
        return
    found = jobs_by_comment()
    for launch, intents in lost.items():
        jobs = {
            key: job_id
            for key, (intent, place) in intents.items()
            for job_id in found.get(intent, ())
            if (job_id.partition("_")[2] or "0") == str(place)
        }
        # Whose folder it is not can only look, and of a broken manifest the jobs alone were read.
        with suppress(OSError, RecordError):
            launch.record_jobs(jobs)
            launch.forget_intents()


def _wait_for_receipts(study: Path) -> None:
    """Until other launches have written down the ids of the jobs that they are submitting.

    Raises:
        ConfigError: If one does not in a minute.
    """
    until = time.monotonic() + _RECEIPT_S
    for launch in launch_folders(study):
        while launch.intents() and FolderLock(launch.path).alive:
            if time.monotonic() > until:
                raise ConfigError(
                    f"launch {launch.path.name} of {launch.study} is submitting cells: nothing was "
                    "submitted beside it, try again once it is done."
                )
            time.sleep(0.5)


def queued_jobs(plan: Plan) -> dict[str, tuple[PlannedCell, ...]]:
    """The cells of a plan whose jobs wait or run, and will finish them, by job.

    Raises:
        ConfigError: If the controller does not answer.
    """
    planned = {cell.key: cell for cell in plan.cells}
    jobs: dict[str, list[PlannedCell]] = {}
    for study in plan.studies:
        _wait_for_receipts(study)
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
