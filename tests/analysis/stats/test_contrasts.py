"""Contrasts beside the 2x2 design: SGDHESS less SGD, and hybrids at equal training loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from multirun_analysis.runs.load import load_history, read_frames
from multirun_analysis.stats.contrasts import (
    CURVATURE_COLUMNS,
    MATCHED_COLUMNS,
    curvature_effects,
    matched_effects,
)
from multirun_analysis.tables.effects import contrast_page
from multirun_analysis.wording.labels import recipe_titles

from ..conftest import Study, cell, dtypes, measurement, variant


def test_sgdhess_less_sgd_by_hand(study: Study) -> None:
    for seed in range(3):
        study.add(cell(variant("sgd"), seed=seed), 90.0, measurement(100.0))
        factor = math.exp(-1 - seed)
        study.add(cell(variant("sgdhess", 1.0), seed=seed), 91.0 + seed, measurement(100 * factor))
    study.add(cell(variant("sgdhess", 1.0), seed=7), 99.0)  # without a partner
    study.add(cell(variant("sgdhess", 2.0)), status="diverged")
    read = read_frames(study.folder)
    found = curvature_effects(read.runs, read.measurements)
    assert dtypes(found) == dict(CURVATURE_COLUMNS)
    assert set(found["rho"]) == {1.0} and set(found["n"]) == {3}
    by_outcome = found.set_index("outcome")
    assert by_outcome.loc["test_accuracy", "estimate"] == pytest.approx(2)
    assert by_outcome.loc["log_lambda_max", "estimate"] == pytest.approx(-2)
    half = 4.302653 / math.sqrt(3)
    assert by_outcome.loc["log_lambda_max", "t_high"] == pytest.approx(-2 + half, abs=1e-5)
    assert by_outcome.loc["log_lambda_max", "p"] == 0.25
    page = contrast_page("sgdhess_effects", found, recipe_titles(read.runs))
    assert page.name == "sgdhess_effects"
    first = page.sections[1].table
    assert first is not None and first.iloc[0]["mean [95 % t]"] == "+2.00 [−0.48, +4.48]"


def _histories(study: Study, losses: dict[str, list[float]], **changes: Any) -> None:
    for seed in range(2):
        for name, of_epochs in losses.items():
            record = study.add(cell(variant(name, 0.1), seed=seed, **changes), 90.0)
            rows = [
                {
                    "train_loss": loss,
                    "val_accuracy": 50.0 + epoch + (name == "sammagnitude"),
                    "directional_curvature": math.e if name == "samdirection" else 1.0,
                    "weight_norm": 10.0,
                }
                for epoch, loss in enumerate(of_epochs)
            ]
            study.add_history(record, rows)


def test_hybrids_are_matched_at_the_lowest_loss_that_all_reach(study: Study) -> None:
    _histories(study, {"samdirection": [3.0, 2.0, 1.0, 0.5], "sammagnitude": [2.5, 0.9, 0.8, 0.85]})
    runs = read_frames(study.folder).runs
    found = matched_effects(runs, load_history(study.folder))
    assert dtypes(found) == dict(MATCHED_COLUMNS)
    # SAMMAGNITUDE comes down to 0.8 in its third epoch; SAMDIRECTION is below that in its fourth.
    assert set(found["level"]) == {0.8} and set(found["n"]) == {2}
    assert set(found["epoch_samdirection"]) == {4.0} and set(found["epoch_sammagnitude"]) == {3.0}
    estimates = dict(zip(found["outcome"], found["estimate"], strict=True))
    assert estimates == pytest.approx(
        {"val_accuracy": 0.0, "log_directional_curvature": -1.0, "weight_norm": 0.0}
    )
    page = contrast_page("matched", found, recipe_titles(runs))
    table = page.sections[1].table
    assert table is not None and table.iloc[0]["training loss"] == "0.800"


def test_a_hybrid_alone_and_recipes_apart(study: Study) -> None:
    _histories(study, {"samdirection": [1.0, 0.5]})
    runs = read_frames(study.folder).runs
    assert matched_effects(runs, load_history(study.folder)).empty
    _histories(study, {"samdirection": [9.0, 8.0], "sammagnitude": [9.0, 7.0]}, lr=0.05)
    runs = read_frames(study.folder).runs
    found = matched_effects(runs, load_history(study.folder))
    assert set(found["level"]) == {8.0} and found["recipe_key"].nunique() == 1


def test_a_study_without_any_has_no_rows(study: Study) -> None:
    study.add(cell(variant("sam", 0.1)), 90.0)
    read = read_frames(study.folder)
    assert curvature_effects(read.runs, read.measurements).empty
    assert matched_effects(read.runs, load_history(study.folder)).empty
    assert np.isnan(read.runs["eta"]).all()
