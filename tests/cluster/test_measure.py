"""Trained cells are measured in jobs, which share themselves among cells as those of a sweep do."""

from helpers import records, run, wait_until
from slurm_cluster import SHORT, SLURM, jobs, status, statuses

#: The launcher of every sweep of these tests, and measurements of a moment.
JOBS = [*SLURM[1:], "sharpness.num_examples=50", "sharpness.max_hvps=3"]
CELLS = ["opt=sgd", "seed=range(0,4)"]


def measure(root, *arguments, **keys):
    return run(root, *JOBS, *arguments, module="samsweep.measure", **keys)


def train(root, *more):
    """Here, without a job."""
    run(root, "-m", *SHORT, "num_threads=1", *CELLS, *more)


def measurements(root):
    """The measurements of each cell."""
    return [list(record["measurements"].values()) for record in records(root)]


def test_cells_are_measured_in_shared_jobs_and_not_trained(cluster, tmp_path):
    train(tmp_path)
    before = {f: f.read_bytes() for f in tmp_path.rglob("*.safetensors")}
    attempts = [record["attempts"] for record in records(tmp_path)]
    packed = ["hydra.launcher.cells_per_job=2", "hydra.launcher.workers=2"]
    done = measure(tmp_path, "sharpness=top5", *packed)
    assert "4 cells: 4 only to measure." in done.stdout
    assert "Submitted 2 jobs:" in done.stdout
    assert "??" not in done.stdout
    found = jobs(tmp_path)
    for record, taken in zip(records(tmp_path), measurements(tmp_path), strict=True):
        assert [(m["name"], m["provenance"]["job_id"]) for m in taken] == [
            ("top5", found[record["cell_id"]])
        ]
    assert len(set(found.values())) == 2
    assert {f: f.read_bytes() for f in tmp_path.rglob("*.safetensors")} == before
    assert [record["attempts"] for record in records(tmp_path)] == attempts
    assert "4 already finished" in measure(tmp_path, "sharpness=top5", *packed).stdout


def test_what_waits_in_the_queue_is_not_submitted_again_and_what_it_lacks_is(cluster, tmp_path):
    train(tmp_path)
    with cluster.held():
        assert "Submitted 4 jobs" in measure(tmp_path, "sharpness=top5", "detach=true").stdout
        again = measure(tmp_path, "sharpness=top5", "detach=true").stdout
        assert "4 cells in the queue already" in again and "Submitted" not in again
        more = measure(tmp_path, "sharpness=lambda_max", "seed=0", "detach=true").stdout
        assert "Submitted 1 job" in more
        assert "--watch" in more
    wait_until(lambda: not cluster.queue(), seconds=240)
    measure(tmp_path, "sharpness=top5,lambda_max", "seed=0")
    names = sorted(sorted(m["name"] for m in taken) for taken in measurements(tmp_path))
    assert names == [["lambda_max", "top5"], ["top5"], ["top5"], ["top5"]]


def test_cancelled_and_taken_up_again(cluster, tmp_path):
    train(tmp_path)
    with cluster.held():
        measure(tmp_path, "sharpness=top5", "detach=true")
        assert "4 jobs of default cancelled" in status(tmp_path, "--cancel")
        wait_until(lambda: not cluster.queue())
    assert statuses(tmp_path) == ["complete"] * 4
    measure(tmp_path, "sharpness=top5")
    assert [len(taken) for taken in measurements(tmp_path)] == [1] * 4


def test_a_cell_without_its_weights_fails_its_job_alone(cluster, tmp_path):
    train(tmp_path)
    next(tmp_path.glob("multirun/default/cells/*-seed0-*/weights.safetensors")).unlink()
    done = measure(tmp_path, "sharpness=top5", check=False)
    assert done.returncode == 1
    assert "1 cell of study default not finished: 1 not measured." in done.stdout + done.stderr
    assert sorted(len(taken) for taken in measurements(tmp_path)) == [0, 1, 1, 1]
    assert "weights.safetensors is missing" in status(tmp_path, "--failed")
    found = jobs(tmp_path)
    failed = {cluster.state(job)["JobState"] for name, job in found.items() if "-seed0-" in name}
    assert failed == {"FAILED"}
