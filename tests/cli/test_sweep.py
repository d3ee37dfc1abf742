"""Sweeps as a user starts, stops, repeats and watches them."""

import json
import os
import signal
from pathlib import Path

import pytest
from helpers import QUICK, assert_same_result, point, records, run, start, wait_until

from samsweep.records.cancel_mark import CancelMark

#: Cells of some seconds, that save their state often.
LONG = ["epochs=14", "sharpness=none", "num_threads=1", "checkpoint_every_steps=3"]


def folder_of(root, *overrides):
    return point(root, *overrides).folder.path


def statuses(root):
    return [record["status"] for record in records(root)]


def epochs(root):
    return [(record["progress"] or {}).get("epoch", 0) for record in records(root)]


def holders(root):
    """Process ids of those who work on cells."""
    files = sorted(Path(root).glob("multirun/*/cells/*/lock.json"))
    return [json.loads(file.read_text())["pid"] for file in files]


def under_way(root, number=2):
    return len(holders(root)) >= number and sum(epoch >= 2 for epoch in epochs(root)) >= number


# ------------------------------------------------------------------ the plan


def test_a_dry_run_prints_the_plan_and_its_cost_and_leaves_nothing(tmp_path):
    done = run(tmp_path, "-m", "opt=sgd,sam", "seed=range(0,8)", "epochs=3", "dry_run=true")
    assert "16 cells: 16 to train." in done.stdout
    assert "8 of 0 to 7" in done.stdout
    assert "estimated from timed steps on this cpu" in done.stdout
    assert "not counting lambda_max" in done.stdout
    assert "1 cell: 1 to train." in run(tmp_path, *QUICK, "dry_run=true").stdout
    assert os.listdir(tmp_path) == []


def test_pruned_cells_are_a_normal_end_and_are_resumed_without_their_pruner(tmp_path):
    sweep = ("-m", *QUICK, "opt=sgd,sam", "hydra.launcher.workers=1")
    pruner = ("pruner=threshold", "pruner_args.lower=101")
    done = run(tmp_path, *sweep, *pruner)
    assert statuses(tmp_path) == ["pruned"] * 2 and epochs(tmp_path) == [1, 1]
    assert "pruner threshold" in done.stdout
    assert "2 cells: 2 pruned" in done.stdout  # below the table of accuracies
    again = run(tmp_path, *sweep, *pruner)
    assert "2 cells: 2 pruned." in again.stdout
    listed = run(tmp_path, "study=default", module="samsweep.status").stdout
    assert "2 cells: 2 pruned" in listed
    assert "2 cells: 2 to resume." in run(tmp_path, *sweep, "dry_run=true").stdout
    assert statuses(tmp_path) == ["pruned"] * 2
    refused = run(tmp_path, *sweep, "pruner=threshold", "seed=1", check=False)
    assert refused.returncode == 2 and "pruner=threshold" in refused.stderr
    assert len(statuses(tmp_path)) == 2


def test_a_plan_counts_what_is_zipped_and_what_is_left_out(tmp_path):
    zipped = "hydra.sweeper.zip={lr:[0.1,0.05],batch_size:[128,64]}"
    exclude = "hydra.sweeper.exclude=[{opt:sam,lr:0.05}]"
    sweep = ("-m", *QUICK, "opt=sgd,sam", zipped, exclude)
    assert "3 cells (1 point excluded): 3 to train." in run(tmp_path, *sweep, "dry_run=true").stdout
    assert os.listdir(tmp_path) == []
    run(tmp_path, *sweep)
    trained = [r["identity"] for r in records(tmp_path)]
    keys = ("lr", "batch_size")
    assert sorted((t["variant"]["name"], *(t["recipe"][k] for k in keys)) for t in trained) == [
        ("sam", 0.1, 128),
        ("sgd", 0.05, 64),
        ("sgd", 0.1, 128),
    ]


def test_a_grid_without_points_is_refused(tmp_path):
    done = run(tmp_path, "-m", "opt=sgd", "hydra.sweeper.exclude=[{opt:sgd}]", check=False)
    assert done.returncode == 2
    assert "This grid is empty: every point is excluded." in done.stderr
    wrong = ("hydra.sweeper.zip=[1]", "hydra.sweeper.exclude={opt:sgd}")
    for override, sentence in zip(wrong, ("zip=1: write keys", "write a list"), strict=True):
        done = run(tmp_path, "-m", "opt=sgd", override, check=False)
        assert sentence in done.stderr


def test_the_whole_study_is_planned_without_its_data(tmp_path):
    """On a network that a probe can time quickly."""
    done = run(tmp_path, "+experiment=empirical_sam", "dry_run=true", "model=resnet8")
    assert "13 cells of 15 points: 13 to train." in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_preset_runs_as_a_sweep_and_the_command_line_goes_before_its_grid(tmp_path):
    done = run(tmp_path, "+experiment=demo", *QUICK, "opt=sgd,sam", "rho=0.3")
    assert "2 cells of 4 points: 2 to train." in done.stdout
    assert [r["identity"]["variant"]["rho"] for r in records(tmp_path) if r["study"] == "demo"] == [
        0.3,
        None,
    ]


@pytest.mark.parametrize("launcher", [pytest.param("local", marks=pytest.mark.slow), "basic"])
def test_two_measurements_of_one_new_cell_train_it_once(tmp_path, launcher):
    """Two points that are one cell; a launcher that is not ours gets one after the other."""
    measured = ["sharpness=lambda_max,top5", "sharpness.num_examples=50", "sharpness.max_hvps=3"]
    done = run(tmp_path, "-m", "epochs=1", "opt=sgd", *measured, f"hydra/launcher={launcher}")
    assert "1 cell of 2 points: 1 to train." in done.stdout
    (record,) = records(tmp_path)
    assert len(record["attempts"]) == 1
    assert {m["name"] for m in record["measurements"].values()} == {"lambda_max", "top5"}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_while_it_plans_it_leaves_nothing(tmp_path, signum):
    """In the middle of the timed steps, which then do not go on by themselves."""
    sweep = start(tmp_path, "-m", "model=resnet50", "dataset=cifar100", "seed=0,1", "dry_run=true")
    wait_until(lambda: len(descendants(sweep.pid)) >= 3)
    processes = descendants(sweep.pid)
    os.kill(sweep.pid, signum)
    out, _ = sweep.communicate()
    assert sweep.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
    assert "Traceback" not in out
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), seconds=20)
    assert os.listdir(tmp_path) == []


def descendants(pid):
    """Process ids of everything that a process has started, while it lives."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(child)]
    return found


# ------------------------------------------------------------------ failures


def test_a_failing_cell_lets_the_others_run_and_shows_in_the_exit_status(tmp_path):
    """A folder where the history should be makes a cell fail."""
    grid = ["-m", *QUICK, "opt=sam", "rho=0.1,0.2,0.4"]
    broken = folder_of(tmp_path, *QUICK, "opt=sam", "rho=0.1") / "history.jsonl"
    broken.mkdir(parents=True)
    done = run(tmp_path, *grid, check=False)
    assert done.returncode == 1
    assert sorted(statuses(tmp_path)) == ["complete", "complete", "failed"]
    assert "failed  IsADirectoryError" in done.stdout
    assert "?? (failed)" in done.stdout
    assert "1 cell of study default not finished: 1 failed." in done.stdout
    assert "samsweep status study=default --failed" in done.stdout
    told = run(tmp_path, "--failed", module="samsweep.status").stdout
    assert "IsADirectoryError" in told and "Traceback" in told

    broken.rmdir()
    again = run(tmp_path, "--retry", module="samsweep.status").stdout
    assert "1 cell: 1 to resume." in again
    assert statuses(tmp_path) == ["complete"] * 3


@pytest.mark.slow
def test_a_failed_measurement_is_shown_and_retried(tmp_path):
    """Its weights are away when it is measured."""
    cell = [*QUICK[:1], "num_threads=1", "opt=sgd", "sharpness.num_examples=50"]
    run(tmp_path, "-m", *QUICK, "opt=sgd")
    weights = folder_of(tmp_path, *QUICK, "opt=sgd") / "weights.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    done = run(tmp_path, "-m", *cell, check=False)
    assert done.returncode == 1
    assert "complete  test" in done.stdout and "measuring failed: FileNotFoundError" in done.stdout
    assert "1 cell of study default not finished: 1 not measured." in done.stdout
    told = run(tmp_path, "--failed", module="samsweep.status").stdout
    assert "FileNotFoundError" in told and "1 unmeasured" in told
    weights.write_bytes(content)
    again = run(tmp_path, "--retry", module="samsweep.status").stdout
    assert "1 only to measure" in again
    (record,) = records(tmp_path)
    assert record["measuring_error"] is None and len(record["measurements"]) == 1


@pytest.mark.parametrize("launcher", ["local", "basic"])
def test_fail_fast_starts_nothing_after_a_failure(tmp_path, launcher):
    grid = ["-m", *QUICK, "opt=sam", "rho=0.1,0.2,0.4", f"hydra/launcher={launcher}"]
    if launcher == "local":
        grid.append("hydra.launcher.workers=1")
    (folder_of(tmp_path, *QUICK, "opt=sam", "rho=0.1") / "history.jsonl").mkdir(parents=True)
    done = run(tmp_path, *grid, "fail_fast=true", check=False)
    assert done.returncode == 1
    assert sorted(statuses(tmp_path)) == ["failed", "planned", "planned"]


@pytest.fixture
def started(tmp_path):
    """A sweep of four longer cells with two of them under way; killed in the end if need be."""
    opts = "opt=sgd,sam,samdirection,sammagnitude"
    sweep = start(tmp_path, "-m", *LONG, opts, "rho=0.1", "hydra.launcher.workers=2")
    try:
        wait_until(lambda: under_way(tmp_path))
        yield sweep
    finally:
        if sweep.poll() is None:
            os.killpg(sweep.pid, signal.SIGKILL)
        sweep.wait()
        sweep.stdout.close()


@pytest.mark.slow
def test_a_cell_that_is_killed_leaves_the_others_running(tmp_path, started):
    """What an out-of-memory kill looks like."""
    killed = holders(tmp_path)[0]
    os.kill(killed, signal.SIGKILL)
    out, _ = started.communicate()
    assert started.returncode == 1
    assert sorted(statuses(tmp_path)) == ["complete"] * 3 + ["failed"]
    assert "killed (SIGKILL): out of memory?" in out
    run(tmp_path, "--retry", module="samsweep.status")
    assert statuses(tmp_path) == ["complete"] * 4


# ------------------------------------------------------------------ stopping and resuming


@pytest.mark.parametrize(
    ("signum", "everyone"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
)
def test_a_signal_stops_a_sweep_with_checkpoints(tmp_path, started, signum, everyone):
    """To the whole group, as a terminal sends it, or to the cells' processes too, as Slurm does."""
    for pid in holders(tmp_path) * 2 if everyone else ():
        os.kill(pid, signum)
    os.killpg(started.pid, signum)
    out, _ = started.communicate()
    assert started.returncode == 128 + signum
    found = records(tmp_path)
    assert sorted(r["status"] for r in found) == ["interrupted"] * 2 + ["planned"] * 2
    for record in found:
        checkpoint = tmp_path / "multirun/default/cells" / record["cell_id"] / "checkpoint.pt"
        assert checkpoint.exists() == (record["status"] == "interrupted")
        assert record["status"] == "planned" or record["attempts"][0]["end_step"] > 0
    assert "Stopping: each cell saves its state" in out
    assert "2 interrupted" in out and "2 planned" in out
    assert holders(tmp_path) == []


def test_when_the_sweep_is_killed_its_cells_save_their_states_and_stop(tmp_path, started):
    processes = holders(tmp_path)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    wait_until(lambda: holders(tmp_path) == [])
    assert sorted(statuses(tmp_path)) == ["interrupted"] * 2 + ["planned"] * 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def test_cancel_and_retry(tmp_path, started):
    told = run(tmp_path, "--cancel", module="samsweep.status").stdout
    assert f"stopping process {started.pid} on" in told
    out, _ = started.communicate()
    assert started.returncode == 128 + signal.SIGTERM
    assert "Nothing runs" in run(tmp_path, "--cancel", module="samsweep.status").stdout
    told = run(tmp_path, "--retry", module="samsweep.status").stdout
    assert "4 cells: 2 to train, 2 to resume." in told
    assert "2 cells at a time, 1 thread each." in told
    assert statuses(tmp_path) == ["complete"] * 4
    assert "Nothing has failed" in run(tmp_path, "--retry", module="samsweep.status").stdout


@pytest.mark.slow
def test_retry_skips_broken_manifests_and_names_what_it_cannot_retry(tmp_path):
    """A single run, which no launch knows of, beside a failed cell of a sweep."""
    sweep = folder_of(tmp_path, *QUICK, "opt=sam", "rho=0.1") / "history.jsonl"
    single = folder_of(tmp_path, *QUICK, "opt=sgd") / "history.jsonl"
    for folder in (sweep, single):
        folder.mkdir(parents=True)
    run(tmp_path, "-m", *QUICK, "opt=sam", "rho=0.1", check=False)
    run(tmp_path, *QUICK, "opt=sgd", check=False)
    broken = tmp_path / "multirun/default/launches/29990101T000000Z/manifest.json"
    broken.parent.mkdir()
    broken.write_text("{")
    for folder in (sweep, single):
        folder.rmdir()
    done = run(tmp_path, "--retry", module="samsweep.status", check=False)
    assert done.returncode == 1
    assert "python -m samsweep.run epochs=2" in done.stderr
    assert "skipped" in done.stderr
    assert sorted(statuses(tmp_path)) == ["complete", "failed"]


@pytest.mark.slow
def test_cancel_reaches_the_processes_of_other_launchers(tmp_path):
    grid = [*LONG, "epochs=60", "opt=sgd,sam", "rho=0.1"]
    sweep = start(tmp_path, "-m", *grid, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    wait_until(lambda: under_way(tmp_path))
    workers = holders(tmp_path)
    run(tmp_path, "--cancel", module="samsweep.status")
    sweep.communicate()
    # joblib kills its other processes when one ends, so that a cell may be left without a word.
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert set(statuses(tmp_path)) <= {"interrupted", "running"}


@pytest.mark.slow
def test_a_single_cell_is_cancelled_and_the_others_go_on(tmp_path, started):
    cell = next(r["cell_id"] for r in records(tmp_path) if r["status"] == "running")
    told = run(tmp_path, "--cancel", cell, module="samsweep.status").stdout
    assert f"{cell}: stopping process" in told
    started.communicate()
    assert started.returncode == 1
    assert {r["cell_id"]: r["status"] for r in records(tmp_path)}[cell] == "interrupted"
    assert sorted(statuses(tmp_path)) == ["complete"] * 3 + ["interrupted"]


def test_marks_in_the_folders_cancel_from_any_machine(tmp_path, started):
    """A running cell stops at a step, a waiting one is left out, and a new launch takes both up."""
    by_status = {r["status"]: r["cell_id"] for r in records(tmp_path)}
    cells = tmp_path / "multirun/default/cells"
    for status in ("running", "planned"):
        CancelMark(cells / by_status[status]).set()
    started.communicate()
    assert started.returncode == 1
    found = {r["cell_id"]: r for r in records(tmp_path)}
    assert sorted(statuses(tmp_path)) == ["complete"] * 2 + ["interrupted"] * 2
    assert found[by_status["running"]]["attempts"][0]["end_step"] > 0
    assert found[by_status["planned"]]["attempts"] == []
    assert "Nothing runs" in run(tmp_path, "--cancel", module="samsweep.status").stdout
    run(tmp_path, "--retry", module="samsweep.status")
    assert statuses(tmp_path) == ["complete"] * 4


@pytest.mark.slow
def test_alone_in_the_pool_and_resumed_give_the_same_bits(tmp_path):
    """At one thread each: beside another cell, after an interruption, and in a process alone."""
    cell = ["opt=samdirection", "rho=0.1", "epochs=16", "sharpness=none", "num_threads=1"]
    for name in ("alone", "pool", "resumed"):
        (tmp_path / name).mkdir()
    run(tmp_path / "alone", *cell)
    run(tmp_path / "pool", "-m", *cell, "seed=0,1", "hydra.launcher.workers=2")
    sweep = start(tmp_path / "resumed", "-m", *cell, "seed=0,1", "hydra.launcher.workers=2")
    wait_until(lambda: under_way(tmp_path / "resumed"))
    os.kill(sweep.pid, signal.SIGTERM)
    sweep.communicate()
    assert statuses(tmp_path / "resumed") == ["interrupted"] * 2
    run(tmp_path / "resumed", "-m", *cell, "seed=0,1", "hydra.launcher.workers=1")
    reference = folder_of(tmp_path / "alone", *cell)
    for name in ("pool", "resumed"):
        assert_same_result(folder_of(tmp_path / name, *cell), reference)
        record = json.loads((folder_of(tmp_path / name, *cell) / "record.json").read_text())
        assert {a["provenance"]["num_threads"] for a in record["attempts"]} == {1}


# ------------------------------------------------------------------ two at once


@pytest.mark.slow
def test_what_failed_elsewhere_is_not_tried_twice(tmp_path):
    """Two sweeps of one cell that cannot be trained: each cell has one attempt."""
    (folder_of(tmp_path, *QUICK, "opt=sgd") / "history.jsonl").mkdir(parents=True)
    sweeps = [start(tmp_path, "-m", *QUICK, "opt=sgd,sam", "rho=0.1") for _ in range(2)]
    outputs = [sweep.communicate()[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [1, 1], outputs
    assert {r["status"]: len(r["attempts"]) for r in records(tmp_path)} == {
        "complete": 1,
        "failed": 1,
    }


@pytest.mark.slow
def test_two_sweeps_at_once_train_each_cell_once(tmp_path):
    grid = ["-m", *QUICK, "opt=sgd,sam,samdirection", "rho=0.1"]
    sweeps = [start(tmp_path, *grid) for _ in range(2)]
    outputs = [sweep.communicate()[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    assert [(r["status"], len(r["attempts"])) for r in records(tmp_path)] == [("complete", 1)] * 3
    assert all("3 cells: 3 complete" in out for out in outputs)


def test_a_sweep_resumes_what_a_killed_one_leaves(tmp_path):
    """The second waits for the first one's cell, which is then killed with all its processes."""
    grid = ["-m", *LONG, "epochs=40", "opt=sgd,sam", "rho=0.1", "hydra.launcher.workers=1"]
    first = start(tmp_path, *grid)
    wait_until(lambda: under_way(tmp_path, 1))
    second = start(tmp_path, *grid)
    (worker,) = holders(tmp_path)
    wait_until(lambda: len(holders(tmp_path)) == 2)
    for pid in (first.pid, worker):
        os.kill(pid, signal.SIGKILL)
    first.communicate()
    out, _ = second.communicate()
    assert second.returncode == 0, out
    assert statuses(tmp_path) == ["complete"] * 2
    assert "resumed here" in out
    assert sorted(len(r["attempts"]) for r in records(tmp_path)) == [1, 2]


# ------------------------------------------------------------------ other launchers and sweepers


@pytest.mark.slow
def test_joblibs_launcher_runs_the_plan(tmp_path):
    grid = ["-m", *QUICK, "opt=sgd,sam", "rho=0.1", "hydra/launcher=joblib"]
    done = run(tmp_path, *grid, "hydra.launcher.n_jobs=2")
    assert "2 cells: 2 to train." in done.stdout
    assert statuses(tmp_path) == ["complete"] * 2
    assert "2 already finished" in run(tmp_path, *grid).stdout


@pytest.mark.slow
def test_optuna_optimizes_rho_on_the_pool(tmp_path):
    done = run(
        tmp_path,
        "-m",
        *QUICK,
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.direction=maximize",
        "hydra/sweeper/sampler=random",
        "hydra.sweeper.sampler.seed=1",
        "rho=interval(0.05,0.4)",
    )
    found = records(tmp_path)
    assert [r["status"] for r in found] == ["complete"] * 4
    best = max(found, key=lambda r: r["metrics"]["val_accuracy"])
    results = Path(tmp_path, "multirun/optimization_results.yaml").read_text()
    assert f"best_value: {best['metrics']['val_accuracy']}" in results
    # An identity has twelve digits of it.
    assert f"rho: {str(best['identity']['variant']['rho'])[:11]}" in results
    assert "2 cells at a time" in done.stdout
