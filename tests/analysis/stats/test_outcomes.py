"""Outcomes, and what a regression on the training loss leaves of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multirun_analysis.runs.load import read_frames
from multirun_analysis.stats.effects import estimate_effects
from multirun_analysis.stats.outcomes import COVARIATE, adjusted_for_fit, outcomes_of
from samsweep.config import OUTCOMES

from ..conftest import Study, cell, measurement, metrics, variant

VARIANTS = {
    "sgd": variant("sgd"),
    "sam": variant("sam", 0.1),
    "samdirection": variant("samdirection", 0.1),
    "sammagnitude": variant("sammagnitude", 0.1),
}


def _study(study: Study, effect: float, seeds: int = 6) -> None:
    """ln lambda_max = 3 - 2 loss + loss² / 10 + seed / 10, and more for SAMMAGNITUDE."""
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        for name, chosen in VARIANTS.items():
            loss = 1 + rng.uniform() + 0.3 * (name == "sammagnitude")
            log = 3 - 2 * loss + loss**2 / 10 + seed / 10 + effect * (name == "sammagnitude")
            numbers = metrics(90 + loss).model_copy(update={"train_loss": loss})
            study.add(
                cell(chosen, seed=seed), 90.0, measurement(float(np.exp(log))), metrics=numbers
            )


def _headline(study: Study, outcome: str = "log_lambda_max") -> Any:
    read = read_frames(study.folder)
    effects = estimate_effects(read.runs, read.measurements)
    chosen = (effects["effect"] == "magnitude_minus_direction") & (effects["outcome"] == outcome)
    [(_, row)] = effects[chosen].iterrows()
    return row


def test_what_goes_with_the_loss_alone_is_gone_at_equal_fit(study: Study) -> None:
    _study(study, effect=0.0)
    row = _headline(study)
    assert row["estimate"] < -0.1
    assert row["fit_estimate"] == pytest.approx(0, abs=1e-9)
    assert row["fit_r2"] == pytest.approx(1)


def test_what_does_not_go_with_the_loss_stays(study: Study) -> None:
    _study(study, effect=-1.0)
    row = _headline(study)
    assert row["fit_low"] <= row["fit_estimate"] <= row["fit_high"] < 0
    assert 0 < row["fit_p"] <= 1 and row["fit_r2"] < 1


def test_the_training_loss_is_not_adjusted_for_itself(study: Study) -> None:
    _study(study, effect=0.0)
    row = _headline(study, COVARIATE)
    assert row["estimate"] > 0 and np.isnan(row["fit_estimate"])


def test_few_cells_are_not_adjusted(study: Study) -> None:
    # Twelve cells less two slopes and three seeds: seven are left.
    _study(study, effect=0.0, seeds=3)
    assert np.isnan(_headline(study)["fit_estimate"])


def test_adjusting_leaves_out_sgdhess_and_keeps_models_apart(study: Study) -> None:
    _study(study, effect=0.0)
    study.add(cell(variant("sgdhess", 1.0)), 90.0, measurement(1e6))
    read = read_frames(study.folder)
    (log,) = (o for o in outcomes_of(read.runs, read.measurements) if o.name == "log_lambda_max")
    residuals, explained = adjusted_for_fit(log, read.runs)
    hessian = (read.runs["variant"] == "sgdhess").to_numpy()
    assert np.isnan(residuals.values[hessian]).all()
    assert residuals.values[~hessian] == pytest.approx(0, abs=1e-9)
    assert list(explained) == [(read.runs["recipe_key"].iloc[0], "resnet8")]


def test_the_gap_is_training_less_test_accuracy(study: Study) -> None:
    study.add(cell(variant("sgd")), 90.0)
    read = read_frames(study.folder)
    found = {o.name: o.values.tolist() for o in outcomes_of(read.runs, read.measurements)}
    assert found["generalization_gap"] == [60.0 - 90.0]
    assert found["best_test_accuracy"] == [91.0] and found["train_loss"] == [1.5]
    assert set(found) == set(OUTCOMES) - {"log_lambda_max"}
