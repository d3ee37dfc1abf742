"""How the jobs of a study stand, asked of the scheduler no oftener than need be.

The answer is kept beside the launches, ``launches/queue.json``, for all who watch the study: a
cluster's controller serves thousands, and ``status --watch`` looks every other second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from samsweep.records.identity import CellKey
from samsweep.records.store import write_text
from samsweep.sweep.manifest import launch_folders
from samsweep.sweep.slurm.queue import QueuedCell, in_queue, reconcile, submitted_cells
from samsweep.sweep.slurm.scheduler import (
    JobEnd,
    JobState,
    SlurmUnavailable,
    ends_of_jobs,
    job_states,
)


@dataclass(frozen=True, kw_only=True)
class GoneCell:
    """A cell whose job is in the queue no more.

    Args:
        job_id: ``A_a`` in an array.
        end: How it ended; None if Slurm does not remember.
    """

    job_id: str
    end: JobEnd | None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the submitted cells of a study are.

    Args:
        queued: Those whose jobs wait or run.
        gone: Those that were asked about and whose jobs have ended.
        unknown: Job ids of submitted cells, where the scheduler does not answer.
        problem: Why it does not.
    """

    queued: Mapping[CellKey, QueuedCell]
    gone: Mapping[CellKey, GoneCell]
    unknown: Mapping[CellKey, str]
    problem: str | None = None


def standing_of(study: Path, unfinished: Collection[CellKey], *, max_age_s: float) -> Standing:
    """Where the submitted cells of a study are.

    Args:
        study: Its folder.
        unfinished: Cells whose records do not say how they ended.
        max_age_s: Seconds for which an answer of the scheduler's is good, whoever asked.
    """
    answer = _Answer.kept(study, max_age_s)
    if answer is None:
        answer = _Answer.asked_now(study)
    cells_of_job = submitted_cells(study)
    if not cells_of_job:
        return Standing(queued={}, gone={}, unknown={})
    # A launch that came later, here or elsewhere, has taken a cell over.
    latest = {c: job for launch in launch_folders(study) for c, job in launch.job_of_each().items()}
    job_of = {cell: job_id for cell, job_id in latest.items() if job_id}
    if answer.problem is not None:
        return Standing(queued={}, gone={}, unknown=job_of, problem=answer.problem)
    queued = in_queue(cells_of_job, answer.states)
    gone = {cell: job_of[cell] for cell in unfinished if cell in job_of and cell not in queued}
    answer = answer.with_ends(study, set(gone.values()))
    return Standing(
        queued=queued,
        gone={
            cell: GoneCell(job_id=job_id, end=answer.ends.get(job_id))
            for cell, job_id in gone.items()
        },
        unknown={},
    )


@dataclass(frozen=True)
class _Answer:
    """What the scheduler has said.

    Args:
        asked: When, in seconds of this machine's clock.
        problem: Why it says nothing, if so.
        states: Of the jobs that wait or run.
        ends: Of those that have ended and were asked about; None of what it has forgotten.
    """

    asked: float
    problem: str | None
    states: dict[str, JobState]
    ends: dict[str, JobEnd | None]

    @classmethod
    def kept(cls, study: Path, max_age_s: float) -> Self | None:
        """The one on disk, if it is young enough."""
        try:
            found = TypeAdapter(cls).validate_json(_file(study).read_bytes())
        except (OSError, ValidationError):
            return None
        return found if abs(time.time() - found.asked) < max_age_s else None

    @classmethod
    def asked_now(cls, study: Path) -> Self:
        """A new one, kept for others; a study without jobs asks nothing."""
        problem, states = None, {}
        try:
            reconcile(study)
            jobs = submitted_cells(study)
            if not jobs:
                return cls(time.time(), None, {}, {})
            states = job_states(jobs)
        except SlurmUnavailable as error:
            problem = str(error)
        return cls(time.time(), problem, states, {})._keep(study)

    def with_ends(self, study: Path, job_ids: Collection[str]) -> Self:
        """The same with how these jobs ended."""
        new = set(job_ids) - self.ends.keys()
        if not new:
            return self
        found = ends_of_jobs(new)
        ends = self.ends | {job_id: found.get(job_id) for job_id in new}
        return type(self)(self.asked, self.problem, self.states, ends)._keep(study)

    def _keep(self, study: Path) -> Self:
        with suppress(OSError):
            write_text(_file(study), json.dumps(asdict(self)))
        return self


def _file(study: Path) -> Path:
    return study / "launches" / "queue.json"
