"""What a sweep has left to do."""

from pathlib import Path

import pytest
from helpers import compose_run

from samsweep.launch.plan import plan_sweep
from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder
from samsweep.training.cell import planned_record


def point(root, *overrides):
    run = compose_run(*overrides)
    return run, overrides, root / cell_id(run.cell)


def leave(root, status, *overrides, **changes):
    run, _, path = point(root, *overrides)
    path.mkdir(parents=True)
    folder = CellFolder(Path(path))
    folder.write(planned_record(run).model_copy(update={"status": status, **changes}))


def test_duplicates_are_one_cell(tmp_path):
    grid = [point(tmp_path, "opt=sgd", f"rho={rho}") for rho in (0.1, 0.2, 0.4)]
    plan = plan_sweep([*grid, point(tmp_path, "opt=sam")])
    assert [c.overrides for c in plan.cells] == [("opt=sgd", "rho=0.1"), ("opt=sam",)]
    assert str(plan) == "2 cells of 4 points: 2 to train"


@pytest.mark.parametrize(
    ("status", "work"),
    [
        ("planned", "train"),
        ("running", "train"),
        ("interrupted", "train"),
        ("failed", "train"),
        ("complete", "measure"),
        ("diverged", "nothing"),
    ],
)
def test_work_follows_from_the_status(tmp_path, status, work):
    leave(tmp_path, status)
    assert plan_sweep([point(tmp_path)]).cells[0].work == work


def test_a_complete_cell_with_its_measurements_has_nothing_left(tmp_path):
    leave(tmp_path, "complete")
    plan = plan_sweep([point(tmp_path, "sharpness=none"), point(tmp_path, "opt=sgd")])
    assert [c.work for c in plan.cells] == ["nothing", "train"]
    assert [c.overrides for c in plan.to_do] == [("opt=sgd",)]
    assert str(plan) == "2 cells: 1 to train, 1 already finished"


def test_a_study_of_another_name_is_another_folder(tmp_path):
    plan = plan_sweep([point(tmp_path / s, f"study={s}") for s in ("one", "two")])
    assert len(plan.cells) == 2
