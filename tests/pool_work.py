"""What the processes of a pool do in its tests, in place of training."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from samsweep.records.lock import FolderLock
from samsweep.records.store import CellFolder
from samsweep.system.progress import Snapshot


def _finish(folder, status="complete", **changes):
    cell = CellFolder(folder)
    cell.write(cell.read().model_copy(update={"status": status, **changes}))


def note(folder, runs, slot, num_attempts, reports):
    """Write down what was given, take a moment, and finish."""
    started = time.monotonic()
    reports.send(Snapshot(num_steps=10, num_epochs=2, step=5, epoch=1))
    time.sleep(0.3)
    noted = {
        "gpu": slot.gpu,
        "num_threads": slot.num_threads,
        "pid": os.getpid(),
        "started": started,
        "ended": time.monotonic(),
        "measures": [list(run.sharpness.measures) for run in runs],
    }
    (Path(folder) / "noted.json").write_text(json.dumps(noted))
    _finish(folder)


def by_seed(folder, runs, slot, num_attempts, reports):
    """One ill for each seed; the others finish."""
    seed = runs[0].cell.seed
    _finish(folder, status="running")
    if seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 1:
        os.abort()
    if seed == 2:
        reports.send("OSError: no space left")
        sys.exit(1)
    if seed == 4:
        CellFolder(folder).record_file.write_text("{")
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 3:
        _finish(folder, status="failed", error="Traceback\nRuntimeError: out of luck")
        sys.exit(1)
    if seed in (17, 18):
        os._exit(3 * (seed - 17))
    time.sleep(0.5)
    _finish(folder)


def until_told(folder, runs, slot, num_attempts, reports):
    """Work until told to stop, then save and stop; with seed 1 refuse to stop."""
    told = []
    signal.signal(signal.SIGTERM, lambda signum, frame: told.append(signum))
    _finish(folder, status="running")
    (Path(folder) / "at work").write_text(str(os.getpid()))
    while not told or runs[0].cell.seed == 1:
        time.sleep(0.02)
    _finish(folder, status="interrupted")
    sys.exit(128 + signal.SIGTERM)


def fail_or_wait(folder, runs, slot, num_attempts, reports):
    """Fail with seed 0, else work until told to stop."""
    if runs[0].cell.seed == 0:
        time.sleep(0.5)
        _finish(folder, status="failed", error="out of luck")
        sys.exit(1)
    until_told(folder, runs, slot, num_attempts, reports)


def busy(folder, runs, slot, num_attempts, reports):
    """Leave a locked cell alone, as run_cell does."""
    if FolderLock(Path(folder)).alive:
        sys.exit(os.EX_TEMPFAIL)
    _finish(folder)
