"""Published numbers."""

from __future__ import annotations

import pytest

from multirun_analysis.references import REFERENCE_COLUMNS, load_reference, references
from samsweep.config import DATASETS, MODELS, VARIANTS

from ..conftest import dtypes


def test_the_study_has_36_accuracies_of_which_8_were_not_published() -> None:
    accuracy = load_reference().query("table == 'accuracy'")
    assert len(accuracy) == 36
    assert accuracy["value"].isna().sum() == 8
    assert accuracy.groupby(["model", "variant"]).size().tolist() == [3] * 12
    found = accuracy.set_index(["model", "variant", "rho"])["value"]
    assert found["resnet18", "sam", 0.2] == 79.54
    assert found["wrn28_10", "sammagnitude", 0.4] == 79.36


def test_sharpness_and_sgdhess() -> None:
    numbers = load_reference()
    sharpness = numbers.query("table == 'sharpness'").set_index(["variant", "rho"])["value"]
    assert len(sharpness) == 9 and sharpness["samdirection", 0.2] == 3737.54
    sgd = numbers.query("table == 'sgdhess'")
    assert len(sgd) == 8
    assert sgd.query("variant == 'sgd'")["value"].tolist() == [77.36, 207.06]


def test_names_are_ours_and_both_readings_are_there() -> None:
    numbers = load_reference()
    assert set(numbers["model"]) <= set(MODELS)
    assert set(numbers["variant"]) <= set(VARIANTS)
    assert set(numbers["dataset"]) <= set(DATASETS)
    coded = dict(zip(numbers["variant"], numbers["variant_as_coded"], strict=True))
    assert coded["samdirection"] == "sammagnitude" and coded["sammagnitude"] == "samdirection"
    assert coded["sam"] == "sam"


def test_source_protocol_and_caveats_come_along() -> None:
    numbers = load_reference()
    assert dtypes(numbers) == REFERENCE_COLUMNS
    assert "Luong" in numbers.attrs["source"]
    assert "best-validation" in numbers.attrs["protocol"]
    assert any("opposite" in caveat for caveat in numbers.attrs["caveats"])


def test_both_readings_of_the_hybrids_come_with_their_evidence() -> None:
    readings = load_reference().attrs["readings"]
    assert set(readings) == {"by_name", "as_coded"}
    assert "sign(g)*abs(h)" in readings["as_coded"] and "3 June 2024" in readings["as_coded"]


def test_an_unknown_reference_names_those_there_are() -> None:
    assert references() == ["empirical_sam"]
    with pytest.raises(ValueError, match="'empirical' is unknown: did you mean 'empirical_sam'"):
        load_reference("empirical")
