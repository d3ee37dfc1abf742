"""Sentences are made from the numbers, and say no more than these allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from multirun_analysis.stats.effects import (
    EFFECT_COLUMNS,
    EFFECTS,
    SIMPLE_EFFECTS,
    estimate_effects,
)
from multirun_analysis.tables.verdicts import Conclusion, conclusions, conclusions_page, verdict
from samsweep.records.identity import RESULTS_VERSION, cell_id
from samsweep.records.schema import Record

from ..conftest import metrics, variant
from ..grids import cell, composed, frames

#: A row of effects in which a change was told apart from zero.
TOLD: Mapping[str, Any] = {
    "recipe_key": "r1",
    "recipe": "digits, 40 epochs, batch 128",
    "dataset": "digits",
    "epochs": 40,
    "model": "resnet8",
    "ascent": "plain",
    "granularity": "element",
    "outcome": "log_lambda_max",
    "settings_key": "lambda_max-1",
    "settings_label": "lambda_max, 2048 examples",
    "rho": 0.1,
    "effect": "magnitude_minus_direction",
    "estimate": -0.746,
    "median": -0.7,
    "n": 10,
    "n_lost": 0,
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
    "interaction_large": False,
}
#: What differs where it was not, although there are seeds enough.
NOT_TOLD = {"estimate": 0.02, "t_low": -0.1, "t_high": 0.14, "p": 0.4, "p_adjusted": 0.45}
#: What differs where there are too few seeds.
TOO_FEW = {"n": 4, "p": 0.125, "p_adjusted": 0.375}


def _effects(*changes: Mapping[str, Any]) -> pd.DataFrame:
    rows = [TOLD | change for change in changes]
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS)).astype(dict(EFFECT_COLUMNS))


def _only(*changes: Mapping[str, Any]) -> Conclusion:
    (conclusion,) = conclusions(_effects(*changes))
    return conclusion


# --------------------------------------------------------------------------- sentences


def test_a_change_that_is_told_apart() -> None:
    second = {
        "rho": 0.2,
        "estimate": -0.41,
        "t_low": -0.6,
        "t_high": -0.22,
        "p_adjusted": 2 / 2**10,
    }
    third = {"rho": 0.4, "estimate": -1.204, "t_low": -1.5, "t_high": -0.908}
    conclusion = _only({}, second, third)
    assert conclusion.sentence == (
        "Under element-wise granularity, on resnet8 (digits, 40 epochs) at rho 0.1 to 0.4, taking "
        "SAM's magnitude in place of SAM's direction (SAMMAGNITUDE less SAMDIRECTION) changed "
        "ln lambda_max by −0.75 [−0.94, −0.55] at 0.1, −0.41 [−0.60, −0.22] at 0.2 and "
        "−1.20 [−1.50, −0.91] at 0.4 (10 seeds, adjusted p ≤ 0.0059)."
    )
    assert set(conclusion.verdicts.values()) == {"told apart"}
    assert conclusion.seeds_more == 0 and conclusion.command is None


def test_a_change_that_is_not_told_apart_is_not_denied() -> None:
    assert _only(NOT_TOLD).sentence == (
        "Under element-wise granularity, on resnet8 (digits, 40 epochs) at rho 0.1, a change of "
        "ln lambda_max by taking SAM's magnitude in place of SAM's direction (SAMMAGNITUDE less "
        "SAMDIRECTION) was not told apart from zero: +0.02 [−0.10, +0.14] at 0.1 (10 seeds, "
        "adjusted p = 0.45)."
    )


def test_too_few_seeds_say_how_many_more() -> None:
    conclusion = _only(TOO_FEW, TOO_FEW | {"rho": 0.2, "n": 5})
    assert conclusion.sentence.endswith(
        "cannot be told apart from zero yet: −0.75 [−0.94, −0.55] at 0.1 and −0.75 [−0.94, −0.55] "
        "at 0.2 (4 to 5 seeds), where a family of 3 tests needs 7 seeds, 3 more."
    )
    assert conclusion.seeds_more == 3
    none = dict.fromkeys(("estimate", "median", "t_low", "t_high", "p", "p_adjusted"), math.nan)
    nothing = _only(none | {"n": 0, "family_size": 1, "seeds_needed": 6})
    assert nothing.sentence.endswith(
        "yet: no complete seed at 0.1, where one test needs 6 seeds, 6 more."
    )


def test_radii_that_differ_in_what_they_allow() -> None:
    conclusion = _only({}, NOT_TOLD | {"rho": 0.2}, TOO_FEW | {"rho": 0.4, "n": 6})
    assert "changed ln lambda_max by −0.75 [−0.94, −0.55] at 0.1 (10 seeds" in conclusion.sentence
    assert "; elsewhere a change was not told apart from zero: +0.02 [" in conclusion.sentence
    assert "; elsewhere a change cannot be told apart from zero yet: −0.75" in conclusion.sentence
    assert conclusion.verdicts == {
        0.1: "told apart",
        0.2: "not told apart",
        0.4: "too few seeds",
    }


def test_signs_that_turn_are_said_only_of_what_is_told_apart() -> None:
    up = {"rho": 0.4, "estimate": 0.5, "t_low": 0.2, "t_high": 0.8}
    assert "the sign turning with rho" in _only({}, up).sentence
    assert "turning" not in _only({}, NOT_TOLD | {"rho": 0.4}).sentence


def test_lost_seeds_and_doubtful_eigenvalues_are_counted() -> None:
    lost = {"n": 8, "n_lost": 2, "n_diverged": 1, "n_missing": 1, "rho": 0.4, "n_unconverged": 1}
    sentence = _only({}, lost).sentence
    assert "(8 to 10 seeds, adjusted p = 0.0059)" in sentence
    assert sentence.endswith(
        "; seeds left out: 1 diverged, 1 missing at 0.4; not all eigenvalues converged at 0.4."
    )


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("change", [{}, NOT_TOLD, TOO_FEW])
def test_no_sentence_claims_what_was_not_told_apart(effect: str, change: Mapping[str, Any]) -> None:
    # Simple effects are told of beside an interaction.
    interaction = [] if effect == "interaction" else [{"effect": "interaction"}]
    found = conclusions(_effects(change | {"effect": effect}, *interaction))
    sentence = next(c.sentence for c in found if c.effect == effect)
    assert ("changed" in sentence) == (not change)
    assert "no effect" not in sentence and "no change" not in sentence


def test_the_adaptive_ascent_and_other_outcomes_are_named() -> None:
    adaptive = {"ascent": "adaptive", "eta": 0.01, "granularity": "tensor"}
    sentence = _only(adaptive | {"outcome": "test_accuracy"}).sentence
    assert "Under per-tensor granularity and adaptive ascent (eta 0.01), on" in sentence
    assert "changed test accuracy (percentage points) by" in sentence


# --------------------------------------------------------------------------- what is told


def test_simple_effects_are_told_where_the_interaction_is() -> None:
    def told(interaction: Mapping[str, Any]) -> set[tuple[str, float]]:
        rows = [{"effect": name, "rho": rho} for name in SIMPLE_EFFECTS for rho in (0.1, 0.2)]
        rows += [
            interaction | {"effect": "interaction"},
            NOT_TOLD | {"effect": "interaction", "rho": 0.2},
        ]
        return {(c.effect, rho) for c in conclusions(_effects(*rows)) for rho in c.verdicts}

    with_it = {(name, 0.1) for name in SIMPLE_EFFECTS}
    main = {("interaction", 0.1), ("interaction", 0.2)}
    assert told({}) == with_it | main
    assert told(NOT_TOLD) == main


def test_a_verdict_counts_the_p_first_and_then_the_seeds() -> None:
    rows = _effects({}, {"n": 6}, NOT_TOLD, TOO_FEW, NOT_TOLD | {"n": 0, "p_adjusted": math.nan})
    assert [verdict(row) for row in rows.to_dict("records")] == [
        "told apart",
        "told apart",
        "not told apart",
        "too few seeds",
        "too few seeds",
    ]


# --------------------------------------------------------------------------- from records


def _records(seeds: Sequence[int], shift: float) -> list[Record]:
    """The hybrids at two radii, SAMMAGNITUDE ahead by a shift."""
    rng = np.random.default_rng(0)
    records = []
    for seed in seeds:
        for name in ("samdirection", "sammagnitude"):
            for rho in (0.1, 0.2):
                config = cell(variant(name, rho), seed=seed)
                accuracy = 90 + rng.normal() + shift * (name == "sammagnitude")
                record = Record(
                    results_version=RESULTS_VERSION,
                    cell_id=cell_id(config),
                    study="mine",
                    identity=config,
                    formula=config.variant.formula,
                    status="complete",
                    metrics=metrics(accuracy),
                )
                records.append(record)
    return records


def _page(records: Sequence[Record]) -> tuple[list[Conclusion], Any]:
    runs = frames(records).runs
    effects = estimate_effects(runs, frames(records).measurements)
    found = conclusions(effects, runs)
    return found, conclusions_page(found)


def test_from_records_to_sentences() -> None:
    found, page = _page(_records(range(8), shift=10))
    accuracy = next(c for c in found if c.outcome == "test_accuracy")
    assert set(accuracy.verdicts.values()) == {"told apart"}
    loss = next(c for c in found if c.outcome == "test_loss")
    assert set(loss.verdicts.values()) == {"not told apart"}, "it is the same in all cells"
    assert loss.sentence.endswith("0.00 at 0.1 and 0.00 at 0.2 (8 seeds, adjusted p = 1).")
    assert page.name == "conclusions" and {s.level for s in page.sections[1:]} == {3}
    assert page.sections[1].text == (accuracy.sentence,)
    assert page.data["sentence"].tolist() == [c.sentence for c in found]
    assert page.data["verdicts"].iloc[0] == "0.1: told apart, 0.2: told apart"


def test_the_command_runs_the_seeds_that_are_lacking_once_for_all_outcomes() -> None:
    records = _records(range(3), shift=10)
    found, page = _page(records)
    assert {c.seeds_more for c in found} == {3}, "no test finds anything with fewer than six"
    (command,) = page.sections[-1].text
    assert {c.command for c in found} == {command}
    expected = {
        cell_id(cell(variant(name, rho), seed=seed))
        for name in ("samdirection", "sammagnitude")
        for rho in (0.1, 0.2)
        for seed in range(3, 6)
    }
    assert {name for _, name in composed([command])} == expected


def test_without_runs_there_are_no_commands_and_without_effects_no_sentences() -> None:
    assert _only(TOO_FEW).command is None
    assert conclusions(_effects()) == []
    assert conclusions_page(conclusions(_effects())).sections == ()
