"""A Slurm of this machine's own, and what its tests look at."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from helpers import point, records, run, start, wait_until

CLUSTER = Path(__file__).parent / "cluster/cluster"
ROOT = Path(__file__).parents[1]


def cluster_folder(name):
    """Where a cluster of this checkout lies: another one's tests, at the same time, have their own.

    What a run that was killed has left behind is found there by the next one, and stopped.
    """
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"samsweep-slurm-{name}-{checkout}"


#: What every sweep of these tests is launched with, and cells of seconds, of some tenths of a
#: minute, and of more time than any test waits.
SLURM = ["-m", "hydra/launcher=slurm", "hydra.launcher.timeout_min=20", "num_threads=1"]
SHORT = ["epochs=2", "sharpness=none"]
LONG = ["epochs=60", "sharpness=none", "checkpoint_every_steps=5"]
ENDLESS = ["epochs=100000", "sharpness=none", "checkpoint_every_steps=50"]


def why_not(*programs):
    """Why there can be no Slurm here, if so."""
    if os.geteuid() != 0:
        return "a Slurm cluster is started by root"
    path = f"{os.environ['PATH']}:/usr/sbin"
    for program in ("slurmctld", "slurmd", "munged", *programs):
        if shutil.which(program, path=path) is None:
            return f"{program} is missing: apt-get install slurm-wlm munge slurmdbd mariadb-server"
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

    def run(self, *command, check=True):
        """Output of one of Slurm's commands."""
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "SLURM_CONF": str(self.conf)},
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def queue(self):
        """State of each job in the queue."""
        lines = self.run("squeue", "-r", "-h", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def state(self, job_id):
        """How a job stands or ended, while the controller remembers."""
        told = self.run("scontrol", "-o", "show", "job", job_id)
        return dict(part.split("=", 1) for part in told.split() if "=" in part)

    def urge(self, seconds=5):
        """A job that takes the whole machine from the jobs of the other partition."""
        batch = ["-p", "urgent", "-c", "8", "-o", "/dev/null", "--wrap", f"sleep {seconds}"]
        self.run("sbatch", *batch)

    @contextmanager
    def held(self):
        """Inside the block no job of the partition starts."""
        self.run("scontrol", "update", "PartitionName=batch", "State=DOWN")
        try:
            yield
        finally:
            self.run("scontrol", "update", "PartitionName=batch", "State=UP")

    @contextmanager
    def configured(self, **values):
        """Inside the block the controller runs with other values of slurm.conf."""
        before = self.conf.read_text()
        changed = before
        for name, value in values.items():
            changed = re.sub(rf"^{name}=.*$", f"{name}={value}", changed, flags=re.MULTILINE)
        assert changed != before
        self.conf.write_text(changed)
        self.restart_controller()
        try:
            yield
        finally:
            self.conf.write_text(before)
            self.restart_controller()

    def clear(self):
        """As it was at first: nothing in the queue, everything up."""
        self.run("scancel", "-u", "root", check=False)
        self.run("scontrol", "update", "PartitionName=batch", "State=UP", check=False)
        node = self.run("sinfo", "-h", "-o", "%n", check=False).split()[0]
        if self.run("sinfo", "-h", "-p", "batch", "-o", "%T").strip().startswith(("down", "drain")):
            self.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        try:
            wait_until(lambda: not self.queue(), seconds=60)
        except AssertionError:
            # A process that hears no signal: the next test shall not wait for it.
            self.run("scancel", "--signal=KILL", "--full", "-u", "root", check=False)


@contextmanager
def running(cluster):
    """A cluster that is there inside the block."""
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)


# --------------------------------------------------------------------------- what is on disk


def folder_of(root, *overrides):
    return point(root, *overrides).folder.path


def statuses(root):
    return sorted(record["status"] for record in records(root))


def jobs(root):
    """Job ids by cell, over all launches; the latest counts."""
    found = {}
    for manifest in sorted(Path(root).glob("multirun/*/launches/*/manifest.json")):
        cells = json.loads(manifest.read_text())["cells"]
        found |= {name: cell["job_id"] for name, cell in cells.items()}
    return found


def job_logs(root):
    """What the jobs printed."""
    files = sorted(Path(root).glob("multirun/*/launches/*/jobs/*_log.*"))
    return "\n".join(file.read_text() for file in files)


def under_way(root, number):
    """Whether so many cells have trained an epoch and go on."""
    running = [r for r in records(root) if r["status"] == "running"]
    return sum((r["progress"] or {}).get("epoch", 0) >= 1 for r in running) >= number


def status(root, *arguments, **keys):
    return run(root, *arguments, module="samsweep.status", **keys).stdout


def interrupt(sweep):
    """Ctrl-C in the terminal of a command."""
    os.killpg(sweep.pid, signal.SIGINT)


#: Commands that go on beside a test.
_beside = []


def launch(root, *overrides, cells=0):
    """A sweep that goes on beside the test, as soon as so many cells are under way."""
    sweep = start(root, *SLURM, *overrides)
    _beside.append(sweep)
    wait_until(lambda: under_way(root, cells))
    return sweep


def end_all():
    """After a test that broke off: nothing of it meets the next one."""
    while _beside:
        sweep = _beside.pop()
        if sweep.poll() is None:
            os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()


def end(sweep, code=0):
    """Wait for a sweep to end with this exit status; what it printed."""
    out, _ = sweep.communicate()
    _beside.remove(sweep)
    assert sweep.returncode == code, out
    return out
