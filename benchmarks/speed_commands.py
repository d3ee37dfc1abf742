"""What the commands cost beside training: the rows of ``speed.py``."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from harness import compose_run, in_turn, medians

from samsweep.config import RunConfig

# --------------------------------------------------------------------------- start-up


def start_up(*, rounds: int) -> dict[str, Any]:
    """From the command to the first step of a digits cell, beside torch's own import."""
    seconds: dict[str, list[float]] = {"import torch": [], "to the first step": []}
    for _ in range(rounds):
        started = time.perf_counter()
        _call("-c", "import torch")
        seconds["import torch"].append(time.perf_counter() - started)
        seconds["to the first step"].append(_to_first_step())
    typical = medians(seconds)
    more = typical["to the first step"] - typical["import torch"]
    return {"seconds": seconds, "median_seconds": typical, "more": more}


def _to_first_step() -> float:
    """Until the history's first line is written, less what it says that its epoch took.

    The best weights are written between the two, so that this is a little too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        _call("-m", "samsweep.run", "opt=sam", "epochs=1", "sharpness=none", folder=folder)
        (history,) = Path(folder).glob("multirun/default/cells/*/history.jsonl")
        written = history.stat().st_mtime
        row = json.loads(history.read_text().splitlines()[0])
    return written - started - float(row["seconds"])


def _call(*arguments: str, folder: str | None = None) -> None:
    """Python with these arguments; what it printed is shown if it fails."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}")


# --------------------------------------------------------------------------- a cell's fixed cost

#: What a cell does beside its steps, from nothing out of the ordinary to much.
HABITS = {
    "defaults": [],
    "a checkpoint every second": ["checkpoint_every_seconds=1"],
    "tracked by wandb, offline": ["tracking=wandb"],
}


def fixed_cost(*, rounds: int, epochs: int = 40) -> dict[str, Any]:
    """Of a digits cell: what is neither a step nor an evaluation, in percent of its steps.

    A thread that writes beside the steps would show in their seconds.
    """
    runs = {
        name: compose_run([f"epochs={epochs}", "sharpness=none", *habit])
        for name, habit in HABITS.items()
    }
    for run in runs.values():
        _seconds_of_cell(run)
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            spent[name].append(_seconds_of_cell(run))
    percent = {
        name: statistics.median(100 * one["rest"] / one["steps"] for one in found)
        for name, found in spent.items()
    }
    return {"seconds": spent, "percent": percent}


def _seconds_of_cell(run: RunConfig) -> dict[str, float]:
    """Where the time of a whole cell goes."""
    from samsweep.records.store import CellFolder
    from samsweep.training import cell, train
    from samsweep.training.trainer import Trainer

    spent = {"steps": 0.0, "evaluations": 0.0}
    with (
        tempfile.TemporaryDirectory() as temporary,
        _added_up(Trainer, "take_step", spent, "steps"),
        _added_up(train, "evaluate", spent, "evaluations"),
    ):
        folder = Path(temporary) / "cell"
        folder.mkdir()
        started = time.perf_counter()
        cell.run_cell(run, CellFolder(folder))
        whole = time.perf_counter() - started
    return {**spent, "rest": whole - sum(spent.values())}


@contextmanager
def _added_up(owner: Any, name: str, spent: dict[str, float], key: str) -> Iterator[None]:
    """Inside the block, the seconds of a function's calls are added up."""
    original = getattr(owner, name)

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = original(*arguments)
        spent[key] += time.perf_counter() - started
        return result

    with mock.patch.object(owner, name, timed):
        yield


# --------------------------------------------------------------------------- the pool


def pool(*, rounds: int, epochs: int = 10) -> dict[str, Any]:
    """16 digits cells, two at a time with one thread each, beside one after the other with two."""
    launchers = {
        "basic, two threads": ["hydra/launcher=basic", "num_threads=2"],
        "local, two workers": [
            "hydra/launcher=local",
            "hydra.launcher.workers=2",
            "num_threads=1",
        ],
    }
    seeds = ",".join(map(str, range(16)))
    grid = ["-m", f"seed={seeds}", f"epochs={epochs}", "sharpness=none"]

    def sweep(chosen: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            _call("-m", "samsweep.run", *grid, *chosen, folder=folder)

    works = {name: partial(sweep, chosen) for name, chosen in launchers.items()}
    seconds = in_turn(works, rounds, warm_up=False)
    typical = medians(seconds)
    basic, local = typical.values()
    return {"seconds": seconds, "median_seconds": typical, "ratio": basic / local}
