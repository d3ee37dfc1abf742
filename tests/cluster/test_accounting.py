"""The same with slurmdbd and MariaDB, and without either: what is known of jobs, without noise."""

import pytest
from helpers import records, run
from slurm_cluster import (
    ENDLESS,
    SHORT,
    SLURM,
    Cluster,
    cluster_folder,
    end,
    jobs,
    launch,
    statuses,
    why_not,
)

from samsweep.sweep.slurm import scheduler as slurm


def assert_sweeps_and_cancels(cluster, folder):
    """Cells finish, one is cancelled, and nothing is printed but what is meant."""
    done = run(folder, *SLURM, *SHORT, "opt=sgd", "seed=0,1")
    assert statuses(folder) == ["complete"] * 2
    assert "sacct" not in done.stdout + done.stderr
    assert "accounting" not in (done.stdout + done.stderr).lower()
    sweep = launch(folder, *ENDLESS, "opt=sgd", "seed=2", cells=1)
    cell = next(r["cell_id"] for r in records(folder) if r["status"] == "running")
    cluster.run("scancel", jobs(folder)[cell])
    end(sweep, 1)
    assert statuses(folder) == ["complete", "complete", "interrupted"]
    return jobs(folder)[cell]


def test_without_accounting(cluster, tmp_path):
    job_id = assert_sweeps_and_cancels(cluster, tmp_path)
    found = slurm.ends_of_jobs([job_id, "99999"])
    assert found.keys() == {job_id} and found[job_id].state == "CANCELLED"


@pytest.mark.slow
def test_with_accounting(the_cluster, tmp_path, monkeypatch):
    reason = why_not("slurmdbd", "mariadbd")
    if reason is not None:
        pytest.skip(reason)
    the_cluster.stop()
    accounted = Cluster(cluster_folder("accounted"), "--accounting")
    try:
        accounted.start()
        monkeypatch.setenv("SLURM_CONF", str(accounted.conf))
        job_id = assert_sweeps_and_cancels(accounted, tmp_path)
        states = accounted.run("sacct", "-X", "-n", "-P", "-o", "State").split()
        assert states.count("COMPLETED") == 2
        # The controller forgets, accounting does not.
        accounted.restart_controller()
        told = accounted.run("sacct", "-X", "-n", "-P", "-o", "State,ExitCode", "-j", job_id)
        assert told.startswith(("CANCELLED", "FAILED"))
        assert slurm.ends_of_jobs([job_id])[job_id].state in ("CANCELLED", "FAILED")
    finally:
        accounted.stop()
        the_cluster.start()
