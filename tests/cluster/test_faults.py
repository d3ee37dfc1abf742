"""What goes wrong on a cluster, and that nobody loses, repeats or wonders about a cell."""

import json
import os
import signal

import pytest
from helpers import records, run, wait_until
from slurm_cluster import (
    ENDLESS,
    LONG,
    SHORT,
    SLURM,
    end,
    folder_of,
    interrupt,
    jobs,
    launch,
    status,
    statuses,
    under_way,
)


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


def test_a_job_that_cannot_begin_says_so_in_its_records(cluster, tmp_path):
    """A device that the login node has and the compute node has not."""
    done = run(tmp_path, *SLURM, *SHORT, "device=cuda", "opt=sgd", "seed=0", check=False)
    assert done.returncode == 1
    assert statuses(tmp_path) == ["failed"]
    assert "cuda" in status(tmp_path, "--failed")


def test_a_job_that_dies_before_python_is_told_by_status(cluster, tmp_path):
    """Nobody waits, and no process of ours ever ran."""
    setup = "hydra.launcher.setup=[no_such_command || exit 127]"
    run(tmp_path, *SLURM, *SHORT, "opt=sgd", "seed=0", "detach=true", setup)
    wait_until(lambda: not cluster.queue())
    (job_id,) = jobs(tmp_path).values()
    told = status(tmp_path)
    assert "failed" in told and f"job {job_id} (FAILED)" in told
    account = status(tmp_path, "--failed")
    assert "exit code 127" in account and "no_such_command: command not found" in account
    (cell,) = jobs(tmp_path)
    assert "command not found" in status(tmp_path, "--logs", cell)


def test_a_cell_that_waits_in_a_packed_job_is_left_out(cluster, tmp_path):
    packed = ["hydra.launcher.cells_per_job=2", "detach=true"]
    run(tmp_path, *SLURM, *LONG, "opt=sgd", "seed=0,1", *packed)
    wait_until(lambda: under_way(tmp_path, 1))
    waiting = next(r["cell_id"] for r in records(tmp_path) if r["status"] == "planned")
    assert "it will be left out" in status(tmp_path, "--cancel", waiting)
    wait_until(lambda: not cluster.queue(), seconds=120)
    assert statuses(tmp_path) == ["complete", "interrupted"]
    run(tmp_path, *SLURM, *LONG, "opt=sgd", "seed=0,1")
    assert statuses(tmp_path) == ["complete"] * 2


def test_jobs_whose_ids_were_not_written_down_are_found_again(cluster, tmp_path):
    grid = [*SHORT, "opt=sgd", "seed=0,1"]
    with cluster.held():
        run(tmp_path, *SLURM, *grid, "detach=true")
        (file,) = tmp_path.glob("multirun/default/launches/*/manifest.json")
        manifest = json.loads(file.read_text())
        before = {name: cell["job_id"] for name, cell in manifest["cells"].items()}
        comment = cluster.run("squeue", "-r", "-h", "-o", "%k").split()[0]
        for place, cell in enumerate(manifest["cells"].values()):
            cell.update(job_id=None, intent=comment, place=place)
        file.write_text(json.dumps(manifest))
        again = run(tmp_path, *SLURM, *grid, "detach=true")
        assert "2 cells in the queue already" in again.stdout
        assert "Submitted" not in again.stdout
        assert jobs(tmp_path) == before
    wait_until(lambda: not cluster.queue())
    assert [len(r["attempts"]) for r in records(tmp_path)] == [1, 1]


def test_what_slurm_would_refuse_is_told_by_a_dry_run(cluster, tmp_path):
    wrong = ["hydra.launcher.mem_gb=100000", "dry_run=true"]
    done = run(tmp_path, *SLURM, *SHORT, "opt=sgd", *wrong, check=False)
    assert done.returncode == 2
    assert "sbatch would refuse these jobs" in done.stderr


def test_detached_watched_and_cancelled_from_elsewhere(cluster, tmp_path):
    one_at_a_time = ["detach=true", "hydra.launcher.max_parallel=1"]
    done = run(tmp_path, *SLURM, *ENDLESS, "opt=sgd", "seed=range(0,3)", *one_at_a_time)
    assert "--watch" in done.stdout and "--cancel" in done.stdout
    wait_until(lambda: under_way(tmp_path, 1))
    told = status(tmp_path)
    assert "queued" in told and "running" in told and "job " in told
    assert "3 jobs of default cancelled" in status(tmp_path, "--cancel")
    wait_until(lambda: not cluster.queue())
    assert statuses(tmp_path) == ["interrupted", "planned", "planned"]


def test_cancelled_cells_are_taken_up_again(cluster, tmp_path):
    with cluster.held():
        run(tmp_path, *SLURM, *SHORT, "opt=sgd", "seed=0,1", "detach=true")
        assert "PartitionDown" in status(tmp_path) or "queued" in status(tmp_path)
        status(tmp_path, "--cancel")
        wait_until(lambda: not cluster.queue())
    assert statuses(tmp_path) == ["planned"] * 2
    assert "Submitted 2 jobs" in status(tmp_path, "--retry")
    assert statuses(tmp_path) == ["complete"] * 2


def test_one_cell_is_cancelled_from_outside_and_the_others_finish(cluster, tmp_path):
    grid = [*LONG, "opt=sgd", "seed=0,1"]
    sweep = launch(tmp_path, *grid, cells=1)
    running = next(r["cell_id"] for r in records(tmp_path) if r["status"] == "running")
    cluster.run("scancel", jobs(tmp_path)[running])
    end(sweep, 1)
    found = {r["cell_id"]: r["status"] for r in records(tmp_path)}
    assert found.pop(running) == "interrupted"
    assert list(found.values()) == ["complete"]
    assert "interrupted" in status(tmp_path)
    run(tmp_path, *SLURM, *grid)
    assert statuses(tmp_path) == ["complete"] * 2


def test_a_killed_worker_is_told_and_the_others_finish(cluster, tmp_path):
    grid = [*LONG, "opt=sgd", "seed=0,1"]
    sweep = launch(tmp_path, *grid, cells=2)
    lock = next(tmp_path.glob("multirun/default/cells/*/lock.json"))
    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
    end(sweep, 1)
    assert statuses(tmp_path) == ["complete", "failed"]
    run(tmp_path, *SLURM, *grid)
    assert statuses(tmp_path) == ["complete"] * 2


def test_a_job_that_is_killed_as_a_whole_is_told(cluster, tmp_path):
    """Nothing of it can say a word, and there is no accounting to ask."""
    sweep = launch(tmp_path, *ENDLESS, "opt=sgd", "seed=0", cells=1)
    (job_id,) = jobs(tmp_path).values()
    cluster.run("scancel", "--signal=KILL", "--full", job_id)
    end(sweep, 1)
    (record,) = records(tmp_path)
    assert record["status"] in ("failed", "interrupted")
    assert f"its job {job_id} ended" in record["error"]


@pytest.mark.slow
def test_a_node_that_goes_away(cluster, tmp_path):
    """Slurm queues its job again; back with the node, the cell goes on."""
    node = cluster.run("sinfo", "-h", "-o", "%n").split()[0]
    sweep = launch(tmp_path, *LONG, "opt=sgd", "seed=0", cells=1)
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    wait_until(lambda: "PENDING" in cluster.queue().values())
    assert "queued" in status(tmp_path)
    # By ReturnToService it may be back already.
    cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
    end(sweep)
    assert statuses(tmp_path) == ["complete"]


def test_ctrl_c_detaches(cluster, tmp_path):
    sweep = launch(tmp_path, *LONG, "opt=sgd", "seed=0,1", cells=1)
    interrupt(sweep)
    out = end(sweep, 130)
    assert "Detached: the jobs go on." in out
    assert "--watch" in out and "--cancel" in out
    wait_until(lambda: statuses(tmp_path) == ["complete"] * 2, seconds=240)


def test_the_parent_is_killed(cluster, tmp_path):
    """The jobs go on; the same command again waits for them."""
    grid = [*LONG, "opt=sgd", "seed=0,1"]
    sweep = launch(tmp_path, *grid, cells=1)
    os.killpg(sweep.pid, signal.SIGKILL)
    end(sweep, -signal.SIGKILL)
    run(tmp_path, *SLURM, *grid)
    assert statuses(tmp_path) == ["complete"] * 2
    assert [len(r["attempts"]) for r in records(tmp_path)] == [1, 1]


def test_the_same_sweep_twice(cluster, tmp_path):
    """While the first one's jobs wait, the second has nothing to submit."""
    grid = [*SHORT, "opt=sgd", "seed=0,1,2"]
    with cluster.held():
        first = launch(tmp_path, *grid)
        wait_until(lambda: len(jobs(tmp_path)) == 3 and all(jobs(tmp_path).values()))
        second = run(tmp_path, *SLURM, *grid, "detach=true")
        assert "3 cells in the queue already" in second.stdout
        assert "Submitted" not in second.stdout
    end(first)
    assert [len(r["attempts"]) for r in records(tmp_path)] == [1, 1, 1]


def test_the_same_sweep_twice_at_the_same_moment(cluster, tmp_path):
    """Even if both submit, each cell is trained once."""
    grid = [*SHORT, "opt=sgd", "seed=0,1,2"]
    for sweep in [launch(tmp_path, *grid) for _ in range(2)]:
        end(sweep)
    assert statuses(tmp_path) == ["complete"] * 3
    assert [len(r["attempts"]) for r in records(tmp_path)] == [1, 1, 1]


def test_the_controller_is_restarted_in_the_middle(cluster, tmp_path):
    sweep = launch(tmp_path, *LONG, "opt=sgd", "seed=0,1", cells=2)
    cluster.restart_controller()
    end(sweep)
    assert statuses(tmp_path) == ["complete"] * 2
