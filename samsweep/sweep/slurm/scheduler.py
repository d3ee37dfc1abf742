"""Ask Slurm about itself and about jobs, with and without accounting; cancel jobs."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from samsweep.config import ConfigError

T = TypeVar("T")

#: Slurm's default, where it does not say.
_DEFAULT_MAX_ARRAY_SIZE = 1001
#: Jobs asked about in one command.
_CHUNK = 200


@dataclass(frozen=True, kw_only=True)
class JobState:
    """What Slurm knows of a job.

    Args:
        state: Such as ``PENDING``, ``RUNNING``, ``NODE_FAIL``.
        reason: Why it waits, such as ``Resources``; where it runs, for one that runs.
    """

    state: str
    reason: str = ""


#: States of a job that waits or runs; a requeued one does.
_IN_QUEUE = frozenset(
    "PENDING RUNNING SUSPENDED CONFIGURING COMPLETING REQUEUED REQUEUE_HOLD REQUEUE_FED RESIZING "
    "SIGNALING STAGE_OUT STOPPED SPECIAL_EXIT".split()
)


class SlurmUnavailable(RuntimeError):
    """Slurm does not answer just now; it may in a moment."""


def max_array_size() -> int:
    """How many jobs an array may have.

    Raises:
        ConfigError: If there is no Slurm here.
    """
    try:
        answer = _run("scontrol", "show", "config")
    except SlurmUnavailable as error:
        raise ConfigError(
            f"hydra/launcher=slurm: Slurm does not answer here ({error}); "
            "run this on a login node, or use hydra/launcher=local."
        ) from None
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, flags=re.MULTILINE)
    return int(found[1]) if found else _DEFAULT_MAX_ARRAY_SIZE


def job_states(job_ids: Iterable[str]) -> dict[str, JobState]:
    """The jobs that wait or run, by id, ``A_a`` in an array; those that have ended are not there.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    wanted = set(job_ids)
    arrays = sorted({job_id.partition("_")[0] for job_id in wanted}, key=int)
    found: dict[str, JobState] = {}
    for chunk in chunks(arrays, _CHUNK):
        # -r gives each element of an array a line; an unknown id alone would be an error.
        answer = _run(
            "squeue", "-r", "-h", "-o", "%i|%T|%R", "-j", ",".join(chunk), about_jobs=True
        )
        for line in answer.splitlines():
            # Some clusters wrap squeue, and print more lines.
            job_id, *about = line.split("|", 2)
            if job_id in wanted and len(about) == len(("state", "reason")):
                state, reason = about
                if state in _IN_QUEUE:
                    found[job_id] = JobState(state=state, reason=reason.strip("()"))
    return found


def end_of_job(job_id: str) -> str:
    """How an ended job ended, in Slurm's words; empty if Slurm does not remember.

    ``scontrol`` remembers for some minutes, accounting for ever where the cluster has it.
    """
    try:
        answer = _run("scontrol", "-o", "show", "job", job_id, about_jobs=True)
        found = re.search(r"JobState=(\S+)", answer)
        if found:
            code = re.search(r"ExitCode=(\S+)", answer)
            return f"{found[1]}, exit code {code[1]}" if code else found[1]
        answer = _run("sacct", "-X", "-n", "-P", "-o", "State,ExitCode", "-j", job_id)
    except SlurmUnavailable:
        return ""
    lines = answer.splitlines()
    return lines[-1].replace("|", ", exit code ") if lines else ""


def cancel_jobs(job_ids: Sequence[str]) -> None:
    """Cancel jobs; those that run get SIGTERM, and are killed after ``KillWait``.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    for chunk in chunks(job_ids, _CHUNK):
        _run("scancel", *chunk, about_jobs=True)


def chunks(items: Sequence[T], size: int) -> Iterable[tuple[T, ...]]:
    """The items in order, so many at a time."""
    return (tuple(items[start : start + size]) for start in range(0, len(items), size))


def _run(*command: str, about_jobs: bool = False) -> str:
    """What a command of Slurm's prints; ``about_jobs``, an unknown job is an empty answer.

    Raises:
        SlurmUnavailable: If the command is not there, or has no answer.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise SlurmUnavailable(f"{command[0]}: {error}") from None
    if done.returncode == 0:
        return done.stdout
    errors = done.stderr.strip().splitlines()
    if about_jobs and errors and all(map(_is_unknown_job, errors)):
        return done.stdout
    raise SlurmUnavailable(errors[0] if errors else command[0])


def _is_unknown_job(error: str) -> bool:
    """Whether an error says only that a job is gone."""
    return "Invalid job id" in error or "already completing or completed" in error


def describe_jobs(states: Mapping[str, JobState]) -> str:
    """Counts of states, with the reasons that jobs wait for."""
    counts: Counter[str] = Counter()
    for state in states.values():
        words = state.state.lower()
        if state.state == "PENDING" and state.reason not in ("", "None"):
            words += f" ({state.reason})"
        counts[words] += 1
    return ", ".join(f"{number} {words}" for words, number in sorted(counts.items()))


def describe_job_ids(job_ids: Iterable[str]) -> str:
    """Job ids, arrays as ranges.

    >>> describe_job_ids(["40_0", "40_1", "40_2", "40_5", "41", "42_3"])
    '40_[0-2,5], 41, 42_[3]'
    """
    arrays: dict[str, list[str]] = {}
    for job_id in job_ids:
        array, _, index = job_id.partition("_")
        arrays.setdefault(array, []).append(index)
    return ", ".join(
        array if indices == [""] else f"{array}_[{_ranges(map(int, indices))}]"
        for array, indices in arrays.items()
    )


def _ranges(indices: Iterable[int]) -> str:
    """Numbers as Slurm writes them, such as ``0-2,5``."""
    runs: list[tuple[int, int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
