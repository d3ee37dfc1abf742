"""Names for people."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multirun_analysis import load_runs
from multirun_analysis.tables import entries
from multirun_analysis.wording import labels, numbers
from multirun_analysis.wording.labels import optimizer_label, recipe_titles
from multirun_analysis.wording.numbers import number
from samsweep.config import AugmentConfig, Variant

from ..conftest import Study, cell, variant


@pytest.mark.parametrize("module", [labels, numbers, entries])
def test_doctests(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_can_be_read_back(value: float) -> None:
    assert float(number(value)) == value


@pytest.mark.parametrize(
    ("chosen", "label"),
    [
        (variant("sgd"), "SGD"),
        (variant("sam", 0.1), "SAM"),
        (variant("asam", 0.1), "ASAM"),
        (variant("asam", 0.1, eta=0.5), "ASAM (eta 0.5)"),
        (variant("asam", 0.1, scaled=None), "ASAM (unscaled norms)"),
        (
            variant("samdirection", 0.1, ascent="adaptive", scaled="weights"),
            "SAMDIRECTION (adaptive)",
        ),
        (variant("sgdhess", 0.1), "SGDHESS"),
        (variant("sgdhess", 0.1, curvature="exact"), "SGDHESS (exact)"),
        (variant("sgdhess", 0.1, curvature="gauss_newton"), "SGDHESS (gauss-newton)"),
        (
            variant("samdirection", 0.1, direction="sgd", magnitude="sam"),
            "SAMDIRECTION (direction sgd, magnitude sam)",
        ),
    ],
)
def test_rows_are_named_as_in_the_study(chosen: Variant, label: str) -> None:
    assert optimizer_label(chosen.model_dump()) == label


def test_a_title_says_the_recipe(study: Study) -> None:
    study.add(cell(variant("sgd")), 92.4)
    [title] = recipe_titles(load_runs(study.folder)).values()
    assert title == (
        "digits, 40 epochs, batch 128, SGD lr 0.1, momentum 0.9, weight decay 0.001, "
        "label noise 0.4"
    )


def test_titles_tell_recipes_apart(study: Study) -> None:
    study.add(cell(variant("sgd")), 1.0)
    study.add(cell(variant("sgd"), epochs=5), 1.0)
    study.add(cell(variant("sgd"), precision="bfloat16"), 1.0)
    study.add(cell(variant("sgd"), lr_schedule="constant"), 1.0)
    study.add(cell(variant("sgd"), base="adam", momentum=None), 1.0)
    study.add(cell(variant("sgd"), dataset={"label_noise": 0.0}), 1.0)
    study.add(cell(variant("sgd"), dataset={"augment": AugmentConfig(flip=True)}), 1.0)
    study.add(cell(variant("sgd"), seed=1), 1.0, results_version=0)
    titles = list(recipe_titles(load_runs(study.folder)).values())
    assert len(set(titles)) == 8
    assert any(", label noise 0.4, bfloat16" in title for title in titles)
    assert any("flip on" in title for title in titles)
    assert any("results version 0" in title for title in titles)


def test_labels_that_would_be_equal_end_in_their_key() -> None:
    items = {"a1": {"name": "x", "odd": 1}, "b2": {"name": "x", "odd": 2}}
    found = labels.distinct_labels(items, within="name", core=[lambda item: item["name"]], extra={})
    assert found == {"a1": "x [a1]", "b2": "x [b2]"}


def test_labels_say_the_settings_of_a_measure() -> None:
    fixed = {"num_examples": 2048, "weights": "last", "seed": 0}
    balls = {"rho_l2": 0.1, "rho_linf": 0.001, "num_steps": 20, "batch_size": 256}
    found = labels.settings_labels(
        {
            "a": ("worst_case_l2", {**fixed, "worst_case": balls}),
            "b": ("worst_case_l2", {**fixed, "worst_case": {**balls, "rho_l2": 0.2}}),
            "c": ("worst_case_linf", {**fixed, "worst_case": balls}),
            "d": ("trace", {**fixed, "trace": {"num_samples": 100}}),
            "e": ("trace", {**fixed, "trace": {"num_samples": 10}}),
            "f": ("worst_case_linf", {**fixed, "worst_case": {**balls, "rho_l2": 0.2}}),
            "g": ("sam_gap", {**fixed, "sam_gap": 3}),
        }
    )
    tail = "2048 examples, last weights"
    assert found == {
        "a": f"worst_case_l2, {tail}, rho 0.1, batches of 256",
        "b": f"worst_case_l2, {tail}, rho 0.2, batches of 256",
        "c": f"worst_case_linf, {tail}, rho 0.001, batches of 256, worst case rho l2 0.1",
        "d": f"trace, {tail}, trace num samples 100",
        "e": f"trace, {tail}, trace num samples 10",
        "f": f"worst_case_linf, {tail}, rho 0.001, batches of 256, worst case rho l2 0.2",
        "g": f"sam_gap, {tail}",
    }
