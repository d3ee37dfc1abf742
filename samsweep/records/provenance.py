"""Which code, machine and versions are at work."""

from __future__ import annotations

import functools
import hashlib
import platform
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import samsweep
from samsweep.records.schema import Provenance
from samsweep.system.machine import slurm_job_id

#: The libraries whose versions can decide a result.
_LIBRARIES = ("samsweep", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "hydra-core")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(
    *, device: str, num_threads: int, compiled: bool = False, parts_at_once: int = 1
) -> Provenance:
    """What is at work here and now, on a torch device with the hardware's name."""
    commit, dirty = git_state()
    return Provenance(
        host=socket.gethostname(),
        job_id=slurm_job_id(),
        device=device,
        num_threads=num_threads,
        compiled=compiled,
        parts_at_once=parts_at_once,
        git_commit=commit,
        git_dirty=dirty,
        versions=versions(),
        command=command_line(),
    )


def command_line() -> str:
    """What the user typed, as it can be typed again."""
    script = Path(sys.argv[0])
    if script.parent.name == "samsweep" and script.suffix == ".py":
        return shlex.join(["python", "-m", f"samsweep.{script.stem}", *sys.argv[1:]])
    return shlex.join(sys.argv)


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can decide a result."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of samsweep's source and whether it was changed since; Nones outside a checkout."""
    source = Path(samsweep.__file__).parent
    try:
        commit = _git(source, "rev-parse", "HEAD")
        # An installed copy may lie inside somebody else's checkout (a .venv): not our commit.
        if not _git(source, "ls-files", "__init__.py"):
            return None, None
        changed = _git(source, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(changed)


@functools.cache
def code_fingerprint() -> str:
    """16 hex digits over samsweep's source files, which git may not know of."""
    source = Path(samsweep.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(source.rglob("*.py")):
        digest.update(str(file.relative_to(source)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
