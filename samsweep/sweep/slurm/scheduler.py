"""Ask Slurm about itself and about jobs, with and without accounting; cancel jobs."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
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


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job ended.

    Args:
        state: Such as ``FAILED`` or ``OUT_OF_MEMORY``.
        code: Exit code and signal, such as ``127:0``; empty if Slurm does not say.
        node: Where it ran.
    """

    state: str
    code: str = ""
    node: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it is no state of a job that waits or runs."""
        return self.state not in _IN_QUEUE

    @property
    def interrupts(self) -> bool:
        """Whether its cells were interrupted; those of other jobs have failed."""
        return self.state in _INTERRUPTED

    def __str__(self) -> str:
        """In Slurm's words."""
        return f"{self.state}, exit code {self.code}" if self.code else self.state


#: Final states of a job whose cells are interrupted.
_INTERRUPTED = frozenset("CANCELLED TIMEOUT PREEMPTED NODE_FAIL DEADLINE".split())
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


def jobs_by_comment() -> dict[str, list[str]]:
    """The user's jobs that wait or run, by the last word of their comments.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    answer = _run("squeue", "-r", "-h", "-u", getpass.getuser(), "-o", "%i|%k")
    found: dict[str, list[str]] = {}
    for line in answer.splitlines():
        job_id, bar, comment = line.partition("|")
        if bar and comment.split():
            found.setdefault(comment.split()[-1], []).append(job_id)
    return found


def ends_of_jobs(job_ids: Iterable[str]) -> dict[str, JobEnd]:
    """How ended jobs ended, by id, ``A_a`` in an array; those that Slurm does not remember aside.

    ``scontrol`` remembers for some minutes, accounting for ever where the cluster has it.
    """
    wanted = set(job_ids)
    found: dict[str, JobEnd] = {}
    with suppress(SlurmUnavailable):
        for array in sorted({job_id.partition("_")[0] for job_id in wanted}, key=int):
            told = _run("scontrol", "-o", "show", "job", array, about_jobs=True)
            found |= dict(filter(None, map(_told_end, told.splitlines())))
        rest = sorted(wanted - found.keys())
        for chunk in chunks(rest, _CHUNK):
            told = _run("sacct", "-X", "-n", "-P", "-o", _ACCOUNTED, "-j", ",".join(chunk))
            for line in told.splitlines():
                job_id, *about = line.split("|")
                if len(about) == len(_ACCOUNTED.split(",")) - 1:
                    state, code, node = about
                    found[job_id] = JobEnd(state=state.partition(" ")[0], code=code, node=node)
    return {job_id: end for job_id, end in found.items() if job_id in wanted and end.is_final}


#: What accounting is asked for.
_ACCOUNTED = "JobID,State,ExitCode,NodeList"


def _told_end(line: str) -> tuple[str, JobEnd] | None:
    """A job by a line of scontrol's."""
    values = dict(word.partition("=")[::2] for word in line.split())
    if "JobState" not in values:
        return None
    job_id = values.get("JobId", "")
    if "ArrayTaskId" in values:
        job_id = f"{values['ArrayJobId']}_{values['ArrayTaskId']}"
    end = JobEnd(
        state=values["JobState"], code=values.get("ExitCode", ""), node=values.get("NodeList", "")
    )
    return job_id, end


def test_only(script: str) -> None:
    """Ask Slurm whether it would take a batch script; nothing is submitted.

    Raises:
        ConfigError: If it would not, with its reasons.
        SlurmUnavailable: If it does not answer.
    """
    command = ("sbatch", "--test-only")
    try:
        done = subprocess.run(
            command, input=script, capture_output=True, text=True, timeout=60, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise SlurmUnavailable(f"{command[0]}: {error}") from None
    if done.returncode:
        # A refusal is told as `allocation failure: reason`.
        reason = refusal(done.stderr).removeprefix("allocation failure: ")
        raise ConfigError(
            f"sbatch would refuse these jobs: {reason}. Change the values of hydra.launcher."
        )


def cancel_jobs(job_ids: Sequence[str]) -> None:
    """Cancel jobs; those that run get SIGTERM, and are killed after ``KillWait``.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    for chunk in chunks(job_ids, _CHUNK):
        _run("scancel", *chunk, about_jobs=True)


def exclude_node(node: str, job_ids: Iterable[str]) -> bool:
    """Have jobs that wait not start on a node, unless their partition has no other.

    Returns:
        Whether there were such jobs.

    Raises:
        SlurmUnavailable: If the controller does not answer.
    """
    wanted = set(job_ids)
    arrays = sorted({job_id.partition("_")[0] for job_id in wanted}, key=int)
    told = _run(
        "squeue", "-r", "-h", "-t", "PD", "-o", "%i|%P|%x", "-j", ",".join(arrays), about_jobs=True
    )
    done = False
    for line in told.splitlines():
        job_id, *about = line.split("|")
        if job_id not in wanted or len(about) != len(("partition", "excluded")):
            continue
        partition, excluded = about
        nodes = set(_run("sinfo", "-h", "-N", "-o", "%N", "-p", partition).split())
        if nodes - {node}:
            all_excluded = ",".join(filter(None, [excluded.replace("(null)", ""), node]))
            _run("scontrol", "update", f"JobId={job_id}", f"ExcNodeList={all_excluded}")
            done = True
    return done


def refusal(answer: str) -> str:
    r"""Why sbatch takes no jobs: all that it says, since the last line alone is often the least.

    >>> refusal("x\nsbatch: error: Node count is not available\nsbatch: error: submission failed")
    'Node count is not available; submission failed'
    """
    lines = [line.strip() for line in answer.strip().splitlines()]
    told = [line.partition("error: ")[2] for line in lines if line.startswith("sbatch: error: ")]
    return "; ".join(dict.fromkeys(told)) or (lines[-1] if lines else "no reason given")


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
