"""A mark in a cell's folder that asks whoever works on the cell, wherever that is, to stop.

A signal reaches the processes of one machine; the mark reaches all that see the folder. It counts
for what is under way and for what waits in a launch; a new launch or a run of the cell alone
removes it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds between two looks.
_PERIOD_S = 2.0


class CancelMark:
    """The mark of one cell.

    Args:
        folder: The cell's.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "cancel"

    @property
    def is_set(self) -> bool:
        """Whether the cell is to stop."""
        return self._file.exists()

    def set(self) -> None:
        """Ask for it."""
        self._file.touch()

    def clear(self) -> None:
        """Let the cell be worked on again."""
        self._file.unlink(missing_ok=True)

    @contextmanager
    def obeyed(self) -> Iterator[None]:
        """Inside the block a mark ends this process as SIGTERM would, within seconds."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_PERIOD_S):
                if self.is_set:
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

        thread = threading.Thread(target=watch, name="cancel mark", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
