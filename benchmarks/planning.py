"""Seconds to plan 192 cells, beside plain Hydra's multirun of as many empty jobs.

    python benchmarks/planning.py

Four commands take turns, so that a slow moment of the machine meets all of them; medians are
reported. "Again" finds 192 made-up complete records; "status" reads 1,000 of them.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import RESULTS, environment, write
from hydra import compose, initialize_config_dir
from tabulate import tabulate

from samsweep.config import conf_dir
from samsweep.hydra_config import register_resolvers, to_run_config
from samsweep.records.identity import cell_id
from samsweep.records.schema import Metrics, Record
from samsweep.records.store import CellFolder

GRID = [
    "-m",
    "model=resnet8,resnet20",
    "opt=sam,samdirection,sammagnitude,asam",
    "rho=0.1,0.2,0.4",
    "seed=range(0,8)",
    "sharpness=none",
]

#: Plain Hydra: its sweeper, its basic launcher, our configuration, and a task that does nothing.
EMPTY_JOBS = """
import hydra
from samsweep.hydra_config import register_resolvers
from samsweep.config import conf_dir
register_resolvers()
hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(lambda cfg: 0)()
"""

PLAIN = ["hydra/sweeper=basic", "hydra/launcher=basic", "~hydra.callbacks.preflight"]


def seconds(folder: Path, *command: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def compose_grid() -> list:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        shown = [
            to_run_config(compose("config", overrides=["sharpness=none", *point]))
            for point in (
                [f"model={model}", f"opt={opt}", f"rho={rho}"]
                for model in ("resnet8", "resnet20")
                for opt in ("sam", "samdirection", "sammagnitude", "asam")
                for rho in (0.1, 0.2, 0.4)
            )
        ]
    return [
        run.model_copy(update={"cell": run.cell.model_copy(update={"seed": seed})})
        for run in shown
        for seed in range(42)
    ]


def complete(run, folder: Path) -> None:
    """A made-up record of a complete cell."""
    values = {name: 50.0 for name in Metrics.model_fields} | {"best_epoch": 1}
    cell = CellFolder(folder / "multirun/default/cells" / cell_id(run.cell))
    cell.path.mkdir(parents=True)
    changes = {"status": "complete", "metrics": Metrics.model_validate(values)}
    cell.write(Record.planned(run).model_copy(update=changes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "planning.json")
    arguments = parser.parse_args()

    found: dict[str, list[float]] = {name: [] for name in ("plain", "plan", "again", "status")}
    runs = compose_grid()
    with tempfile.TemporaryDirectory() as root:
        again, status = Path(root, "again"), Path(root, "status")
        for run in runs:
            if run.cell.seed < 8:
                complete(run, again)
        for run in runs[:1000]:
            complete(run, status)
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
            plain = Path(root, f"plain{number}")
            plain.mkdir()
            found["plain"].append(seconds(plain, "-c", EMPTY_JOBS, *GRID, *PLAIN))
            new = Path(root, f"new{number}")
            new.mkdir()
            found["plan"].append(seconds(new, "-m", "samsweep.run", *GRID, "dry_run=true"))
            found["again"].append(seconds(again, "-m", "samsweep.run", *GRID))
            found["status"].append(seconds(status, "-m", "samsweep.status"))

    medians = {name: statistics.median(values) for name, values in found.items()}
    told = {
        "plain": "plain Hydra, 192 empty jobs",
        "plan": "plan of 192 new cells, with timed steps",
        "again": "192 complete cells again, with the table",
        "status": "status of 1,000 cells",
    }
    rows = [(told[n], f"{s:.2f}", f"{s / medians['plain']:.2f}") for n, s in medians.items()]
    print(tabulate(rows, headers=["command", "seconds", "of plain Hydra's"]))
    result = {"seconds": found, "median_seconds": medians, "environment": environment()}
    write(arguments.out, result)


if __name__ == "__main__":
    main()
