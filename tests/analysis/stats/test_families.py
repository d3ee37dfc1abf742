"""Tests named beforehand: where they are found, and what they may say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from multirun_analysis.stats.effects import EFFECTS
from multirun_analysis.stats.families import confirmatory_of
from multirun_analysis.stats.outcomes import OUTCOMES
from samsweep.config import ConfigError, conf_dir

PRESETS = sorted((conf_dir() / "experiment").glob("*.yaml"))


def test_digits_names_twelve_tests_also_where_its_labels_are_clean() -> None:
    plan, clean = confirmatory_of("digits"), confirmatory_of("digits_clean")
    assert plan is not None and plan == clean
    assert plan.num_tests == 12
    assert plan.effects == ("magnitude_minus_direction",)
    assert confirmatory_of("default") is None


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_what_a_preset_names_is_there(file: Path) -> None:
    plan = confirmatory_of(yaml.safe_load(file.read_text())["study"])
    if plan is not None:
        assert set(plan.outcomes) <= set(OUTCOMES) and set(plan.effects) <= set(EFFECTS)


def _preset(folder: Path, **named: object) -> Path:
    (folder / "experiment").mkdir()
    values = {"study": "mine", "analysis": {"confirmatory": named}}
    (folder / "experiment" / "own.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_a_folder_of_ones_own_names_tests_too(tmp_path: Path) -> None:
    named = {"outcomes": ["train_loss"], "granularities": ["global"], "rhos": [0.30000000000000004]}
    plan = confirmatory_of("mine", _preset(tmp_path, **named))
    assert plan is not None
    assert (plan.outcomes, plan.rhos, plan.num_tests) == (("train_loss",), (0.3,), 1)
    assert confirmatory_of("digits", tmp_path) == confirmatory_of("digits")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    _preset(tmp_path, outcomes=["train_loss"], granularities=["each"], rhos=[0.1])
    with pytest.raises(ConfigError, match="analysis.confirmatory.granularities.0=each"):
        confirmatory_of("mine", tmp_path)
