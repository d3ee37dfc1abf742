"""What a change made of lambda_max and top 5: products and seconds of two checkouts, in turn.

    git worktree add ../before 4bb5016
    python benchmarks/sharpness_before.py --before ../before    # or a part: --case resnet20

Cases and protocol are those of benchmarks/sharpness.py, of our own method alone: the loosest
tolerance with which every starting vector gives every eigenvalue to 1e-3, relative to itself.
Either checkout computes in a process of its own, which waits while the other computes. Tolerances
of one starting vector share their products, each charged with the seconds it took. The truth is
the same search to 5e-5 from a start of its own.

The JSON goes to benchmarks/results/sharpness_before.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from harness import DATA, RESULTS, environment, write
from sharpness import PLAN, TRUTH_SEED, TRUTH_TOLERANCE, Case, Source, sources_of
from sharpness_methods import TARGET, TOLERANCES, Problem, largest_error
from tabulate import tabulate

from samsweep.sharpness import top_eigenvalues

HERE = Path(__file__).parent


class Checkout:
    """A process that searches eigenvalues with the samsweep of one folder.

    Args:
        folder: Of the checkout.
        problem: File of a pickled (model, inputs, labels).
        threads: Of the process.
    """

    def __init__(self, folder: Path, problem: Path, threads: int) -> None:
        command = [sys.executable, "-W", "ignore", HERE / "sharpness_worker.py", problem]
        self._process = subprocess.Popen(
            [*command, str(threads)],
            env={**os.environ, "PYTHONPATH": str(folder.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **task: float) -> dict[str, Any]:
        """Values, products and seconds of one search."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(task), file=self._process.stdin, flush=True)
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        self._process.communicate()


def compare(case: Case, problem: Problem, folders: dict[str, Path], threads: int) -> dict[str, Any]:
    """Both checkouts on one case, start by start."""
    truth = top_eigenvalues(
        problem.model,
        problem.inputs,
        problem.labels,
        k=max(case.ks),
        tolerance=TRUTH_TOLERANCE,
        seed=TRUTH_SEED,
        physical_batch_size=problem.batch_size,
    ).values
    print("true eigenvalues: " + ", ".join(f"{value:.5g}" for value in truth), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "problem"
        torch.save((problem.model, problem.inputs, problem.labels), file)
        checkouts = {name: Checkout(at, file, threads) for name, at in folders.items()}
        rows = [
            row
            for k in case.ks
            for row in search(checkouts, k, case.starts, truth[:k], problem.batch_size)
        ]
        for checkout in checkouts.values():
            checkout.close()
    return {"model": case.model, "images": case.images, "eigenvalues": truth, "rows": rows}


def search(
    checkouts: dict[str, Checkout], k: int, starts: int, truth: Sequence[float], batch_size: int
) -> list[dict[str, Any]]:
    """The loosest tolerance of each, climbing the ladder where a start misses the target."""
    rungs = dict.fromkeys(checkouts, 0)
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    order = list(checkouts)
    while any((name, rungs[name], start) not in found for name in order for start in range(starts)):
        for start in range(starts):
            order.reverse()  # neither always has the machine as the other left it
            for name in order:
                while (key := (name, rungs[name], start)) not in found:
                    tolerance = TOLERANCES[rungs[name]]
                    one = checkouts[name].ask(
                        k=k, tolerance=tolerance, seed=start, batch=batch_size
                    )
                    one["error"] = largest_error(one["values"], truth)
                    found[key] = one
                    print(k, name, tolerance, start, one["products"], one["error"], flush=True)
                    rungs[name] += one["error"] > TARGET
    return [_row(name, k, rungs[name], found, starts) for name in checkouts]


def _row(name: str, k: int, rung: int, found: dict[Any, Any], starts: int) -> dict[str, Any]:
    taken = [found[name, rung, start] for start in range(starts)]
    columns = {key: [one[key] for one in taken] for key in ("products", "error", "seconds")}
    return {
        "checkout": name,
        "k": k,
        "tolerance": TOLERANCES[rung],
        **columns,
        "median_products": statistics.median(columns["products"]),
        "median_seconds": statistics.median(columns["seconds"]),
    }


def commit_of(folder: Path) -> str:
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="folder of another checkout")
    parser.add_argument("--case", nargs="+", choices=PLAN, default=list(PLAN))
    parser.add_argument("--data", type=Path, default=DATA, help=f"images; default: {DATA}")
    parser.add_argument("--folder", type=Path, help="with weights.safetensors of the case's model")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "sharpness_before.json")
    arguments = parser.parse_args()
    folders = {"before": arguments.before, "now": HERE.parent}
    sources = sources_of(arguments, [PLAN[name] for name in arguments.case])
    known = json.loads(arguments.out.read_text())["cases"] if arguments.out.exists() else {}
    for name in arguments.case:
        source: Source = sources[PLAN[name].model]
        print(f"\n{name}", flush=True)
        result = compare(
            PLAN[name], source.load(PLAN[name].images), folders, threads=arguments.threads
        )
        commits = {name: commit_of(folder) for name, folder in folders.items()}
        known[name] = {**result, "commits": commits, "environment": environment()}
        write(arguments.out, {"target": TARGET, "cases": known})
        columns = ("checkout", "k", "tolerance", "median_products", "median_seconds")
        print(tabulate([[row[c] for c in columns] for row in result["rows"]], headers=columns))


if __name__ == "__main__":
    main()
