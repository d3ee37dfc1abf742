"""What a sweep has left to do."""

import numpy as np
import pytest
from helpers import compose_run, leave, point
from hypothesis import given
from hypothesis import strategies as st

from samsweep.records.identity import CellKey, cell_id, wanted_measurements
from samsweep.records.lock import FolderLock
from samsweep.records.provenance import provenance
from samsweep.records.schema import Attempt, Measurement
from samsweep.records.store import CellFolder
from samsweep.sweep.plan import Point, plan_sweep
from samsweep.sweep.plan_table import plan_table

ATTEMPT = Attempt(
    started="2026-01-01T00:00:00+00:00", provenance=provenance(device="cpu", num_threads=1)
)


def measurement(name, **result):
    return Measurement(
        name=name,
        settings={},
        result=result,
        measured="2026-01-01T00:00:00+00:00",
        provenance=ATTEMPT.provenance,
    )


def test_duplicates_are_one_cell(tmp_path):
    grid = [point(tmp_path, "opt=sgd", f"rho={rho}") for rho in (0.1, 0.2, 0.4)]
    plan = plan_sweep([*grid, point(tmp_path, "opt=sam")])
    assert [[p.overrides for p in c.points] for c in plan.cells] == [
        [("opt=sgd", "rho=0.1")],
        [("opt=sam",)],
    ]
    assert str(plan) == "2 cells of 4 points: 2 to train"


@pytest.mark.parametrize(
    ("status", "work"),
    [
        ("planned", "train"),
        ("running", "resume"),
        ("interrupted", "resume"),
        ("failed", "resume"),
        ("complete", "measure"),
        ("diverged", "nothing"),
    ],
)
def test_work_follows_from_the_status(tmp_path, status, work):
    attempts = () if status == "planned" else (ATTEMPT,)
    leave(tmp_path, status=status, attempts=attempts)
    assert plan_sweep([point(tmp_path)]).cells[0].action == work


def test_a_pruned_cell_is_left_with_a_pruner_and_resumed_without(tmp_path):
    leave(tmp_path, status="pruned", attempts=(ATTEMPT,))
    pruner = ("pruner=median", "pruner_args.n_startup_trials=1")
    left = plan_sweep([point(tmp_path, *pruner), point(tmp_path, *pruner, "opt=sgd")])
    assert [c.action for c in left.cells] == ["pruned", "train"]
    assert [c.action for c in left.to_do] == ["train"]
    assert str(left) == "2 cells: 1 to train, 1 pruned"
    assert plan_sweep([point(tmp_path)]).cells[0].action == "resume"


@pytest.mark.parametrize("status", ["planned", "running", "complete"])
def test_a_cell_that_somebody_works_on_is_left_to_them(tmp_path, status):
    folder = leave(tmp_path, status=status)
    with FolderLock(folder.path):
        plan = plan_sweep([point(tmp_path), point(tmp_path, "opt=sgd")])
    assert [c.action for c in plan.cells] == ["elsewhere", "train"]
    assert [c.action for c in plan.to_do] == ["train"]
    assert [c.folder for c in plan.elsewhere] == [folder]
    assert str(plan) == "2 cells: 1 to train, 1 running elsewhere"


def test_a_finished_cell_is_finished_whoever_looks_at_it(tmp_path):
    folder = leave(tmp_path)
    with FolderLock(folder.path):
        assert plan_sweep([point(tmp_path, "sharpness=none")]).cells[0].action == "nothing"


def test_a_complete_cell_with_its_measurements_has_nothing_left(tmp_path):
    leave(tmp_path)
    plan = plan_sweep([point(tmp_path, "sharpness=none"), point(tmp_path, "opt=sgd")])
    assert [c.action for c in plan.cells] == ["nothing", "train"]
    assert str(plan) == "2 cells: 1 to train, 1 already finished"


def test_a_second_measurement_of_a_cell_stays_in_the_plan(tmp_path):
    grid = [
        point(tmp_path, f"opt={opt}", f"sharpness={sharpness}", f"rho={rho}")
        for opt in ("sgd",)
        for sharpness in ("lambda_max", "top5", "none")
        for rho in (0.1, 0.2)
    ]
    plan = plan_sweep(grid)
    (cell,) = plan.cells
    assert cell.action == "train"
    assert [p.run.sharpness.measures for p in cell.points] == [("lambda_max",), ("top5",)]
    assert str(plan) == "1 cell of 6 points: 1 to train"


def test_of_two_measurements_only_the_missing_one_is_planned(tmp_path):
    first, second = grid = [point(tmp_path, f"sharpness={name}") for name in ("lambda_max", "top5")]
    (one,), (other,) = (wanted_measurements(each.run.sharpness) for each in grid)
    folder = leave(tmp_path, measurements={one: measurement("lambda_max")})
    (cell,) = plan_sweep(grid).cells
    assert cell.action == "measure"
    assert cell.points == (second,)
    both = {one: measurement("lambda_max"), other: measurement("top5")}
    folder.write(folder.read().model_copy(update={"measurements": both}))
    plan = plan_sweep(grid)
    assert plan.to_do == ()
    assert str(plan) == "1 cell of 2 points: 1 already finished"


@pytest.mark.parametrize(
    "result, action",
    [
        ({"loss": 1.2}, "nothing"),
        ({"loss": 1e-6}, "measure"),
        ({"loss": 1e-6, "loss_rounding": 1e-10}, "nothing"),
    ],
)
def test_what_float32_had_rounded_away_is_measured_again(tmp_path, result, action):
    asked = point(tmp_path, "sharpness=lambda_max")
    (key,) = wanted_measurements(asked.run.sharpness)
    leave(tmp_path, measurements={key: measurement("lambda_max", **result)})
    assert plan_sweep([asked]).cells[0].action == action


@pytest.fixture(scope="module")
def some_run():
    return compose_run("sharpness=none")


@given(
    grid=st.lists(
        st.tuples(
            st.sampled_from(["one", "two", "three"]),
            st.integers(0, 3),
            st.sampled_from(["none", "lambda_max"]),
        ),
        max_size=20,
    )
)
def test_keys_are_unique_in_any_plan(tmp_path_factory, some_run, grid):
    root = tmp_path_factory.getbasetemp() / "nothing here"
    points = []
    for study, seed, measure in grid:
        cell = some_run.cell.model_copy(update={"seed": seed})
        measures = () if measure == "none" else (measure,)
        sharpness = some_run.sharpness.model_copy(update={"measures": measures})
        run = some_run.model_copy(update={"cell": cell, "study": study, "sharpness": sharpness})
        folder = CellFolder(root / study / "cells" / cell_id(cell))
        points.append(Point(run=run, folder=folder))
    keys = [cell.key for cell in plan_sweep(points).cells]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {CellKey(p.run.study, cell_id(p.run.cell)) for p in points}


def test_two_data_sets_of_one_name_are_two_rows_of_the_plan(tmp_path):
    for seed in (0, 1):
        draws = np.random.default_rng(seed)
        inputs, labels = draws.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 2
        np.savez(
            tmp_path / f"{seed}.npz", x_train=inputs, y_train=labels, x_test=inputs, y_test=labels
        )
    grid = [
        point(tmp_path, "dataset=arrays", f"dataset.path={tmp_path}/{seed}.npz", "batch_size=16")
        for seed in (0, 1)
    ]
    table = plan_table(plan_sweep([*grid, point(tmp_path)]), None)
    shown = list(table.columns[0].cells)
    assert shown[:3] == [
        f"arrays ({tmp_path}/0.npz)",
        f"arrays ({tmp_path}/1.npz)",
        "digits",
    ]
