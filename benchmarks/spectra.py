"""How often Lanczos is wrong, on spectra made to mislead it, and what its caution costs.

    python benchmarks/spectra.py

Random spectra of 300 numbers: a bulk around 0 with nine outliers, uniform on [0, 1], as of a
Hessian in training; the same with a second eigenvalue close to the first, by bins of the gap; with
a cluster of eight at the top; and those of GOE matrices, whose edge has no gap. Starts are random,
the tolerance is 1e-4, all is in float64. Counted are

* guarantee: a value further from every eigenvalue than its error bound;
* misidentified: converged, and the first value further from the largest eigenvalue than both the
  tolerance and the error bound, as where the second passes for the first;
* off: converged, and any of the k values further from its eigenvalue than twice the tolerance;
* estimate: the first value further from the largest eigenvalue than its error estimate.

Rows with two starts take the larger of two values from independent starts, at the cost of both.

The counts go to benchmarks/results/spectra.json, for several values of lanczos.CAUTION. Of pairs
within 1 %, the likeliest to be misidentified, ten times as many spectra are searched for one.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import torch
from harness import RESULTS, environment, write
from numpy.typing import NDArray
from tabulate import tabulate

# The name `lanczos` in the package is the function.
from samsweep.sharpness.lanczos import CAUTION, LOOSEST, lanczos

MODULE = sys.modules[lanczos.__module__]
NUM_SPECTRA, DIM, TOLERANCE = 400, 300, 1e-4
KS = (1, 5)
#: By kind, where more than :data:`NUM_SPECTRA` are needed to count one in a thousand (k = 1).
MORE_SPECTRA = {
    "pair within 1 %": 4000,
    "pair at 1 to 3 tolerances": 4000,
    "pair at 3 to 10 tolerances": 4000,
    "pair at 10 to 30 tolerances": 4000,
}

#: The first one leaves it to the error estimates.
CAUTIONS = (math.inf, 0.05, CAUTION)
#: Beside one start: in place of caution, two.
SECOND_STARTS = [("pair within 1 %", 1, math.inf, 2), ("outliers", 1, math.inf, 2)]

Spectrum = NDArray[np.float64]
COUNTED = ("guarantee", "misidentified", "off", "estimate")


def outliers(draws: np.random.Generator) -> Spectrum:
    bulk, above = 0.01 * draws.standard_normal(DIM - 9), draws.uniform(0, 1, 9)
    return np.sort(np.concatenate([bulk, above]))


def pair(low: float, high: float, draws: np.random.Generator) -> Spectrum:
    values = outliers(draws)
    values[-2] = values[-1] * (1 - draws.uniform(low, high))
    return values


def cluster(draws: np.random.Generator) -> Spectrum:
    top = 1 - 0.05 * draws.uniform(0, 1, 8)
    bulk, above = 0.01 * draws.standard_normal(DIM - 12), draws.uniform(0, 0.9, 4)
    return np.concatenate([bulk, above, top])


def goe(draws: np.random.Generator) -> Spectrum:
    square = draws.standard_normal((DIM, DIM))
    values: Spectrum = np.linalg.eigvalsh((square + square.T) / np.sqrt(2 * DIM))
    return values


KINDS: dict[str, Callable[[np.random.Generator], Spectrum]] = {
    "outliers": outliers,
    "pair within 1 %": lambda draws: pair(0, 0.01, draws),
    "pair at 1 to 3 tolerances": lambda draws: pair(TOLERANCE, 3 * TOLERANCE, draws),
    "pair at 3 to 10 tolerances": lambda draws: pair(3 * TOLERANCE, 10 * TOLERANCE, draws),
    "pair at 10 to 30 tolerances": lambda draws: pair(10 * TOLERANCE, 30 * TOLERANCE, draws),
    "pair at 1 to 3 %": lambda draws: pair(0.01, 0.03, draws),
    "cluster": cluster,
    "GOE": goe,
}


def count(kind: str, k: int, caution: float, starts: int = 1) -> dict[str, Any]:
    """The counts of one kind of spectrum, and the mean number of products."""
    torch.set_num_threads(1)
    MODULE.CAUTION = caution
    MODULE.LOOSEST = math.inf if caution == math.inf else LOOSEST
    num_spectra = MORE_SPECTRA.get(kind, NUM_SPECTRA) if k == 1 else NUM_SPECTRA
    counts, products = Counter(dict.fromkeys(COUNTED, 0)), 0
    for seed in range(num_spectra):
        values = np.sort(KINDS[kind](np.random.default_rng(seed)))[::-1].copy()
        diagonal = torch.from_numpy(values)
        searches = [
            lanczos(
                lambda v, a=diagonal: a * v,
                DIM,
                k=k,
                tolerance=TOLERANCE,
                seed=seed + start * num_spectra,
                dtype=torch.float64,
            )
            for start in range(starts)
        ]
        found = max(searches, key=lambda one: one.eigenvalues[0])
        products += sum(one.num_matvecs for one in searches)
        counts.update(wrong(found, values))
    told = {"kind": kind, "k": k, "caution": caution, "starts": starts, "spectra": num_spectra}
    return {**told, **counts, "products": products / num_spectra}


def wrong(found: Any, true: Spectrum) -> list[str]:
    """What is wrong with a result, by the names of the counts."""
    allowed = TOLERANCE * abs(true[0])
    off = np.abs(found.eigenvalues - true[: len(found.eigenvalues)])
    nearest = np.abs(found.eigenvalues[:, None] - true).min(axis=1)
    happened = {
        "guarantee": (nearest > found.error_bounds).any(),
        "misidentified": found.converged and off[0] > max(allowed, found.error_bounds[0]),
        "off": found.converged and off.max() > 2 * allowed,
        "estimate": off[0] > found.error_estimates[0],
    }
    return [name for name, does in happened.items() if does]


def main() -> None:
    cases = [*product(KINDS, KS, CAUTIONS, [1]), *SECOND_STARTS]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(count, *zip(*cases, strict=True)))
    settings = {"num_spectra": NUM_SPECTRA, "dim": DIM, "tolerance": TOLERANCE, "caution": CAUTION}
    told = [{**row, "caution": str(row["caution"])} for row in rows]  # JSON has no infinity
    write(RESULTS / "spectra.json", {**settings, "rows": told, "environment": environment()})
    print(tabulate(rows, headers="keys"))


if __name__ == "__main__":
    main()
