"""What the commands cost beside training: the rows of ``speed.py``."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from harness import compose_run

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}

# --------------------------------------------------------------------------- start-up


def start_up(*, rounds: int) -> dict[str, Any]:
    """From the command to the first step of a digits cell, beside torch's own import."""
    seconds: dict[str, list[float]] = {"import torch": [], "to the first step": []}
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        seconds["import torch"].append(time.perf_counter() - started)
        seconds["to the first step"].append(_to_first_step())
    typical = {name: statistics.median(values) for name, values in seconds.items()}
    more = typical["to the first step"] - typical["import torch"]
    return {"seconds": seconds, "median_seconds": typical, "more": more}


def _to_first_step() -> float:
    """Until the first line of the history, less what that epoch says that it took."""
    command = [sys.executable, "-m", "samsweep.run", "opt=sam", "epochs=1", "sharpness=none"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        subprocess.run(command, cwd=folder, check=True, **QUIET)
        (history,) = Path(folder).glob("multirun/default/cells/*/history.jsonl")
        written = history.stat().st_mtime
        row = json.loads(history.read_text().splitlines()[0])
    return written - started - float(row["seconds"])


# --------------------------------------------------------------------------- a cell's fixed cost


def fixed_cost(*, epochs: int = 40) -> dict[str, Any]:
    """Of a digits cell: what is neither a step nor an evaluation, in percent of the steps."""
    from samsweep.records.store import CellFolder
    from samsweep.training import cell as cell_module
    from samsweep.training.cell import run_cell
    from samsweep.training.trainer import Trainer

    shares = {}
    for every in (60, 1):
        run = compose_run(
            [f"epochs={epochs}", "sharpness=none", f"checkpoint_every_seconds={every}"]
        )
        spent: dict[str, float] = {"steps": 0.0, "evaluation": 0.0}
        with (
            tempfile.TemporaryDirectory() as folder,
            _counted(Trainer, "take_step", spent, "steps"),
            _counted(cell_module, "evaluate", spent, "evaluation"),
        ):
            started = time.perf_counter()
            run_cell(run, CellFolder(Path(folder)))
            whole = time.perf_counter() - started
        rest = whole - sum(spent.values())
        shares[f"checkpoints every {every} s"] = {
            **spent,
            "rest": rest,
            "percent": 100 * rest / spent["steps"],
        }
    return shares


@contextmanager
def _counted(owner: Any, name: str, spent: dict[str, float], key: str) -> Iterator[None]:
    """Inside the block, the seconds of a function's calls are added up."""
    original = getattr(owner, name)

    def timed(*arguments: Any, **keys: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(*arguments, **keys)
        finally:
            spent[key] += time.perf_counter() - started

    with mock.patch.object(owner, name, timed):
        yield


# --------------------------------------------------------------------------- the pool


def pool(*, rounds: int, epochs: int = 10) -> dict[str, Any]:
    """16 digits cells, two at a time with one thread each, beside one after the other with two."""
    launchers = {
        "basic, two threads": ["hydra/launcher=basic", "num_threads=2"],
        "local, two workers": ["hydra/launcher=local", "hydra.launcher.workers=2"],
    }
    seeds = ",".join(map(str, range(16)))
    grid = ["-m", f"seed={seeds}", f"epochs={epochs}", "sharpness=none"]
    seconds: dict[str, list[float]] = {name: [] for name in launchers}
    for _ in range(rounds):
        for name, chosen in launchers.items():
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "samsweep.run", *grid, *chosen]
                started = time.perf_counter()
                subprocess.run(command, cwd=folder, check=True, env=os.environ, **QUIET)
                seconds[name].append(time.perf_counter() - started)
    typical = {name: statistics.median(values) for name, values in seconds.items()}
    basic, local = typical.values()
    return {"seconds": seconds, "median_seconds": typical, "ratio": basic / local}
