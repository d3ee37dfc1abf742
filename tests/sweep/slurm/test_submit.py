"""What ``hydra/launcher=slurm`` submits, with stand-ins for sbatch and the queue."""

import json
import os
import pickle
import re
import stat
import threading
import types

import pytest
from helpers import compose_run
from omegaconf import OmegaConf

from hydra_plugins.samsweep_slurm import SlurmLauncher
from samsweep.config import ConfigError, conf_dir, described
from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder
from samsweep.records.transitions import register
from samsweep.sweep.estimate import Prepared
from samsweep.sweep.manifest import LauncherSettings, LaunchFolder, launch_folders, launched
from samsweep.sweep.plan import Point, plan_sweep
from samsweep.sweep.slurm import queue, submit
from samsweep.sweep.slurm import scheduler as slurm
from samsweep.sweep.slurm.job_arrays import ArraySettings, SubmissionSettings
from samsweep.sweep.slurm.scheduler import JobState, SlurmUnavailable
from samsweep.sweep.slurm.submit import SlurmRunner

#: Keeps what it is handed, and answers as Slurm does; every submission has the next number.
SBATCH = """#!/bin/sh
number=$((40 + $(ls "$FAKE_SLURM" | grep -c sh)))
cp "$1" "$FAKE_SLURM/$number.sh"
env > "$FAKE_SLURM/$number.env"
echo "Submitted batch job $number"
"""
REFUSING = """#!/bin/sh
echo "sbatch: error: Batch job submission failed: Invalid account or account/partition combination \
specified" >&2
exit 1
"""


@pytest.fixture(autouse=True)
def cluster(tmp_path, monkeypatch):
    """Slurm's commands on the path, and the folder of what was submitted."""
    submitted = tmp_path / "submitted"
    submitted.mkdir()
    monkeypatch.setenv("FAKE_SLURM", str(submitted))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    command(tmp_path, "srun", "#!/bin/sh\n")
    command(tmp_path, "sbatch", SBATCH)
    monkeypatch.setattr(submit, "max_array_size", lambda: 1001)
    monkeypatch.setattr(queue, "job_states", lambda job_ids: {})
    monkeypatch.chdir(tmp_path)
    return submitted


def command(root, name, text):
    file = root / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def runner(**changes):
    """As the YAML of the option sets it, and some keys beside."""
    options = OmegaConf.load(conf_dir() / "hydra/launcher/slurm.yaml")
    values = OmegaConf.to_container(options, resolve=False)
    values |= {"detach": True, "on_code_change": "warn", **changes}
    values.pop("_target_")
    return SlurmRunner(values)


def plan(root, num_cells, *overrides):
    points = []
    composed = compose_run(*overrides)
    for seed in range(num_cells):
        cell = composed.cell.model_copy(update={"seed": seed})
        run = composed.model_copy(update={"cell": cell})
        folder = CellFolder(root / "multirun" / run.study / "cells" / cell_id(run.cell))
        points.append(Point(run=run, folder=folder))
    return plan_sweep(points)


def leave_complete(cell):
    """As another process leaves a cell that it has trained."""
    register(cell.folder, cell.run)
    record = cell.folder.read()
    cell.folder.write(record.model_copy(update={"status": "diverged"}))


def options(script):
    """The #SBATCH lines of a batch script."""
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if "#SBATCH" in line]
    return dict(line.removeprefix("--").partition("=")[::2] for line in lines)


def scripts(submitted):
    return [file.read_text() for file in sorted(submitted.glob("*.sh"))]


# --------------------------------------------------------------------------- batch scripts


def test_the_script_asks_for_what_the_option_says(cluster, tmp_path):
    runner(
        partition="gpu",
        account="us",
        qos="long",
        timeout_min=90,
        cpus_per_task=4,
        gpus_per_node=1,
        mem_gb=16,
        max_parallel=2,
        setup=["module load cuda"],
        additional_parameters={"mail-type": "END"},
    ).run(plan(tmp_path, 3), Prepared())
    (script,) = scripts(cluster)
    found = options(script)
    expected = {
        **{"partition": "gpu", "account": "us", "qos": "long", "time": "90", "mem": "16GB"},
        **{"cpus-per-task": "4", "gpus-per-node": "1", "mail-type": "END"},
        **{"array": "0-2%2", "signal": "USR2@120", "requeue": ""},
    }
    assert {key: found[key] for key in expected} == expected
    assert "dependency" not in found
    lines = script.splitlines()
    share = lines.index("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
    assert lines[share + 1] == "module load cuda"
    assert share < next(i for i, line in enumerate(lines) if line.startswith("srun"))


def test_a_job_has_the_environment_python_and_container_that_are_asked_for(cluster, tmp_path):
    runner(
        setup="module load cuda",
        mem_gb=1.5,
        env={"OMP_NUM_THREADS": 4, "NAME": "a b"},
        container="/images/lab.sif",
        container_binds=["/scratch", "/data:/mnt"],
        gpus_per_node=1,
        comment="ours",
    ).run(plan(tmp_path, 1), Prepared())
    (script,) = scripts(cluster)
    assert options(script)["mem"] == "1536MB"
    assert options(script)["comment"].strip("'\"").startswith("ours samsweep:")
    lines = script.splitlines()
    first = lines.index("export OMP_NUM_THREADS=4")
    assert lines[first : first + 3] == [
        "export OMP_NUM_THREADS=4",
        "export NAME='a b'",
        "module load cuda",
    ]
    (command,) = [line for line in lines if line.startswith("srun")]
    inside = (
        f"apptainer exec --nv --bind {tmp_path} --bind /scratch --bind /data:/mnt /images/lab.sif "
        "python3 -u -m samsweep.sweep.slurm.start -u -m submitit.core._submit "
    )
    assert inside in command


def test_python_on_the_nodes_may_be_another(cluster, tmp_path):
    runner(python="/opt/env/bin/python").run(plan(tmp_path, 1), Prepared())
    (script,) = scripts(cluster)
    assert " /opt/env/bin/python -u -m samsweep.sweep.slurm.start " in script


def test_additional_parameters_of_a_model_stand_beside_those_of_all(cluster, tmp_path):
    own = {"resnet8": {"additional_parameters": {"nice": 5}, "env": {"B": 2}}}
    runner(additional_parameters={"mail-type": "END"}, env={"A": 1}, per_model=own).run(
        plan(tmp_path, 1), Prepared()
    )
    (script,) = scripts(cluster)
    found = options(script)
    assert (found["mail-type"], found["nice"]) == ("END", "5")
    assert "export A=1\nexport B=2\n" in script


def test_what_finished_while_the_queue_was_asked_is_not_submitted(cluster, tmp_path, monkeypatch):
    planned = plan(tmp_path, 3)

    def finish(job_ids):
        leave_complete(planned.cells[1])
        return {}

    monkeypatch.setattr(submit, "queued_jobs", lambda plan: finish(None))
    runner().run(planned, Prepared())
    (script,) = scripts(cluster)
    assert options(script)["array"].startswith("0-1")


def test_an_intent_without_a_receipt_is_found_again_by_its_comment(cluster, tmp_path, monkeypatch):
    """As if whoever submitted was killed before it wrote the ids of the jobs down."""
    planned = plan(tmp_path, 3)
    monkeypatch.setattr(LaunchFolder, "record_jobs", lambda *_: None)
    runner().run(planned, Prepared())
    monkeypatch.undo()
    (launch,) = launch_folders(planned.studies[0])
    intents = launch.intents()
    ((comment, _),) = {(comment, 0) for comment, _ in intents.values()}
    assert [place for _, place in intents.values()] == [0, 1, 2]
    monkeypatch.setattr(
        queue, "jobs_by_comment", lambda: {comment: ["40_0", "40_2"], "(null)": ["7"]}
    )
    states = {name: JobState(state="PENDING") for name in ("40_0", "40_2")}
    monkeypatch.setattr(queue, "job_states", lambda job_ids: states)
    found = queue.queued_cells(planned.studies[0])
    assert {cell.job_id for cell in found.values()} == {"40_0", "40_2"}
    assert launch.intents() == {}
    assert sorted(launch.jobs().values()) == ["40_0", "40_2"]


def test_a_launch_that_is_submitting_is_waited_for(cluster, tmp_path, monkeypatch):
    planned = plan(tmp_path, 1)
    with launched(planned.cells, LauncherSettings(name="slurm")) as (launch,):
        launch.record_intent("samsweep:a:0", [[planned.cells[0].key]])
        monkeypatch.setattr(queue, "_RECEIPT_S", 0.2)
        with pytest.raises(ConfigError, match="is submitting cells"):
            runner().run(planned, Prepared())
        threading.Timer(0.3, launch.record_jobs, [{planned.cells[0].key: "40"}]).start()
        monkeypatch.setattr(queue, "_RECEIPT_S", 60.0)
        monkeypatch.setattr(queue, "job_states", lambda job_ids: {"40": JobState(state="PENDING")})
        runner().run(planned, Prepared())
    assert scripts(cluster) == []


def test_nothing_is_asked_for_by_default(cluster, tmp_path):
    runner().run(plan(tmp_path, 300), Prepared())
    (script,) = scripts(cluster)
    unset = {"partition", "account", "qos", "cpus-per-task", "gpus-per-node", "gres", "mem"}
    assert not unset & options(script).keys()
    assert "SRUN_CPUS_PER_TASK" not in script
    # By default submitit lets 256 jobs run at a time.
    assert options(script)["array"] in ("0-299", "0-299%300")


def test_arrays_of_a_lane_wait_for_each_other(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(submit, "max_array_size", lambda: 2)
    runner(max_parallel=1).run(plan(tmp_path, 5), Prepared())
    found = [options(script) for script in scripts(cluster)]
    assert [script.get("dependency") for script in found] == [None, "afterany:40", "afterany:41"]
    # One job alone is no array.
    assert [script.get("array") for script in found] == ["0-1%1", "0-1%1", None]


def test_a_model_gets_resources_of_its_own(cluster, tmp_path):
    per_model = {"resnet18": {"timeout_min": 600, "mem_gb": 32}}
    cells = [*plan(tmp_path, 2).cells, *plan(tmp_path, 2, "model=resnet18").cells]
    found = plan_sweep(point for cell in cells for point in cell.points)
    runner(per_model=per_model).run(found, Prepared())
    small, large = (options(script) for script in scripts(cluster))
    assert (small["time"], small.get("mem")) == ("60", None)
    assert (large["time"], large.get("mem")) == ("600", "32GB")


def test_a_job_inside_of_a_job_has_no_options_of_the_outer_one(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "64")
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SLURM_CONF", "/etc/ours.conf")
    runner().run(plan(tmp_path, 1), Prepared())
    (file,) = cluster.glob("*.env")
    seen = dict(line.partition("=")[::2] for line in file.read_text().splitlines())
    assert {name for name in seen if name.startswith(("SLURM_", "SBATCH_"))} == {"SLURM_CONF"}
    assert seen["SLURM_CONF"] == "/etc/ours.conf"
    assert os.environ["SLURM_CPUS_PER_TASK"] == "64"


# --------------------------------------------------------------------------- what is submitted


def test_jobs_carry_their_cells_with_every_value(cluster, tmp_path):
    found = plan(tmp_path, 5)
    runner(cells_per_job=2, workers=2, cells_per_gpu=2).run(found, Prepared())
    (launch,) = launch_folders(tmp_path / "multirun/default")
    jobs = [pickle.loads(f.read_bytes()) for f in launch.path.glob("jobs/*_submitted.pkl")]
    carried = {folder.name: runs for job in jobs for folder, runs in job.function.cells}
    assert carried == {
        cell.key.cell_id: tuple(point.run for point in cell.points) for cell in found.cells
    }
    assert sorted(len(job.function.cells) for job in jobs) == [1, 2, 2]
    assert {job.function.settings.workers for job in jobs} == {2}
    assert {job.function.on_code_change for job in jobs} == {"warn"}
    assert {job._timeout_min for job in jobs} == {60}
    assert {job._timeout_countdown for job in jobs} == {10}


def test_the_manifest_knows_the_job_of_each_cell(cluster, tmp_path):
    found = plan(tmp_path, 3)
    runner(cells_per_job=2).run(found, Prepared())
    (launch,) = launch_folders(tmp_path / "multirun/default")
    first, second, third = (cell.key for cell in found.cells)
    assert launch.jobs() == {first: "40_0", second: "40_0", third: "40_1"}
    manifest = launch.read()
    assert manifest.launcher.name == "slurm"
    # A retry has the same runner, which waits.
    again = SlurmRunner(manifest.launcher.settings)
    assert again.values == runner(cells_per_job=2).values
    assert not again.detach


def test_the_same_cell_of_two_studies_is_submitted_for_each(cluster, tmp_path, monkeypatch, capsys):
    both = [plan(tmp_path, 1, f"study={study}").cells[0] for study in ("one", "two")]
    found = plan_sweep(point for cell in both for point in cell.points)
    runner(cells_per_job=2).run(found, Prepared())
    jobs = {}
    for study in ("one", "two"):
        (launch,) = launch_folders(tmp_path / "multirun" / study)
        jobs |= launch.jobs()
    assert jobs == {both[0].key: "40", both[1].key: "41"}

    # One study's cell in the queue keeps only that one from being submitted again.
    states = {"40": JobState(state="PENDING")}
    monkeypatch.setattr(queue, "job_states", lambda job_ids: states)
    capsys.readouterr()
    runner().run(found, Prepared())
    told = capsys.readouterr().out
    assert "1 cell in the queue already: 40." in told and "Submitted 1 job: 42." in told
    assert launch_folders(tmp_path / "multirun/two")[-1].jobs() == {both[1].key: "42"}


def test_detached_it_prints_how_to_watch_and_cancel_and_attached_it_waits(
    cluster, tmp_path, monkeypatch, capsys
):
    assert runner().run(plan(tmp_path, 3), Prepared()) is False
    told = capsys.readouterr().out
    assert "Submitted 3 jobs: 40_[0-2]." in told
    assert "samsweep status study=default --watch" in told
    assert "samsweep status study=default --cancel" in told

    waited = []
    watch = types.SimpleNamespace(wait=lambda: None)
    monkeypatch.setattr(submit, "JobWatch", lambda jobs, display: waited.append(jobs) or watch)
    found = plan(tmp_path, 2)
    assert runner(detach=False).run(found, Prepared()) is True
    assert waited == [{f"41_{i}": (cell,) for i, cell in enumerate(found.cells)}]


def test_a_cell_in_the_queue_is_not_submitted_again(cluster, tmp_path, monkeypatch, capsys):
    runner().run(plan(tmp_path, 2), Prepared())
    states = {"40_1": JobState(state="PENDING", reason="Resources")}
    monkeypatch.setattr(queue, "job_states", lambda job_ids: states)
    capsys.readouterr()
    runner().run(plan(tmp_path, 3), Prepared())
    told = capsys.readouterr().out
    assert "1 cell in the queue already: 40_[1]." in told
    assert "Submitted 2 jobs: 41_[0-1]." in told
    latest = launch_folders(tmp_path / "multirun/default")[-1]
    cells = plan(tmp_path, 3).cells
    assert latest.cells() == {cells[0].key, cells[2].key}


def test_a_trained_cell_of_a_job_that_goes_on_is_measured_in_another(
    cluster, tmp_path, monkeypatch, capsys
):
    """The job is still at its other cell, and was asked for another measurement."""
    runner(cells_per_job=2).run(plan(tmp_path, 2, "sharpness=top5"), Prepared())
    states = {"40": JobState(state="RUNNING")}
    monkeypatch.setattr(queue, "job_states", lambda job_ids: states)
    trained = plan(tmp_path, 1).cells[0].folder
    trained.write(trained.read().model_copy(update={"status": "complete"}))
    capsys.readouterr()
    runner().run(plan(tmp_path, 1, "sharpness=top5"), Prepared())
    assert "1 cell in the queue already: 40." in capsys.readouterr().out
    states["41"] = JobState(state="PENDING")
    for told in ("Submitted 1 job: 41.", "1 cell in the queue already: 41."):
        runner().run(plan(tmp_path, 1, "sharpness=lambda_max"), Prepared())
        assert told in capsys.readouterr().out
    assert len(scripts(cluster)) == 2


def test_nothing_is_submitted_while_the_queue_is_unknown(cluster, tmp_path, monkeypatch):
    def no_answer(job_ids):
        raise SlurmUnavailable("Connection refused")

    runner().run(plan(tmp_path, 1), Prepared())
    monkeypatch.setattr(queue, "job_states", no_answer)
    with pytest.raises(ConfigError, match=r"Connection refused.*nothing was submitted"):
        runner().run(plan(tmp_path, 2), Prepared())
    assert len(scripts(cluster)) == 1


# --------------------------------------------------------------------------- refusals


def test_what_sbatch_refuses_is_one_sentence(cluster, tmp_path):
    command(tmp_path, "sbatch", REFUSING)
    with pytest.raises(ConfigError, match="sbatch refused the jobs: .*Invalid account") as told:
        runner().run(plan(tmp_path, 2), Prepared())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cells_per_job": 0}, ".cells_per_job=0: should be greater"),
        ({"max_parallel": 0}, ".max_parallel=0: should be greater"),
        ({"workers": 0}, ".workers=0: should be greater"),
        ({"timeout_min": "1h"}, ".timeout_min=1h: should be a valid integer"),
        ({"account": [1]}, ".account=[1]: should be a valid string"),
        ({"mem_gb": 0}, ".mem_gb=0: should be greater"),
        ({"signal_delay_s": -1}, ".signal_delay_s=-1: should be greater"),
        ({"per_model": {"resnet8": {"mem_gb": 0}}}, ".per_model.resnet8.mem_gb=0: should be"),
        (
            {"per_model": {"resnet8": {"timeout_mn": 5}}},
            ".per_model.resnet8 'timeout_mn' is unknown: did you mean 'timeout_min'?",
        ),
        ({"timeout_min": 2}, ": timeout_min=2 leaves nothing before signal_delay_s=120"),
        (
            {"per_model": {"resnet8": {"timeout_min": 1}}},
            ".per_model.resnet8: timeout_min=1 leaves nothing",
        ),
        ({"timeout_min": "abc"}, ".timeout_min=abc: should be a valid integer"),
        ({"mem_gb": -1}, ".mem_gb=-1: should be greater than 0"),
        ({"setup": 3}, ".setup=3: should be a valid"),
        ({"env": {"A B": "c"}}, ".env.A B"),
        ({"container_binds": ["/data"]}, ": container_binds have no effect without a container"),
        ({"additional_parameters": {"x": [1]}}, ".additional_parameters.x"),
        ({"per_model": {"resnet8": {"cells_per_job": 0}}}, ".per_model.resnet8.cells_per_job=0"),
        ({"per_dataset": {"digits": {"workrs": 1}}}, ".per_dataset.digits 'workrs' is unknown"),
        ({"cpu_per_task": 5}, " 'cpu_per_task' is unknown: did you mean 'cpus_per_task'?"),
    ],
)
def test_what_cannot_be_is_refused(changes, problem):
    with pytest.raises(ConfigError, match=re.escape(f"hydra.launcher{problem}")):
        runner(**changes)


def test_resources_are_of_a_model_that_is_registered_or_planned(tmp_path):
    wrong = runner(per_model={"resnet_8": {"timeout_min": 5}})
    message = r"hydra\.launcher\.per_model 'resnet_8' is unknown: did you mean 'resnet8'\?"
    with pytest.raises(ConfigError, match=message):
        wrong.prepare(plan(tmp_path, 1))


def test_every_key_of_the_option_has_a_meaning_and_its_default():
    option = OmegaConf.to_container(OmegaConf.load(conf_dir() / "hydra/launcher/slurm.yaml"))
    for schema in (ArraySettings, SubmissionSettings):
        for key in described(schema):
            default = list(key.default) if isinstance(key.default, tuple) else key.default
            assert key.meaning and option.pop(key.name) == default, key.name
    assert option.keys() == {"_target_", "detach", "on_code_change"}


def test_a_name_may_be_a_number():
    assert runner(account=4711, gpus_per_node="a100:2").params["account"] == 4711


def test_hydra_makes_the_runner_from_its_own_containers():
    launcher = SlurmLauncher(**OmegaConf.create({"per_model": {"resnet8": {"setup": ["a"]}}}))
    assert launcher.runner.arrays.per_model == {"resnet8": {"setup": ["a"]}}
    assert json.dumps(launcher.runner.values)


@pytest.mark.parametrize(
    ("device", "changes", "warns"),
    [
        ("auto", {}, True),
        ("cpu", {}, False),
        ("auto", {"gpus_per_node": 1}, False),
        ("auto", {"gres": "gpu:1"}, False),
        ("auto", {"additional_parameters": {"gpus": 1}}, False),
        ("auto", {"per_model": {"resnet8": {"gpus_per_node": 1}}}, False),
    ],
)
def test_without_a_gpu_asked_for_a_sweep_says_that_it_trains_on_cpus(
    tmp_path, caplog, device, changes, warns
):
    runner(**changes).prepare(plan(tmp_path, 1, f"device={device}"), download=False)
    assert ("No GPU is asked for" in caplog.text) is warns


# --------------------------------------------------------------------------- dry run


def test_a_dry_run_makes_the_scripts_and_submits_nothing(cluster, tmp_path):
    (script,) = runner(partition="gpu", max_parallel=2).scripts(plan(tmp_path, 5))
    found = options(script)
    assert (found["partition"], found["array"]) == ("gpu", "0-4%2")
    assert "requeue" in found
    assert scripts(cluster) == []
    assert not (tmp_path / "multirun").exists()


def test_a_dry_run_asks_slurm_whether_it_would_take_the_jobs(tmp_path):
    told = "allocation failure: Node count specification invalid"
    command(tmp_path, "sbatch", f'#!/bin/sh\ncat > /dev/null\necho "{told}" >&2\nexit 1\n')
    with pytest.raises(ConfigError, match="would refuse these jobs: Node count specification"):
        list(runner().scripts(plan(tmp_path, 1)))


def test_without_slurm_a_dry_run_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(submit, "max_array_size", slurm.max_array_size)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="Slurm does not answer here"):
        list(runner().scripts(plan(tmp_path, 1)))
