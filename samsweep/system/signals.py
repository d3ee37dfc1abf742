"""Stopping cleanly: a signal ends the work at once, or at the next step boundary."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from types import FrameType
from typing import Self

#: Signals by which Slurm or the user stops a cell.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)

#: Seconds within which a further signal is the same one again, unless it is the user's Ctrl-C:
#: Slurm signals every process of a step, and srun passes on what it hears itself.
_ECHO_S = 5.0


class Interrupted(SystemExit):
    """The work on a cell was stopped by a signal; the process ends with 128 + signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


def end_on_sigterm() -> None:
    """Have SIGTERM end this command as an exception, so that it ends what it has started."""
    signal.signal(signal.SIGTERM, _end)


def _end(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def when_parent_ends(action: Callable[[], None]) -> None:
    """In a process of :mod:`multiprocessing`, do something once its parent is gone."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        action()

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


class StopRequest:
    """Turns the first signal to stop into :class:`Interrupted`; a second acts as without us.

    A context manager. Outside the main thread, where no handler can be set, it does nothing. What
    comes again within seconds is no second signal, but for Ctrl-C.

    Args:
        patient: Whether further signals are only counted, for callers that read ``times``.
    """

    def __init__(self, *, patient: bool = False) -> None:
        #: The first signal that came, if any, and how many came.
        self.signum: int | None = None
        self.times = 0
        self._patient = patient
        self._deferred = False
        self._noted_at = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Take over the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._note) for s in STOP_SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Give the handlers back."""
        self._restore()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside the block a signal is only noted; the block calls :meth:`check` when it can."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def check(self) -> None:
        """Obey a signal that was noted.

        Raises:
            Interrupted: If one was.
        """
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        # No logging here: a handler may run in the middle of another log call.
        if self._is_echo(signum):
            return
        self.signum = self.signum or signum
        self.times += 1
        self._noted_at = time.monotonic()
        if self.times > 1 and not self._patient:
            self._restore()
            signal.raise_signal(signum)
        elif not self._deferred:
            self.check()

    def _is_echo(self, signum: int) -> bool:
        if signum == signal.SIGINT or self.times == 0:
            return False
        return time.monotonic() - self._noted_at < _ECHO_S

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._previous = {}
