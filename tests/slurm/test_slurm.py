"""Sweeps on a real Slurm: arrays, packs, preemption, timeouts, faults."""

import json
import os
import signal
from pathlib import Path

import pytest
from helpers import assert_same_result, compose_run, records, run, start, wait_until

from samsweep.records.identity import cell_id

pytestmark = [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]

SLURM = ["-m", "hydra/launcher=slurm", "hydra.launcher.timeout_min=20", "num_threads=1"]
SHORT = ["epochs=2", "sharpness=none"]
LONG = ["epochs=25", "sharpness=none", "checkpoint_every_steps=5"]


def folder_of(root, *overrides):
    return root / "multirun/default/cells" / cell_id(compose_run(*overrides).cell)


def statuses(root):
    return sorted(record["status"] for record in records(root))


def jobs(root):
    """Job ids by cell, of the latest launch."""
    *_, manifest = sorted(Path(root).glob("multirun/*/launches/*/manifest.json"))
    return {n: c["job_id"] for n, c in json.loads(manifest.read_text())["cells"].items()}


def under_way(root, number):
    found = [(r["progress"] or {}).get("epoch", 0) for r in records(root)]
    running = [r for r in records(root) if r["status"] == "running"]
    return len(running) >= number and sum(epoch >= 1 for epoch in found) >= number


def status(root, *arguments):
    return run(root, *arguments, module="samsweep.status").stdout


# ------------------------------------------------------------------ arrays and packs


def test_a_grid_is_an_array_of_jobs(cluster, tmp_path):
    done = run(tmp_path, *SLURM, *SHORT, "opt=sam", "rho=0.1,0.2,0.4", "seed=range(0,4)")
    assert statuses(tmp_path) == ["complete"] * 12
    found = jobs(tmp_path)
    array = {job_id.partition("_")[0] for job_id in found.values()}
    assert len(array) == 1 and len(set(found.values())) == 12
    assert "Submitted 12 jobs:" in done.stdout
    assert {r["attempts"][0]["provenance"]["job_id"] for r in records(tmp_path)} != {None}
    assert (
        "12 already finished"
        in run(tmp_path, *SLURM, *SHORT, "opt=sam", "seed=range(0,4)", "rho=0.1,0.2,0.4").stdout
    )


def test_cells_share_jobs(cluster, tmp_path):
    packed = ["hydra.launcher.cells_per_job=4", "hydra.launcher.workers=2"]
    run(tmp_path, *SLURM, *SHORT, *packed, "opt=sam", "rho=0.1", "seed=range(0,6)")
    assert statuses(tmp_path) == ["complete"] * 6
    found = list(jobs(tmp_path).values())
    assert sorted(found.count(job_id) for job_id in set(found)) == [2, 4]


def test_jobs_get_the_gpus_that_they_ask_for(cluster, tmp_path):
    """Stand-ins: two jobs at a time, each sees one of the two."""
    gpu = ["hydra.launcher.gres=gpu:1", "hydra.launcher.setup=['echo GPU $CUDA_VISIBLE_DEVICES']"]
    run(tmp_path, *SLURM, *LONG, *gpu, "device=cpu", "opt=sgd", "seed=0,1")
    logs = [f.read_text() for f in tmp_path.glob("multirun/default/launches/*/jobs/*_log.out")]
    assert sorted(log.splitlines()[0] for log in logs) == ["GPU 0", "GPU 1"]


def test_no_more_jobs_at_a_time_than_the_whole_sweep_may_have(cluster, tmp_path):
    """Two models with resources of their own are two arrays, which share the limit."""
    per_model = "+hydra.launcher.per_model.resnet20.timeout_min=30"
    limit = ["hydra.launcher.max_parallel=2", per_model]
    sweep = start(
        tmp_path, *SLURM, *SHORT, *limit, "opt=sgd", "model=resnet8,resnet20", "seed=0,1,2"
    )
    most = 0
    while sweep.poll() is None:
        most = max(most, list(cluster.queue().values()).count("RUNNING"))
    sweep.communicate()
    assert sweep.returncode == 0
    assert most == 2
    assert statuses(tmp_path) == ["complete"] * 6


def test_a_dry_run_shows_the_batch_scripts(cluster, tmp_path):
    done = run(
        tmp_path,
        *SLURM,
        "hydra.launcher.partition=urgent",
        "+hydra.launcher.additional_parameters.mail-type=END",
        "seed=0,1",
        "dry_run=true",
    )
    assert "#SBATCH --array=0-1%2" in done.stdout or "#SBATCH --partition=urgent" in done.stdout
    assert "#SBATCH --mail-type=END" in done.stdout
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------ preemption and time limits


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The same two cells, run alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for seed in (0, 1):
        run(folder, *LONG, "num_threads=1", "opt=sam", f"seed={seed}")
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_preempted_by_an_urgent_job_and_resumed_to_the_same_bits(
    cluster, tmp_path, undisturbed, packed
):
    pack = ["hydra.launcher.cells_per_job=2", "hydra.launcher.workers=2"] if packed else []
    sweep = start(
        tmp_path, *SLURM, *LONG, *pack, "opt=sam", "seed=0,1", "hydra.launcher.cpus_per_task=4"
    )
    wait_until(lambda: under_way(tmp_path, 2))
    cluster.run("sbatch", "-p", "urgent", "-c", "8", "-o", "/dev/null", "--wrap", "sleep 5")
    out, _ = sweep.communicate()
    assert sweep.returncode == 0, out
    for seed in (0, 1):
        overrides = [*LONG, "opt=sam", f"seed={seed}"]
        assert_same_result(folder_of(tmp_path, *overrides), folder_of(undisturbed, *overrides))
    assert {len(r["attempts"]) for r in records(tmp_path)} == {2}
    assert {r["attempts"][0]["ended"] is not None for r in records(tmp_path)} == {True}


# ------------------------------------------------------------------ faults


def test_a_failing_cell_fails_its_job(cluster, tmp_path):
    (folder_of(tmp_path, *SHORT, "opt=sgd", "seed=0") / "history.jsonl").mkdir(parents=True)
    done = run(tmp_path, *SLURM, *SHORT, "opt=sgd", "seed=0,1", check=False)
    assert done.returncode == 1
    assert statuses(tmp_path) == ["complete", "failed"]
    found = jobs(tmp_path)
    states = {r["status"]: cluster.state(found[r["cell_id"]]) for r in records(tmp_path)}
    assert states["failed"]["JobState"] == "FAILED"
    assert states["complete"]["JobState"] == "COMPLETED"
    assert "IsADirectoryError" in status(tmp_path, "--failed")


def test_detached_watched_and_cancelled_from_elsewhere(cluster, tmp_path):
    done = run(
        tmp_path,
        *SLURM,
        *LONG,
        "opt=sgd",
        "seed=range(0,3)",
        "detach=true",
        "hydra.launcher.max_parallel=1",
    )
    assert "--watch" in done.stdout and "--cancel" in done.stdout
    wait_until(lambda: under_way(tmp_path, 1))
    told = status(tmp_path)
    assert "queued" in told and "running" in told and "job " in told
    assert "3 jobs of default cancelled" in status(tmp_path, "--cancel")
    wait_until(lambda: not cluster.queue())
    assert statuses(tmp_path) == ["interrupted", "planned", "planned"]
    again = status(tmp_path, "--retry")
    assert "Submitted 3 jobs" in again
    assert statuses(tmp_path) == ["complete"] * 3


def test_one_cell_is_cancelled_from_outside_and_the_others_finish(cluster, tmp_path):
    grid = [*SLURM, *LONG, "opt=sgd", "seed=0,1"]
    sweep = start(tmp_path, *grid)
    wait_until(lambda: under_way(tmp_path, 2))
    cancelled, other = jobs(tmp_path).items()
    cluster.run("scancel", cancelled[1])
    sweep.communicate()
    assert sweep.returncode == 1
    found = {r["cell_id"]: r["status"] for r in records(tmp_path)}
    assert found == {cancelled[0]: "interrupted", other[0]: "complete"}
    run(tmp_path, *grid)
    assert statuses(tmp_path) == ["complete"] * 2


def test_a_killed_worker_is_told_and_the_others_finish(cluster, tmp_path):
    grid = [*SLURM, *LONG, "opt=sgd", "seed=0,1"]
    sweep = start(tmp_path, *grid)
    wait_until(lambda: under_way(tmp_path, 2))
    lock = next(tmp_path.glob("multirun/default/cells/*/lock.json"))
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
    sweep.communicate()
    assert sweep.returncode == 1
    assert statuses(tmp_path) == ["complete", "failed"]
    run(tmp_path, *grid)
    assert statuses(tmp_path) == ["complete"] * 2


def test_ctrl_c_detaches(cluster, tmp_path):
    sweep = start(tmp_path, *SLURM, *LONG, "opt=sgd", "seed=0,1")
    wait_until(lambda: under_way(tmp_path, 1))
    os.killpg(sweep.pid, signal.SIGINT)
    out, _ = sweep.communicate()
    assert sweep.returncode == 130
    assert "Detached: the jobs go on." in out
    wait_until(lambda: statuses(tmp_path) == ["complete"] * 2)


def test_the_same_sweep_twice_at_once(cluster, tmp_path):
    grid = [*SLURM, *LONG, "opt=sgd", "seed=0,1,2", "hydra.launcher.max_parallel=1"]
    first = start(tmp_path, *grid)
    wait_until(lambda: under_way(tmp_path, 1))
    second = start(tmp_path, *grid)
    outputs = [sweep.communicate()[0] for sweep in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert "in the queue already" in outputs[1]
    assert [len(r["attempts"]) for r in records(tmp_path)] == [1, 1, 1]


def test_edits_of_conf_do_not_reach_queued_jobs(cluster, tmp_path):
    """The private option of a user, edited while its job waits."""
    private = tmp_path / "private/opt/mine.yaml"
    private.parent.mkdir(parents=True)
    private.write_text("name: sam\ndirection: sam\nmagnitude: sam\n")
    grid = [*SLURM, *SHORT, "--config-dir", str(tmp_path / "private"), "opt=mine", "seed=0"]
    cluster.run("scontrol", "update", "PartitionName=batch", "State=DOWN")
    try:
        run(tmp_path, *grid, "detach=true")
        private.write_text("name: sam\ndirection: sgd\nmagnitude: sgd\n")
    finally:
        cluster.run("scontrol", "update", "PartitionName=batch", "State=UP")
    wait_until(lambda: statuses(tmp_path) == ["complete"])
    (record,) = records(tmp_path)
    assert record["identity"]["variant"]["name"] == "sam"


def test_the_controller_is_restarted_in_the_middle(cluster, tmp_path):
    sweep = start(tmp_path, *SLURM, *LONG, "opt=sgd", "seed=0,1")
    wait_until(lambda: under_way(tmp_path, 2))
    cluster.restart_controller()
    out, _ = sweep.communicate()
    assert sweep.returncode == 0, out
    assert statuses(tmp_path) == ["complete"] * 2
