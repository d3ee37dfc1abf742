"""Preempted, out of time, requeued: a cell goes on where it was, to the same bits."""

import subprocess
import sys

import pytest
from helpers import assert_same_result, records, run, wait_until
from slurm_cluster import (
    ENDLESS,
    LONG,
    ROOT,
    SLURM,
    end,
    folder_of,
    jobs,
    launch,
    statuses,
    under_way,
)
from wandb_tools import inspect, of_kind

PACKED = ["hydra.launcher.cells_per_job=2", "hydra.launcher.workers=2"]


def assert_saved_and_resumed(root, undisturbed, seeds=(0, 1)):
    """Each cell was stopped once, saved its state then, and ended as if nothing had been."""
    for seed in seeds:
        overrides = [*LONG, "opt=sam", f"seed={seed}"]
        assert_same_result(folder_of(root, *overrides), folder_of(undisturbed, *overrides))
    for record in records(root):
        first, second = record["attempts"]
        # An orderly end, and not a step lost.
        assert first["ended"] is not None
        assert second["start_step"] == first["end_step"] > 0


@pytest.mark.parametrize("packed", [pytest.param(False, marks=pytest.mark.slow), True])
def test_preempted_by_an_urgent_job_and_resumed_to_the_same_bits(
    cluster, tmp_path, undisturbed, packed
):
    pack = PACKED if packed else []
    sweep = launch(
        tmp_path, *LONG, *pack, "opt=sam", "seed=0,1", "hydra.launcher.cpus_per_task=4", cells=2
    )
    cluster.urge()
    end(sweep)
    assert_saved_and_resumed(tmp_path, undisturbed)


def test_requeued_by_hand(cluster, tmp_path, undisturbed):
    sweep = launch(tmp_path, *LONG, "opt=sam", "seed=0", cells=1)
    (job_id,) = jobs(tmp_path).values()
    cluster.run("scontrol", "requeue", job_id)
    end(sweep)
    assert_saved_and_resumed(tmp_path, undisturbed, seeds=(0,))
    assert cluster.state(job_id)["Restarts"] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_out_of_time_and_requeued(cluster, tmp_path, packed):
    """A limit of a minute, with a word beforehand; once more, and then no more."""
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20"]
    pack = PACKED if packed else []
    grid = [*ENDLESS, *limit, *pack, "hydra.launcher.max_num_timeout=1", "opt=sgd", "seed=0,1"]
    out = end(launch(tmp_path, *grid), 1)
    assert statuses(tmp_path) == ["interrupted"] * 2
    for record in records(tmp_path):
        # With a limit this short the word may come before the second attempt has begun.
        first, *second = record["attempts"]
        assert [attempt["start_step"] for attempt in second] == [first["end_step"]] * len(second)
        assert first["end_step"] > 0
        assert "raise timeout_min or max_num_timeout" in record["error"]
    for job_id in set(jobs(tmp_path).values()):
        assert cluster.state(job_id)["JobState"] == "FAILED"
        assert cluster.state(job_id)["Restarts"] == "1"
    assert "2 interrupted" in out


@pytest.mark.slow
def test_a_wandb_run_goes_on_after_a_preemption(cluster, tmp_path):
    """The offline segments of one run together have each epoch once.

    One or two: what W&B's process had not written when the preemption killed it is told again.
    """
    sweep = launch(tmp_path, *LONG, "opt=sam", "seed=0", "tracking=wandb", cells=1)
    cluster.urge()
    end(sweep)
    (record,) = records(tmp_path)
    segments = sorted(tmp_path.glob("**/offline-run-*/*.wandb"))
    assert len(record["attempts"]) == 2
    assert {file.name for file in segments} == {f"run-{record['cell_id']}.wandb"}
    steps = [line["step"]["num"] for file in segments for line in of_kind(inspect(file), "history")]
    assert steps == list(range(1, record["progress"]["num_epochs"] + 1))


# ------------------------------------------------------------------ batch scripts of one's own


def batch_script(cluster, tmp_path, *grid):
    """Submit the script of docs/slurm.md with other options; returns the id of its job."""
    script = (ROOT / "docs/sweep.sbatch").read_text()
    command = f"{sys.executable} -m samsweep.run -m {' '.join(grid)}"
    assert "python -m samsweep.run -m +experiment=demo" in script
    script = script.replace("python -m samsweep.run -m +experiment=demo", command)
    file = tmp_path / "sweep.sbatch"
    file.write_text(script)
    options = ["--parsable", "-D", str(tmp_path), "-p", "batch", "-c", "4", "--gres=none"]
    return options, file


def submit(cluster, options, file, *more):
    done = subprocess.run(
        ["sbatch", *options, *more, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_a_batch_script_of_ones_own_is_preempted(cluster, tmp_path, undisturbed):
    grid = [*LONG, "num_threads=1", "hydra.launcher.workers=2", "opt=sam", "seed=0,1"]
    options, file = batch_script(cluster, tmp_path, *grid)
    job_id = submit(cluster, options, file)
    wait_until(lambda: under_way(tmp_path, 2))
    cluster.urge()
    wait_until(lambda: cluster.state(job_id)["JobState"] == "COMPLETED", seconds=240)
    assert statuses(tmp_path) == ["complete"] * 2
    assert_saved_and_resumed(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_batch_script_of_ones_own_runs_out_of_time(cluster, tmp_path):
    grid = [*ENDLESS, "num_threads=1", "hydra.launcher.workers=2", "opt=sgd", "seed=0,1"]
    options, file = batch_script(cluster, tmp_path, *grid)
    job_id = submit(cluster, options, file, "--time=1", "--signal=USR2@20")
    wait_until(lambda: cluster.state(job_id)["Restarts"] == "1", seconds=240)
    wait_until(lambda: all(len(r["attempts"]) == 2 for r in records(tmp_path)), seconds=120)
    for record in records(tmp_path):
        first, second = record["attempts"]
        assert second["start_step"] in (None, first["end_step"])
    cluster.run("scancel", job_id)
    wait_until(lambda: not cluster.queue())
    assert statuses(tmp_path) == ["interrupted"] * 2


def test_a_cell_of_its_own_in_a_batch_script(cluster, tmp_path):
    """Without -m: one cell, no pool; the signal that comes twice does not kill it."""
    command = f"srun {sys.executable} -m samsweep.run {' '.join(LONG)} num_threads=1 opt=sam seed=0"
    options = ["--parsable", "-D", str(tmp_path), "-c", "4", "--wrap", command]
    job_id = cluster.run("sbatch", *options).strip()
    wait_until(lambda: under_way(tmp_path, 1))
    cluster.run("scancel", job_id)
    wait_until(lambda: statuses(tmp_path) == ["interrupted"])
    (attempt,) = records(tmp_path)[0]["attempts"]
    assert attempt["end_step"] > 0
    run(tmp_path, *LONG, "num_threads=1", "opt=sam", "seed=0")
    assert records(tmp_path)[0]["attempts"][1]["start_step"] == attempt["end_step"]


@pytest.mark.slow
def test_nothing_of_it_needs_the_launcher(cluster, tmp_path):
    """What a batch script began, the launcher ends."""
    grid = [*LONG, "opt=sgd", "seed=0"]
    command = f"srun {sys.executable} -m samsweep.run -m {' '.join(grid)} num_threads=1"
    job_id = cluster.run("sbatch", "--parsable", "-D", str(tmp_path), "--wrap", command).strip()
    wait_until(lambda: under_way(tmp_path, 1))
    cluster.run("scancel", job_id)
    wait_until(lambda: statuses(tmp_path) == ["interrupted"])
    run(tmp_path, *SLURM, *grid)
    assert statuses(tmp_path) == ["complete"]
