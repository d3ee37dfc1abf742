"""Imported by the server of processes alone: signals that mean a pool pass it and its children by.

A terminal, a cluster or ``kill`` may send a signal to all processes of a sweep. The pool decides
what becomes of it; what it forks must neither die of it nor take the pool's own word for a second
one. A cell listens while it works (:class:`samsweep.system.signals.StopRequest`).
"""

from __future__ import annotations

import signal

from samsweep.system.signals import STOP_SIGNALS

for _signum in STOP_SIGNALS:
    signal.signal(_signum, signal.SIG_IGN)
