"""A study that has been read, or that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from multirun_analysis.study import StudyError, open_study
from samsweep.config import ConfigError

from .conftest import Study, cell, variant


def test_a_study_has_its_frames(small_grid: Study, root: Path) -> None:
    study = open_study("default", root)
    assert (study.name, study.folder) == ("default", small_grid.folder)
    assert len(study.runs) == 9 and len(study.measurements) == 5
    assert study.history.empty and study.problems == ()


def test_problems_of_records_and_histories_come_together(study: Study, root: Path) -> None:
    record = study.add(cell(variant("sam", 0.1)), 90.0)
    (study.cell_folder(record) / "history.jsonl").symlink_to("/etc/passwd")
    study.plant("broken")
    problems = open_study("default", root).problems
    assert [Path(problem.file).name for problem in problems] == ["record.json", "history.jsonl"]


def test_no_study_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no study in .*: train some cells"):
        open_study("default", tmp_path / "multirun")


@pytest.mark.parametrize("name", ["defalt", "", "..", "../default", "/tmp", "default/cells"])
def test_a_study_is_a_name_not_a_path(small_grid: Study, root: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"is unknown: (did you mean .*)?choose one of default"):
        open_study(name, root)


def test_only_unreadable_records(study: Study, root: Path) -> None:
    study.plant("broken")
    with pytest.raises(StudyError, match=r"that can be read \(1 cannot\)"):
        open_study("default", root)
