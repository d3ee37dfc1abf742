"""How cells become jobs: arrays, packs, limits, resources, and what is fixed at submission."""

import os
import re
import shutil
import sys

import pytest
from helpers import records, run, wait_until
from slurm_cluster import LONG, ROOT, SHORT, SLURM, end, job_logs, jobs, launch, status, statuses

TWELVE = ["opt=sam", "rho=0.1,0.2,0.4", "seed=range(0,4)"]


def test_a_grid_is_an_array_of_jobs(cluster, tmp_path):
    done = run(tmp_path, *SLURM, *SHORT, *TWELVE)
    assert statuses(tmp_path) == ["complete"] * 12
    found = jobs(tmp_path)
    assert len({job_id.partition("_")[0] for job_id in found.values()}) == 1
    assert len(set(found.values())) == 12
    assert "Submitted 12 jobs:" in done.stdout
    assert all(r["attempts"][0]["provenance"]["job_id"] for r in records(tmp_path))
    assert "12 already finished" in run(tmp_path, *SLURM, *SHORT, *TWELVE).stdout


def test_cells_share_jobs(cluster, tmp_path):
    packed = ["hydra.launcher.cells_per_job=4", "hydra.launcher.workers=2"]
    run(tmp_path, *SLURM, *SHORT, *packed, "opt=sam", "rho=0.1", "seed=range(0,6)")
    assert statuses(tmp_path) == ["complete"] * 6
    found = list(jobs(tmp_path).values())
    assert sorted(found.count(job_id) for job_id in set(found)) == [2, 4]


@pytest.mark.slow
def test_a_grid_larger_than_an_array_may_be(cluster, tmp_path):
    """MaxArraySize=5 allows the indices 0 to 4."""
    with cluster.configured(MaxArraySize=5):
        run(tmp_path, *SLURM, *SHORT, *TWELVE)
    assert statuses(tmp_path) == ["complete"] * 12
    arrays = [job_id.partition("_")[0] for job_id in jobs(tmp_path).values()]
    assert sorted(arrays.count(array) for array in set(arrays)) == [2, 5, 5]


def test_jobs_get_the_gpus_that_they_ask_for(cluster, tmp_path):
    """Stand-ins: two jobs at a time, each sees one of the two."""
    gpu = ["hydra.launcher.gres=gpu:1", "hydra.launcher.setup=['echo GPU $CUDA_VISIBLE_DEVICES']"]
    run(tmp_path, *SLURM, *LONG, *gpu, "device=cpu", "opt=sgd", "seed=0,1")
    assert sorted(re.findall(r"^GPU (.*)$", job_logs(tmp_path), re.MULTILINE)) == ["0", "1"]


@pytest.mark.slow
def test_no_more_jobs_at_a_time_than_the_whole_sweep_may_have(cluster, tmp_path):
    """Two models with resources of their own are two arrays, which share the limit."""
    per_model = "+hydra.launcher.per_model.resnet20.timeout_min=30"
    limit = ["hydra.launcher.max_parallel=2", per_model]
    sweep = launch(tmp_path, *SHORT, *limit, "opt=sgd", "model=resnet8,resnet20", "seed=0,1,2")
    most = 0
    while sweep.poll() is None:
        most = max(most, list(cluster.queue().values()).count("RUNNING"))
    end(sweep)
    assert most == 2
    assert statuses(tmp_path) == ["complete"] * 6


def test_a_dry_run_shows_the_batch_scripts(cluster, tmp_path):
    options = [
        "hydra.launcher.partition=urgent",
        "hydra.launcher.mem_gb=2",
        "hydra.launcher.max_parallel=1",
        "+hydra.launcher.per_model.resnet20.timeout_min=90",
        "+hydra.launcher.additional_parameters.mail-type=END",
    ]
    grid = ["model=resnet8,resnet20", "seed=0,1", "dry_run=true"]
    scripts = run(tmp_path, *SLURM, *options, *grid).stdout.split("#!/bin/bash")[1:]
    assert len(scripts) == 2
    for script, minutes in zip(scripts, (20, 90), strict=True):
        assert f"#SBATCH --time={minutes}" in script
        for line in ("--partition=urgent", "--mem=2GB", "--array=0-1%1", "--mail-type=END"):
            assert f"#SBATCH {line}\n" in script
    assert os.listdir(tmp_path) == []


def test_what_sbatch_refuses_is_told_in_a_sentence(cluster, tmp_path):
    done = run(tmp_path, *SLURM, *SHORT, "hydra.launcher.partition=nowhere", check=False)
    assert done.returncode == 2
    assert "sbatch refused the jobs: " in done.stderr
    # Not its last line alone, which does not name the partition.
    assert "nowhere" in done.stderr and "Invalid partition name specified" in done.stderr
    assert "Traceback" not in done.stderr and "Test accuracy" not in done.stdout


@pytest.mark.slow
def test_submitted_from_inside_a_job(cluster, tmp_path):
    """The job's own wishes, such as its cores, are not those of what it submits."""
    command = f"{sys.executable} -m samsweep.run {' '.join(SLURM + SHORT)} opt=sgd seed=0,1"
    options = ["-D", str(tmp_path), "-c", "4", "--wait", "-o", str(tmp_path / "outer.log")]
    cluster.run("sbatch", *options, "--wrap", command)
    assert statuses(tmp_path) == ["complete"] * 2, (tmp_path / "outer.log").read_text()
    for job_id in jobs(tmp_path).values():
        assert cluster.state(job_id)["NumCPUs"] == "1"


# ------------------------------------------------------------------ fixed at submission


def test_edits_of_conf_do_not_reach_queued_jobs(cluster, tmp_path):
    """The private option of a user, edited while its job waits."""
    private = tmp_path / "private/opt/mine.yaml"
    private.parent.mkdir(parents=True)
    private.write_text("name: sam\ndirection: sam\nmagnitude: sam\n")
    grid = [*SLURM, *SHORT, "--config-dir", str(tmp_path / "private"), "opt=mine", "seed=0"]
    with cluster.held():
        run(tmp_path, *grid, "detach=true")
        assert statuses(tmp_path) == ["planned"]
        private.write_text("name: sam\ndirection: sgd\nmagnitude: sgd\n")
    wait_until(lambda: statuses(tmp_path) == ["complete"])
    (record,) = records(tmp_path)
    assert record["identity"]["variant"]["name"] == "sam"


@pytest.mark.parametrize("reaction", ["warn", "refuse"])
def test_other_source_than_was_submitted(cluster, tmp_path, reaction):
    source = tmp_path / "source"
    for name in ("samsweep", "hydra_plugins", "conf", "multirun_analysis"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    ours = {"PYTHONPATH": str(source)}
    grid = [*SLURM, *SHORT, "opt=sgd", "seed=0", f"on_code_change={reaction}", "detach=true"]
    with cluster.held():
        run(tmp_path, *grid, **ours)
        with (source / "samsweep/system/text.py").open("a") as file:
            file.write("# edited\n")
    wait_until(lambda: not cluster.queue())
    assert "source has changed since this job was submitted" in job_logs(tmp_path)
    if reaction == "warn":
        assert statuses(tmp_path) == ["complete"]
    else:
        assert statuses(tmp_path) == ["failed"]
        assert "on_code_change=refuse: submit the sweep again" in status(tmp_path, "--failed")


def test_a_job_runs_in_its_container_and_environment(cluster, tmp_path):
    """With a stand-in for apptainer, that starts what it is given and says what it was given."""
    stand_in = tmp_path / "bin/apptainer"
    stand_in.parent.mkdir()
    told = tmp_path / "told"
    stand_in.write_text(
        f'#!/bin/sh\necho "$LAB $*" >> {told}\n'
        'while [ "$1" != lab.sif ]; do shift; done\nshift\nexec "$@"\n'
    )
    stand_in.chmod(0o755)
    values = [
        f"hydra.launcher.setup='export PATH={stand_in.parent}:$PATH'",
        "+hydra.launcher.env.LAB=ours",
        "hydra.launcher.container=lab.sif",
        f"hydra.launcher.container_binds=[{tmp_path}/bin]",
        f"hydra.launcher.python={sys.executable}",
    ]
    run(tmp_path, *SLURM, *SHORT, "opt=sgd", *values)
    assert statuses(tmp_path) == ["complete"]
    binds = f"--bind {tmp_path} --bind {tmp_path}/bin"
    assert told.read_text().startswith(f"ours exec {binds} lab.sif {sys.executable} -u -m")
