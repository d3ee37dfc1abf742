"""Stopping in an orderly way: a signal is noted, and obeyed at the next step boundary."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

#: Slurm's and the user's ways to say stop.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class Interrupted(SystemExit):
    """A cell stopped cleanly, with a checkpoint; the process ends with 128 + signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class StopRequest:
    """Notes the first signal to stop; a second one acts as it would have without us.

    A context manager. Outside the main thread, where no handler can be set, nothing is noted.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Take over the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._note) for s in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the handlers back."""
        self._restore()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        # No logging here: a handler may run in the middle of another log call.
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._previous = {}
