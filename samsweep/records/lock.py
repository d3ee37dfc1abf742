"""One process at a time works in a folder, a cell's or a launch's, on whatever machine it runs.

The folder of a running cell holds ``lock.json``: who holds it, and a heartbeat, which is the file's
time of change. A lock whose heart has stopped, or whose process is gone from this machine, is taken
over.
The file, not a kernel lock, is what counts, since file systems of clusters do not all carry
kernel locks between hosts; the short check-and-take is guarded by one where they do.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from samsweep.system.machine import slurm_job_id

#: Seconds between heartbeats.
HEARTBEAT_S = 10.0
#: Seconds without a heartbeat after which a lock is stale.
STALE_AFTER_S = 90.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Args:
        host: Machine, for people.
        machine: One boot and one space of process ids: containers may share a host's name.
        pid: Process on that machine.
        job_id: Slurm job, if any.
        token: Tells two holders of one process apart.
    """

    host: str
    machine: str
    pid: int
    job_id: str | None
    token: str

    @classmethod
    def here(cls) -> Self:
        """This process, as a new holder."""
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            job_id=slurm_job_id(),
            token=uuid.uuid4().hex,
        )

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.machine == _machine()

    def __str__(self) -> str:
        """Host and process, for messages."""
        job = f", job {self.job_id}" if self.job_id else ""
        return f"process {self.pid} on {self.host}{job}"


_HOLDER = TypeAdapter(Holder)


class FolderBusy(RuntimeError):
    """Another process is working in the folder."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(f"held by {holder or 'another process'}")
        self.holder = holder


class LockLost(RuntimeError):
    """The lock was taken over, since this process showed no heartbeat for too long."""


class FolderLock:
    """The lock of one folder, a context manager that keeps the heart beating.

    Args:
        folder: The folder, which exists.
        heartbeat_s: Seconds between heartbeats.
        stale_after_s: Seconds without one after which the lock may be taken.
    """

    def __init__(
        self,
        folder: Path,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        stale_after_s: float = STALE_AFTER_S,
    ) -> None:
        self.file = folder / "lock.json"
        self._guard = folder.parent / ".guard"
        self._heartbeat_s = heartbeat_s
        self._stale_after_s = stale_after_s
        self._holder = Holder.here()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            FolderBusy: If a living process holds it.
        """
        with FileLock(self._guard):
            holder = self.holder()
            if self.file.exists() and not self._is_stale(holder):
                raise FolderBusy(holder)
            # In one go: a reader must never see a lock without its holder.
            fresh = self.file.with_suffix(f".{self._holder.token}")
            fresh.write_text(json.dumps(asdict(self._holder)))
            fresh.replace(self.file)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the heart and, if the lock is still ours, remove it."""
        self._stop.set()
        self._thread.join()
        with FileLock(self._guard):
            if self.holder() == self._holder:
                self.file.unlink()

    def confirm(self) -> None:
        """Make sure that the lock is still ours before something is written.

        Raises:
            LockLost: If another process took it.
        """
        holder = self.holder()
        if holder != self._holder:
            raise LockLost(f"{self.file.parent.name} was taken over: now {holder or 'unlocked'}")

    @property
    def alive(self) -> bool:
        """Whether somebody holds the lock and shows a heartbeat, by this machine's clock."""
        try:
            age_s = time.time() - self.file.stat().st_mtime
        except FileNotFoundError:
            return False
        return age_s <= self._stale_after_s and not self._is_orphan(self.holder())

    def holder(self) -> Holder | None:
        """Who holds the lock; None if nobody does or the file says nothing sensible."""
        try:
            return _HOLDER.validate_json(self.file.read_bytes(), strict=True)
        except (FileNotFoundError, ValidationError):
            return None

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat_s):
            try:
                if self.holder() != self._holder:
                    return
                os.utime(self.file)
            except OSError:
                # A network file system that stumbles; the next beat may come through.
                continue

    def _is_stale(self, holder: Holder | None) -> bool:
        """Whether the heart has stopped, by the file system's clock, or the process is gone."""
        self._guard.touch()
        age_s = self._guard.stat().st_mtime - self.file.stat().st_mtime
        return age_s > self._stale_after_s or self._is_orphan(holder)

    def _is_orphan(self, holder: Holder | None) -> bool:
        """Whether the holder was a process of this machine that is gone."""
        return holder is not None and holder.is_here and not _process_exists(holder.pid)


def _machine() -> str:
    """What process ids are unique in."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
