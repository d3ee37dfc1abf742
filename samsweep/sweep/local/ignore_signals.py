"""Imported by the forkserver alone, which ignores the signals that stop a pool, with its children.

A terminal, a cluster or ``kill`` may send a signal to all processes of a sweep. The pool handles
it; the processes that it forks must neither die of it nor count the pool's own SIGTERM as a second
one. A cell handles signals while it works (:class:`samsweep.system.signals.StopRequest`).
"""

from __future__ import annotations

import signal

from samsweep.system.signals import STOP_SIGNALS

for _signum in STOP_SIGNALS:
    signal.signal(_signum, signal.SIG_IGN)
