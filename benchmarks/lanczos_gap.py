"""How often Lanczos stops on a wrong eigenvalue, by the gap that its error bound believes in.

    python benchmarks/lanczos_gap.py

Random spectra as of a Hessian in training: a bulk around 0 and nine outliers, uniform on [0, 1].
An answer is wrong if it misses the true lambda_max by more than ten times the tolerance.
"""

from __future__ import annotations

import numpy as np
import torch
from tabulate import tabulate

# The name `lanczos` in the package is the function.
from samsweep.sharpness.lanczos import lanczos

MODULE = __import__("sys").modules[lanczos.__module__]
NUM_SPECTRA, DIM, TOLERANCE = 300, 400, 1e-4


def spectrum(seed: int) -> torch.Tensor:
    draws = np.random.default_rng(seed)
    bulk, outliers = 0.01 * draws.standard_normal(DIM - 9), draws.uniform(0, 1, 9)
    return torch.from_numpy(np.concatenate([bulk, outliers]))


def count(unseen_gap: float) -> tuple[int, float]:
    """Wrong answers, and the mean number of products."""
    MODULE.UNSEEN_GAP = unseen_gap
    wrong, products = 0, 0
    for seed in range(NUM_SPECTRA):
        values = spectrum(seed)
        found = lanczos(
            lambda v, a=values: a * v, DIM, k=1, tolerance=TOLERANCE, seed=seed, dtype=values.dtype
        )
        largest = values.max().item()
        wrong += abs(found.eigenvalues[0] - largest) > 10 * TOLERANCE * largest
        products += found.num_matvecs
    return wrong, products / NUM_SPECTRA


def main() -> None:
    rows = [
        (name, *count(gap))
        for name, gap in [
            ("any gap", float("inf")),
            ("at most 1 % of theta_1", MODULE.UNSEEN_GAP),
            ("none: the residual alone", 0.0),
        ]
    ]
    print(tabulate(rows, headers=["gap believed", f"wrong of {NUM_SPECTRA}", "products"]))


if __name__ == "__main__":
    main()
