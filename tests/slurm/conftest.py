"""A real Slurm on this machine, for tests that need one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CLUSTER = Path(__file__).parent / "cluster"


def why_not():
    """Why there can be no Slurm here, if so."""
    if os.geteuid() != 0:
        return "a Slurm cluster is started by root"
    path = f"{os.environ['PATH']}:/usr/sbin"
    for program in ("slurmctld", "slurmd", "munged"):
        if shutil.which(program, path=path) is None:
            return f"{program} is missing: apt-get install slurm-wlm munge"
    return None


class Cluster:
    """One machine's Slurm."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.options = options
        self.conf = folder / "slurm.conf"

    def start(self):
        subprocess.run([CLUSTER, "start", *self.options, self.folder], check=True)

    def stop(self):
        subprocess.run([CLUSTER, "stop", self.folder], check=True)

    def restart_controller(self):
        subprocess.run([CLUSTER, "restart-controller", self.folder], check=True)

    def run(self, *command):
        """Output of one of Slurm's commands."""
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "SLURM_CONF": str(self.conf)},
        )
        return done.stdout

    def queue(self):
        """State of each job in the queue."""
        lines = self.run("squeue", "-r", "-h", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def state(self, job_id):
        """How a job stands or ended, while the controller remembers."""
        told = self.run("scontrol", "-o", "show", "job", job_id)
        return dict(part.split("=", 1) for part in told.split() if "=" in part)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Slurm without accounting, small arrays, two partitions, two GPUs that are none."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    cluster = Cluster(Path("/tmp/samsweep-slurm-test"))
    cluster.start()
    yield cluster
    cluster.stop()
    shutil.rmtree(cluster.folder)


@pytest.fixture(autouse=True)
def clean_queue(request, monkeypatch):
    """Nothing of one test in the queue of the next; commands find the cluster."""
    if "cluster" not in request.fixturenames:
        yield
        return
    cluster = request.getfixturevalue("cluster")
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    yield
    cluster.run("scancel", "-u", "root")
