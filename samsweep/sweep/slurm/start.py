"""Starts Python in a job with Slurm's warnings held back until somebody can act on them.

A job may be told to stop (SIGTERM on a preemption, SIGUSR2 before its time limit) while it still
imports, which takes seconds; the default of both is death, without a state and without a requeue.
Here both wait, as pending signals, until :class:`~samsweep.sweep.slurm.job.CellJob` takes them.
Nothing else is imported before.
"""

from __future__ import annotations

import runpy
import signal
import sys

#: What Slurm and submitit send a job that is to stop.
WARNINGS = (signal.SIGTERM, signal.SIGUSR2)


def take_warnings() -> None:
    """Let signals through, those that wait first; processes that are started now get them too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WARNINGS)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)
    # As in `python -m samsweep.sweep.slurm.start -u -m MODULE FOLDER`, submitit's own command.
    module = sys.argv[sys.argv.index("-m") + 1]
    sys.argv = sys.argv[sys.argv.index("-m") + 1 :]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
