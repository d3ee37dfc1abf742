"""Verdicts follow from the adjusted p and the number of seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from multirun_analysis.runs.load import read_frames
from multirun_analysis.stats.effects import EFFECT_COLUMNS, HEADLINE, estimate_effects
from multirun_analysis.tables.verdicts import questions, verdict, verdict_lines, verdicts_page

from ..conftest import Study, cell, variant

#: A row of effects that is significant.
SIGNIFICANT: Mapping[str, Any] = {
    "recipe": "digits, 40 epochs, batch 128",
    "model": "resnet8",
    "ascent": "plain",
    "granularity": "element",
    "outcome": "log_lambda_max",
    "settings_label": "lambda_max, 2048 examples",
    "rho": 0.1,
    "effect": HEADLINE,
    "estimate": -0.746,
    "median": -0.7,
    "n": 10,
    "n_diverged": 0,
    "n_failed": 0,
    "n_missing": 0,
    "n_unconverged": 0,
    "t_low": -0.942,
    "t_high": -0.550,
    "p": 2 / 2**10,
    "p_adjusted": 6 / 2**10,
    "family": "confirmatory",
    "family_size": 3,
    "seeds_needed": 7,
}
NOT_SIGNIFICANT = {"estimate": 0.02, "t_low": -0.1, "t_high": 0.14, "p": 0.4, "p_adjusted": 0.45}
TOO_FEW = {"n": 4, "p": 0.125, "p_adjusted": 0.375}
NO_SEED = {**dict.fromkeys(("estimate", "t_low", "t_high", "p", "p_adjusted"), math.nan), "n": 0}


def _effects(*changes: Mapping[str, Any]) -> pd.DataFrame:
    rows = [SIGNIFICANT | change for change in changes]
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS)).astype(dict(EFFECT_COLUMNS))


def test_a_verdict_counts_the_p_first_and_then_the_seeds() -> None:
    rows = _effects({}, {"n": 6}, NOT_SIGNIFICANT, TOO_FEW, NOT_SIGNIFICANT | {"n": 0}, NO_SEED)
    assert [verdict(row) for row in rows.to_dict("records")] == [
        *["significant"] * 2, "not significant", *["too few seeds"] * 3
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({}, ["−0.75 [−0.94, −0.55]", "adjusted p = 0.0059", "n = 10: significant, lower"]),
        ({"estimate": 0.7}, ["significant, higher"]),
        (NOT_SIGNIFICANT, ["+0.02 [−0.10, +0.14]", "0.45", ": not significant"]),
        (TOO_FEW, ["n = 4: too few seeds, 3 more needed"]),
        (NO_SEED, ["??", "7 more needed"]),
        ({"ascent": "adaptive", "eta": 0.01}, ["adaptive ascent, eta 0.01"]),
    ],
)
def test_a_line_has_estimate_interval_p_and_verdict(
    change: Mapping[str, Any], facts: list[str]
) -> None:
    [line] = verdict_lines(_effects(change))
    assert all(fact in line for fact in [*facts, "resnet8", "rho 0.1", "ln lambda_max"])


def test_what_was_named_beforehand_is_asked_and_else_the_headline() -> None:
    rows = [{"family": "exploratory"}, {"family": "exploratory", "effect": "interaction"}]
    assert questions(_effects({}, *rows))["family"].tolist() == ["confirmatory"]
    asked = _effects(*rows, {"family": "exploratory", "outcome": "test_loss"})
    assert questions(asked)["effect"].tolist() == [HEADLINE]
    [section] = verdicts_page(asked).sections
    assert "exploratory" in section.text[0]


def test_the_page_holds_each_test_with_its_family() -> None:
    page = verdicts_page(_effects({}, NOT_SIGNIFICANT | {"rho": 0.2}))
    [section] = page.sections
    assert section.table is not None and section.text == ()
    assert section.table["verdict"].tolist() == ["significant, lower", "not significant"]
    assert section.table["p adjusted"].iloc[0] == "0.0059 (Holm, 3)"
    assert page.data["verdict"].tolist() == ["significant", "not significant"]


def test_from_records_to_verdicts(study: Study) -> None:
    rng = np.random.default_rng(0)
    for seed in range(8):
        for name in ("samdirection", "sammagnitude"):
            accuracy = 80 + rng.normal() + 10 * (name == "sammagnitude")
            study.add(cell(variant(name, 0.1), seed=seed), accuracy)
    runs, measurements, _ = read_frames(study.folder)
    [line] = verdict_lines(estimate_effects(runs, measurements))
    assert "n = 8: significant, higher" in line
    assert verdict_lines(estimate_effects(runs.head(0), measurements.head(0))) == []
