"""The studies that ``benchmarks/made_up.py`` makes up are such as runs write."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from multirun_analysis.study import open_study
from multirun_analysis.tables import study_pages

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="the wheel has no benchmarks")
def test_made_up_studies_can_be_read(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("made_up", ROOT / "benchmarks" / "made_up.py")
    assert spec is not None and spec.loader is not None
    made_up = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made_up)
    study = open_study(made_up.STUDY, made_up.write_study(tmp_path, 80))
    assert len(study.runs) == 80 and study.problems == ()
    assert study.runs["status"].value_counts().to_dict() == {
        "complete": 78, "diverged": 1, "failed": 1
    }  # fmt: skip
    assert study.runs["seed"].nunique() == 10
    assert len(study.measurements) == 2 * 78
    assert len(study.history) == 80 * made_up.EPOCHS
    assert all(page.data["n"].sum() > 0 for page in study_pages(study))
