"""Jobs that are gone without having said why: what the scheduler and their own output tell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from samsweep.records.lock import FolderLock
from samsweep.records.store import CellFolder
from samsweep.sweep.slurm.scheduler import JobEnd

#: Lines of a job's errors that are told.
_LINES = 5
#: Bytes that they are looked for in, at the end.
_TAIL = 4096


def account_of(study: Path, job_id: str, end: JobEnd | None) -> str:
    """How a job ended, where its output is, and the last of what it said."""
    how = "Slurm does not remember how" if end is None else str(end)
    account = f"its job {job_id} ended: {how}"
    if end is not None and end.node:
        account += f", on {end.node}"
    errors = [log for log in job_logs(study, job_id) if log.suffix == ".err"]
    for log in errors[:1]:
        told = _last_lines(log)
        account += f"; see {log}" + (f", which ends in\n{told}" if told else "")
    return account


def job_logs(study: Path, job_id: str) -> list[Path]:
    """What a job has printed, standard output first; none if it did not start."""
    found = study.glob(f"launches/*/jobs/{job_id}_*_log.*")
    return sorted(found, key=lambda file: (file.suffix != ".out", file.name))


def was_held_by(folder: CellFolder, job_id: str) -> bool:
    """Whether the lock of a cell is one that a process of this job took."""
    holder = FolderLock(folder.path).holder()
    return holder is not None and holder.job_id == job_id


def _last_lines(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(_nonempty(text.splitlines())[-_LINES:])


def _nonempty(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if line.strip()]
