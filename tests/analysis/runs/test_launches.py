"""The recorded commands of the launches whose cells are unfinished."""

from __future__ import annotations

from pathlib import Path

from multirun_analysis import load_runs
from multirun_analysis.runs.launches import resume_commands
from multirun_analysis.runs.reading import Skipped

from ..conftest import Study, cell, variant


def commands(study: Study) -> tuple[list[str], list[Skipped]]:
    """The commands, and what could not be read."""
    skipped: list[Skipped] = []
    return resume_commands(study.folder, load_runs(study.folder), skipped), skipped


def test_only_launches_with_unfinished_cells_are_named_latest_first(study: Study) -> None:
    done = study.add(cell(variant("sgd")), 90.0).cell_id
    lost = study.add(cell(variant("sam", 0.1)), status="diverged").cell_id
    waiting = study.add(cell(variant("sam", 0.2))).cell_id
    quoted = "python -m samsweep.run -m opt=sam 'rho=range(1,3)'"
    study.launch("1", done, lost, command="python -m samsweep.run -m opt=adam")
    study.launch("2", done, waiting, command=quoted)
    study.launch("3", waiting)
    study.launch("4", waiting)
    found, skipped = commands(study)
    assert found == ["python -m samsweep.run -m opt=sgd", quoted] and not skipped


def test_a_finished_study_has_no_commands(study: Study) -> None:
    study.launch("1", study.add(cell(variant("sgd")), 90.0).cell_id)
    assert commands(study) == ([], [])


def test_manifests_are_read_with_caution(study: Study, tmp_path: Path) -> None:
    waiting = study.add(cell(variant("sgd"))).cell_id
    study.launch("1", waiting).write_text("{")
    study.launch("2", waiting, schema_version=99)
    elsewhere = study.launch("3", waiting).rename(tmp_path / "elsewhere.json")
    (study.folder / "launches/3/manifest.json").symlink_to(elsewhere)
    study.launch("4", waiting, command="python opt=\x1b[2J")
    found, skipped = commands(study)
    assert found == ["python opt=\\x1b[2J"]
    assert len(skipped) == 3 and "link" in skipped[0].reason
