"""The studies that ``benchmarks/made_up.py`` makes up are such as runs write."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

from multirun_analysis.runs.array_measures import load_arrays
from multirun_analysis.study import open_study
from multirun_analysis.tables.study_pages import study_pages
from samsweep.config import MEASURES, conf_dir

FIGURES = {"spectral_density", "landscape_1d", "landscape_2d"}
ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").is_dir(), reason="the wheel has no benchmarks"
)


@pytest.fixture
def made_up() -> Any:
    """The module."""
    spec = importlib.util.spec_from_file_location("made_up", ROOT / "benchmarks" / "made_up.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_made_up_studies_can_be_read(tmp_path: Path, made_up: Any) -> None:
    study = open_study(made_up.STUDY, made_up.write_study(tmp_path, 80))
    assert len(study.runs) == 80 and study.problems == ()
    assert study.runs["status"].value_counts().to_dict() == {
        "complete": 78, "diverged": 1, "failed": 1
    }  # fmt: skip
    assert study.runs["seed"].nunique() == 10
    assert len(study.measurements) == 2 * 78
    assert len(study.history) == 80 * made_up.EPOCHS
    assert all(page.data["n"].sum() > 0 for page in study_pages(study))


def test_a_full_study_has_every_measure_as_a_run_would_write_it(
    tmp_path: Path, made_up: Any
) -> None:
    study = open_study(made_up.STUDY, made_up.write_study(tmp_path, 30, full=True))
    plain = open_study(made_up.STUDY, made_up.write_study(tmp_path / "plain", 30))
    assert study.runs.equals(plain.runs)
    assert set(study.measurements["name"]) == set(MEASURES)
    usual = yaml.safe_load((conf_dir() / "sharpness" / "lambda_max.yaml").read_text())
    assert {name: usual[name] for name in made_up.SECTIONS} == made_up.SECTIONS
    shown = study.measurements[~study.measurements["name"].isin(FIGURES)]
    assert shown["value"].notna().all()
    found = load_arrays(study.folder, study.measurements)
    assert found.attrs["skipped"] == []
    assert set(found["name"]) == FIGURES and len(found) == 3 * 30
    pages = {page.name for page in study_pages(study)}
    assert {"trace", "fisher_trace", "empirical_sam", "sam_gap"} <= pages
