"""Keep a cell's record while it is worked on: each change is on disk before the work continues."""

from __future__ import annotations

import logging
from typing import Any

from samsweep.records.lock import FolderLock
from samsweep.records.provenance import now
from samsweep.records.schema import Attempt, CellFailed, Provenance, Record
from samsweep.records.store import CellFolder

log = logging.getLogger(__name__)

#: What has to be equal for a resumed training to be bit-identical to an uninterrupted one.
_BIT_IDENTITY = ("num_threads", "device", "compiled", "parts_at_once", "versions")


class RecordWriter:
    """Keeps the record of one cell, in its folder, under its lock.

    Args:
        folder: The cell's folder.
        lock: Its lock, held.
        record: What there is of the cell.
    """

    def __init__(self, folder: CellFolder, lock: FolderLock, record: Record) -> None:
        self.folder = folder
        self.record = record
        self._lock = lock

    @property
    def name(self) -> str:
        """The cell's id."""
        return self.folder.path.name

    def confirm(self) -> None:
        """Raise LockLost if somebody has taken the cell over."""
        self._lock.confirm()

    def update(self, **changes: Any) -> None:
        """Change the record, on disk too.

        Raises:
            LockLost: If somebody has taken the cell over.
        """
        self.confirm()
        self.record = self.record.model_copy(update=changes)
        self.folder.write(self.record)

    def begin_attempt(self, here: Provenance) -> None:
        """A training starts, or is resumed, on this machine."""
        if self.folder.checkpoint_file.exists():
            for earlier in self.record.attempts[-1:]:
                self._warn_of_changes(earlier.provenance, here)
        attempt = Attempt(started=now(), provenance=here)
        self.update(status="running", attempts=(*self.record.attempts, attempt), error=None)

    def amend_attempt(self, **changes: Any) -> None:
        """Change the latest attempt; on disk with the next :meth:`update`."""
        *earlier, attempt = self.record.attempts
        attempts = (*earlier, attempt.model_copy(update=changes))
        self.record = self.record.model_copy(update={"attempts": attempts})

    def failure(self, doing: str, error: Exception) -> CellFailed:
        """Log the traceback, and give what to raise in its place."""
        log.error("%s: %s failed", self.name, doing, exc_info=error)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return CellFailed(f"{self.name}: {doing} failed: {reason}")

    def _warn_of_changes(self, before: Provenance, here: Provenance) -> None:
        for name in _BIT_IDENTITY:
            old, new = getattr(before, name), getattr(here, name)
            if old != new:
                log.warning(
                    "%s: resumed with %s %s after %s: the results are as good, but not bit for bit "
                    "those of an uninterrupted run",
                    self.name,
                    name,
                    new,
                    old,
                )
