"""Which describes the outcomes of a study better: its training loss, or the logarithm of it?

    mkdir -p multirun && tar -xf docs/results/digits/records.tar.xz -C multirun
    python benchmarks/covariate.py --study digits digits_clean

For each outcome the share of the variance within seeds that a parabola in either explains, of the
seed that was left out of its fit; and M - D of ln lambda_max at equal fit, by either.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from multirun_analysis import outcomes
from multirun_analysis.study import Study, open_study

Array = NDArray[np.float64]
COVARIATES: dict[str, Callable[[Array], Array]] = {"loss": lambda loss: loss, "ln loss": np.log}
CONTRAST = ["granularity", "rho", "estimate", "fit_estimate", "fit_low", "fit_high", "fit_p"]


def explained(values: Array, covariate: Array, seeds: NDArray[np.int_]) -> float:
    """R² within seeds, each predicted from the others."""
    x = (covariate - covariate.mean()) / covariate.std()
    design, left = np.column_stack([x, x**2]), values.copy()
    for seed in np.unique(seeds):
        of = seeds == seed
        design[of] -= design[of].mean(axis=0)
        left[of] -= left[of].mean()
    squares = 0.0
    for seed in np.unique(seeds):
        of = seeds == seed
        coefficients, *_ = np.linalg.lstsq(design[~of], left[~of], rcond=None)
        squares += float(((left[of] - design[of] @ coefficients) ** 2).sum())
    return 1 - squares / float((left**2).sum())


def shares(study: Study) -> Iterator[list[object]]:
    """Of each outcome but the loss itself."""
    cells = study.runs.reset_index(drop=True)
    loss = cells["train_loss"].to_numpy(dtype=float)
    for outcome in outcomes.outcomes_of(cells, study.measurements):
        used = np.isfinite(outcome.values) & np.isfinite(loss) & cells["curvature"].isna()
        if outcome.name != outcomes.COVARIATE:
            seeds = cells["seed"].to_numpy(dtype=int)[used]
            found = [
                explained(outcome.values[used], of(loss[used]), seeds) for of in COVARIATES.values()
            ]
            yield [outcome.name, int(used.sum()), *found]


def contrasts(name: str, root: Path, of: Callable[[Array], Array]) -> pd.DataFrame:
    """M - D of ln lambda_max, with this covariate."""
    plain = outcomes._regression
    with mock.patch.object(outcomes, "_regression", lambda v, loss, s: plain(v, of(loss), s)):
        effects = open_study(name, root).effects
    chosen = (effects["effect"] == "magnitude_minus_direction") & (
        effects["outcome"] == "log_lambda_max"
    )
    return effects.loc[chosen, CONTRAST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", nargs="+", required=True, help="each of one recipe and model")
    parser.add_argument("--root", type=Path, default=Path("multirun"))
    arguments = parser.parse_args()
    for name in arguments.study:
        print(f"\n{name}: R² of a seed left out")
        rows = shares(open_study(name, arguments.root))
        print(tabulate(rows, headers=["outcome", "cells", *COVARIATES], floatfmt=".3f"))
        for covariate, of in COVARIATES.items():
            print(f"\n{name}: M - D of ln lambda_max at equal {covariate}")
            table = contrasts(name, arguments.root, of)
            print(tabulate(table, headers="keys", floatfmt=".2f", showindex=False))


if __name__ == "__main__":
    main()
