"""A launch on disk."""

import json
import os

import pytest
from helpers import point

from samsweep.records.lock import FolderLock
from samsweep.records.store import RecordError
from samsweep.sweep.manifest import LauncherSettings, launch_folders, launched
from samsweep.sweep.plan import plan_sweep

LOCAL = LauncherSettings(name="local", settings={"workers": 2, "num_threads": 1})


def plan(root, *grid):
    return plan_sweep(point(root, *overrides) for overrides in grid)


def test_a_launch_registers_its_cells_and_says_how_each_is_set(tmp_path):
    found = plan(
        tmp_path,
        ("opt=sam", "sharpness=lambda_max", "device=cpu"),
        ("opt=sam", "sharpness=top5"),
        ("opt=sgd",),
    )
    study = tmp_path / "multirun/default"
    with launched(found.cells, LOCAL):
        (launch,) = launch_folders(study)
        assert FolderLock(launch.path).alive
        assert FolderLock(launch.path).holder().pid == os.getpid()
        manifest = launch.read()
    assert not FolderLock(launch.path).alive
    assert manifest.launcher == LOCAL
    assert {name: cell.runs for name, cell in manifest.cells.items()} == {
        cell.key.cell_id: tuple(point.run for point in cell.points) for cell in found.cells
    }
    for cell in found.cells:
        record = cell.folder.read()
        assert record.status == "planned"
        assert record.identity == cell.run.cell
        assert cell.folder.config_file.exists()
        assert not (cell.folder.path / "lock.json").exists()


def test_a_record_that_is_there_is_left_as_it_is(tmp_path):
    found = plan(tmp_path, ("opt=sam",))
    (cell,) = found.cells
    with launched(found.cells, LOCAL):
        cell.folder.write(cell.folder.read().model_copy(update={"status": "interrupted"}))
    before = cell.folder.record_file.read_bytes()
    with launched(found.cells, LOCAL):
        assert cell.folder.record_file.read_bytes() == before
    assert len(launch_folders(tmp_path / "multirun/default")) == 2


def test_a_cell_that_somebody_just_starts_is_left_to_them(tmp_path):
    found = plan(tmp_path, ("opt=sam",))
    (cell,) = found.cells
    cell.folder.path.mkdir(parents=True)
    with FolderLock(cell.folder.path), launched(found.cells, LOCAL):
        assert cell.folder.read() is None


def test_each_study_has_its_own_manifest(tmp_path):
    """The two cells have the same id."""
    found = plan(tmp_path, ("study=one",), ("study=two",))
    with launched(found.cells, LOCAL) as folders:
        for folder in folders:
            folder.record_jobs({cell.key: f"of {cell.key.study}" for cell in found.cells})
    for cell in found.cells:
        study = cell.key.study
        (launch,) = launch_folders(tmp_path / "multirun" / study)
        assert [run.study for c in launch.read().cells.values() for run in c.runs] == [study]
        assert launch.cells() == {cell.key}
        assert launch.jobs() == {cell.key: f"of {study}"}


def test_a_manifest_that_cannot_be_read_is_told(tmp_path):
    found = plan(tmp_path, ("opt=sam",))
    with launched(found.cells, LOCAL):
        (launch,) = launch_folders(tmp_path / "multirun/default")
    content = json.loads(launch.manifest_file.read_text())
    launch.manifest_file.write_text(json.dumps(content | {"schema_version": 99}))
    with pytest.raises(RecordError, match="manifest.json"):
        launch.read()
