"""One process at a time works in a folder, a cell's or a launch's, on whatever machine it runs.

The folder of a running cell holds ``lock.json``: who holds it, and a heartbeat, which is the file's
time of change. A lock without a heartbeat, or whose process is gone from this machine, is stale and
taken over. Ages are differences of times of one clock, the file system's; a heartbeat from the
future is as stale as an old one, since a living holder corrects it within seconds.

The file, not a kernel lock, is what counts, since file systems of clusters do not all carry
kernel locks between hosts: it is made by a link, which only one process can. The short
check-and-take is guarded by a kernel lock besides, where there is one.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, TypeAdapter, ValidationError

from samsweep.system.guard import guarded
from samsweep.system.machine import slurm_job_id

#: Seconds between heartbeats.
HEARTBEAT_S = 10.0
#: Seconds without a heartbeat after which a lock is stale.
STALE_AFTER_S = 90.0

#: A process id: Linux has none beyond 2²². 0 and below would be groups of processes to a signal.
Pid = Annotated[int, Field(ge=1, le=2**22)]


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
    pid: Pid
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
        nobodys: Slurm job that has ended: what its processes hold is stale at once.
    """

    def __init__(
        self,
        folder: Path,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        stale_after_s: float = STALE_AFTER_S,
        nobodys: str | None = None,
    ) -> None:
        self.file = folder / "lock.json"
        self._guard = folder.parent / ".guard"
        self._heartbeat_s = heartbeat_s
        self._stale_after_s = stale_after_s
        self._nobodys = nobodys
        self._holder = Holder.here()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            FolderBusy: If a living process holds it.
        """
        with guarded(self._guard):
            holder = self.holder()
            if self.alive:
                raise FolderBusy(holder)
            self._remove_litter()
            self._discard(holder)
            self._create()
        self._thread.start()
        return self

    def _create(self) -> None:
        """Make the file, in one go: a reader must never see a lock without its holder.

        Raises:
            FolderBusy: If another process was quicker.
        """
        fresh = self.file.with_suffix(f".{self._holder.token}")
        fresh.write_text(json.dumps(asdict(self._holder)))
        try:
            os.link(fresh, self.file)
        except FileExistsError:
            raise FolderBusy(self.holder()) from None
        except OSError:
            # A file system without links. Under the guard nobody else makes the file.
            fresh.replace(self.file)
        finally:
            fresh.unlink(missing_ok=True)

    def _discard(self, stale: Holder | None) -> None:
        """Remove a stale lock, and no other that has taken its place in the meantime.

        Raises:
            FolderBusy: If another has.
        """
        aside = self.file.with_suffix(f".{self._holder.token}")
        try:
            self.file.replace(aside)
        except FileNotFoundError:
            return
        taken = self._holder_in(aside)
        if taken == stale:
            aside.unlink()
            return
        # A living one: given back, unless yet another is there; its owner then notices.
        with suppress(FileExistsError):
            os.link(aside, self.file)
        aside.unlink()
        raise FolderBusy(taken)

    def _remove_litter(self) -> None:
        """Delete what takers that were killed in the act have left."""
        for file in self.file.parent.glob(f"{self.file.stem}.*"):
            # Without a kernel lock another taker may be quicker.
            with suppress(FileNotFoundError):
                if file != self.file and self._age_s(file) > self._stale_after_s:
                    file.unlink()

    def __exit__(self, *exc_info: object) -> None:
        """Stop the heart and, if the lock is still ours, remove it."""
        self._stop.set()
        self._thread.join()
        with guarded(self._guard):
            if self.holder() == self._holder:
                self.file.unlink()

    def clear(self) -> None:
        """Remove what a killed process has left; a living lock stays."""
        if not any(self.file.parent.glob(f"{self.file.stem}.*")):
            return
        with guarded(self._guard):
            holder = self.holder()
            if not self.alive:
                self._remove_litter()
                with suppress(FolderBusy):
                    self._discard(holder)

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
        """Whether somebody holds the lock and shows a heartbeat: the one answer for all who ask."""
        try:
            age_s = self._age_s(self.file)
        except FileNotFoundError:
            return False
        return abs(age_s) <= self._stale_after_s and not self._is_orphan(self.holder())

    def holder(self) -> Holder | None:
        """Who holds the lock; None if nobody does or the file says nothing sensible."""
        return self._holder_in(self.file)

    @staticmethod
    def _holder_in(file: Path) -> Holder | None:
        try:
            return _HOLDER.validate_json(file.read_bytes(), strict=True)
        except (FileNotFoundError, IsADirectoryError, ValidationError):
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

    def _age_s(self, file: Path) -> float:
        """Seconds since a file has changed, by the file system's clock.

        Who may not write there has this machine's clock alone.
        """
        changed = file.stat().st_mtime
        try:
            self._guard.touch()
            return self._guard.stat().st_mtime - changed
        except OSError:
            return time.time() - changed

    def _is_orphan(self, holder: Holder | None) -> bool:
        """Whether the holder was a process of this machine, or of a job, that is gone."""
        if holder is None:
            return False
        of_ended_job = self._nobodys is not None and holder.job_id == self._nobodys
        return of_ended_job or (holder.is_here and not _process_exists(holder.pid))


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
