"""Tests named beforehand: where they are found, and what they may say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from multirun_analysis.__main__ import main
from multirun_analysis.stats.effects import EFFECTS
from multirun_analysis.stats.families import confirmatory_of
from samsweep.config import CONTRASTS, OUTCOMES, ConfigError, conf_dir

from ..conftest import Study

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


def test_the_names_that_a_preset_may_use_are_those_of_the_analysis() -> None:
    assert CONTRASTS == tuple(EFFECTS)


NAMES = {"outcomes": ["train_loss"], "granularities": ["global"], "rhos": [0.1]}


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("outcomes", ["test_acuracy"], "did you mean 'test_accuracy'"),
        ("outcomes", [3], "outcomes.0=3"),
        ("outcomes", "train_loss", "outcomes=train_loss"),
        ("effects", ["each"], "choose one of direction, "),
        ("granularities", ["each"], "'element', 'tensor' or 'global'"),
        ("rhos", ["0.1"], "rhos.0=0.1"),
        ("rhos", [-1], "greater than or equal to 0"),
        ("rhos", [True], "rhos.0=True"),
        ("rhos", [0.1, 0.1], "0.1 stands there twice"),
        ("rhos", 0.1, "rhos=0.1"),
        ("rhos", [], "at least one"),
        ("rho", [0.1], "key 'analysis.confirmatory.rho' is unknown"),
    ],
)
def test_what_cannot_be_tested_is_refused_in_one_sentence(
    tmp_path: Path, key: str, value: object, named: str
) -> None:
    with pytest.raises(ConfigError) as error:
        confirmatory_of("mine", _preset(tmp_path, **{**NAMES, key: value}))
    [problem] = error.value.problems
    assert named in problem and f"analysis.confirmatory.{key}" in problem


@pytest.mark.parametrize("analysis", [[1], "none", {"confirmatory": []}, {"confirmed": NAMES}])
def test_a_preset_of_another_form_is_refused(tmp_path: Path, analysis: object) -> None:
    (tmp_path / "experiment").mkdir()
    values = {"study": "mine", "analysis": analysis}
    (tmp_path / "experiment" / "own.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="analysis"):
        confirmatory_of("mine", tmp_path)


def test_the_tables_command_refuses_before_it_writes(
    small_grid: Study, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = _preset(tmp_path, **{**NAMES, "outcomes": ["lambda"]}), tmp_path / "out"
    file = own / "experiment" / "own.yaml"
    file.write_text(file.read_text().replace("study: mine", "study: default"))
    assert main([f"root={root}", f"out={out}", f"config_dir={own}"]) == 2
    reading, *told = capsys.readouterr().err.splitlines()
    assert reading == "reading study default ..."
    assert len(told) == 1 and "outcome 'lambda' is unknown" in told[0]
    assert not out.exists()
