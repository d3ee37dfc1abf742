"""What a Slurm queue costs: 16 short cells, one in a job or four.

    tests/cluster/cluster start; eval "$(tests/cluster/cluster env)"
    python benchmarks/slurm.py

Two jobs at a time in both cases, so that as many cells train at a time. Both take turns; medians
are reported. Overhead is what two workers spend beyond the cells' own training and evaluation:
Slurm's scheduling, the start of Python, the launcher's own start and its waiting.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import RESULTS, environment, write
from tabulate import tabulate

JOBS_AT_A_TIME = 2
GRID = [
    "-m",
    "hydra/launcher=slurm",
    "opt=sam",
    "rho=0.1,0.2",
    "seed=range(0,8)",
    "epochs=10",
    "sharpness=none",
    "num_threads=1",
    f"hydra.launcher.max_parallel={JOBS_AT_A_TIME}",
]


def sweep(cells_per_job: int) -> dict[str, float]:
    """Run the grid in a folder of its own; seconds of the command and of its cells."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*GRID, f"hydra.launcher.cells_per_job={cells_per_job}"]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "samsweep.run", *command],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        wall = time.perf_counter() - started
        files = Path(folder).glob("multirun/*/cells/*/record.json")
        records = [json.loads(file.read_text()) for file in files]
    assert [record["status"] for record in records] == ["complete"] * 16
    cells = sum(attempt["seconds"] for record in records for attempt in record["attempts"])
    return {"wall": wall, "cells": cells, "overhead": JOBS_AT_A_TIME * wall - cells}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "slurm.json")
    arguments = parser.parse_args()

    found: dict[int, list[dict[str, float]]] = {1: [], 4: []}
    for number in range(arguments.rounds):
        for cells_per_job, values in found.items():
            print(f"round {number + 1} of {arguments.rounds}, {cells_per_job} a job", flush=True)
            values.append(sweep(cells_per_job))
    medians = {
        cells: {name: statistics.median(v[name] for v in values) for name in values[0]}
        for cells, values in found.items()
    }
    rows = [
        (cells, f"{m['wall']:.0f}", f"{m['cells']:.0f}", f"{m['overhead'] / 16:.1f}")
        for cells, m in medians.items()
    ]
    headers = ["cells a job", "wall s", "s in cells", "overhead s a cell"]
    print(tabulate(rows, headers=headers))
    result = {"seconds": found, "median_seconds": medians, "environment": environment()}
    write(arguments.out, result)


if __name__ == "__main__":
    main()
