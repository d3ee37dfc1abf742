"""A cell's W&B run over all the processes that work on it, read with W&B's own tools."""

import importlib
import json
import os
import signal
import subprocess

import pytest
from helpers import compose_run, make_folder, start, wait_until
from helpers import run as command
from wandb_tools import inspect, of_kind

from samsweep.records.identity import CellKey, cell_id
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder
from samsweep.system.signals import Interrupted
from samsweep.tracking import start_tracker
from samsweep.training.cell import CellFailed, run_cell
from samsweep.training.trainer import Trainer

#: The package has a function of the module's name.
measuring = importlib.import_module("samsweep.sharpness.measures")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

QUICK = ("epochs=3", "sharpness=none", "tracking=wandb", "checkpoint_every_steps=1000")
STEPS = 7
#: For a command that is to be disturbed.
LONG = ("epochs=12", "sharpness=none", "tracking=wandb", "num_threads=1")


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """W&B gives its service half a minute to start, too little on a machine with other work."""
    monkeypatch.setenv("WANDB_X_SERVICE_WAIT", "120")


@pytest.fixture
def folder(tmp_path):
    return CellFolder(make_folder(tmp_path, cell_id(compose_run(*QUICK).cell)))


def run(folder, *overrides):
    return run_cell(compose_run(*QUICK, *overrides), folder)


@pytest.fixture
def at_step(monkeypatch):
    """Have something done during one optimizer step."""
    original = Trainer.take_step

    def arrange(step, action):
        def disturbed(self, indices):
            if self.total_steps == step:
                action()
            original(self, indices)

        monkeypatch.setattr(Trainer, "take_step", disturbed)

    yield arrange


@pytest.fixture
def stopped(at_step, folder):
    """Runs the cell until a signal comes during one optimizer step."""

    def run_to(step, *overrides):
        at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(folder, *overrides)
        at_step(-1, None)

    return run_to


def segment_files(folder):
    """The files of a cell's segments, oldest first; not W&B's link to the latest."""
    found = [path for path in folder.glob("wandb/*run-*/*.wandb") if not path.parent.is_symlink()]
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def segments(folder):
    return [inspect(file) for file in segment_files(folder.path)]


def steps(records):
    return [line["step"]["num"] for line in of_kind(records, "history")]


def sync(folder):
    segments = [file.parent for file in segment_files(folder.path)]
    done = command(folder.path, "sync", *segments, module="wandb", check=False)
    return done.stdout + done.stderr


# --------------------------------------------------------------------------- offline


def test_a_resumed_cell_continues_its_run_in_a_second_segment(folder, stopped):
    stopped(STEPS + 3, "study=mine")
    run(folder, "study=mine")

    first, second = segments(folder)
    assert [steps(first), steps(second)] == [[1], [2, 3]]
    runs = [of_kind(records, "run") for records in (first, second)]
    assert [len(found) for found in runs] == [1, 1]
    for key in ("run_id", "run_group", "project", "display_name", "resume", "config"):
        assert runs[0][0][key] == runs[1][0][key]
    assert runs[0][0]["run_id"] == f"mine.{folder.path.name}"
    assert runs[0][0]["run_group"] == "mine"
    assert {metric["step_metric"] for metric in of_kind(first, "metric")} == {"epoch"}
    assert [end["exit_code"] for end in of_kind(first, "exit")] == [1]
    assert len(of_kind(first, "preempting")) == 1
    assert [end["exit_code"] for end in of_kind(second, "exit")] == [0]


def test_rows_are_those_of_the_history_and_the_summary_is_the_record(folder, stopped):
    stopped(STEPS + 3)
    run(folder, "sharpness=lambda_max", "sharpness.num_examples=100")

    told = [row["item"] for records in segments(folder) for row in of_kind(records, "history")]
    for row, expected in zip(told, folder.read_history(), strict=True):
        layers = {f"layer_cosines/{k}": v for k, v in expected.pop("layer_cosines", {}).items()}
        expected |= layers
        assert {key: row[key] for key in expected} == expected
    record = folder.read()
    summary = {}
    for change in of_kind(segments(folder)[-1], "summary"):
        summary |= change["update"]
    assert summary["status"] == "complete"
    assert summary["test_accuracy"] == record.metrics.test_accuracy
    (key,) = record.measurements
    assert summary[f"{key}/lambda_max"] == record.measurements[key].result["lambda_max"]


def test_an_epoch_that_is_trained_again_is_not_told_again(folder, stopped):
    """The second epoch was told, and the checkpoint that came after it got lost."""
    stopped(STEPS + 1)
    saved = folder.checkpoint_file.read_bytes()
    stopped(2 * STEPS + 3)
    folder.checkpoint_file.write_bytes(saved)
    run(folder)
    assert [steps(records) for records in segments(folder)] == [[1], [2], [3]]


@pytest.mark.slow
def test_what_a_killed_process_had_not_written_yet_is_made_up_for(tmp_path):
    """W&B writes in blocks: after SIGKILL the file holds nothing, and nobody could read it."""
    killed = start(tmp_path, *LONG)
    (folder,) = wait_for_epoch(tmp_path, 2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert len(told_in(folder)) < len(folder.read_history())
    finish(tmp_path)
    assert told_in(folder) == list(range(1, 13))


def told_in(folder):
    """Steps of all segments, in order."""
    return [step for records in segments(folder) for step in steps(records)]


def finish(root):
    going_on = start(root, *LONG)
    out, _ = going_on.communicate()
    assert going_on.returncode == 0, out


def wait_for_epoch(root, number):
    def reached():
        records = [json.loads(f.read_text()) for f in root.glob("multirun/*/cells/*/record.json")]
        return any((record["progress"] or {}).get("epoch", 0) >= number for record in records)

    wait_until(reached)
    return [CellFolder(file.parent) for file in root.glob("multirun/*/cells/*/record.json")]


@pytest.mark.slow
def test_the_service_dies_of_a_signal_to_the_job_and_the_next_process_makes_up_for_it(tmp_path):
    """Slurm's SIGTERM goes to every process of a job, W&B's own among them."""
    preempted = start(tmp_path, *LONG)
    (folder,) = wait_for_epoch(tmp_path, 2)
    subprocess.run(["pkill", "-TERM", "-P", str(preempted.pid), "wandb-core"], check=True)
    preempted.terminate()
    out, _ = preempted.communicate()
    assert preempted.returncode == 143, out
    assert folder.read().status == "interrupted"
    assert out.count("tracking stopped") == 1
    finish(tmp_path)
    assert told_in(folder) == list(range(1, 13))


# --------------------------------------------------------------------------- how a run ends


def last_exit(folder):
    (*_, end) = of_kind(segments(folder)[-1], "exit")
    return end["exit_code"]


def test_a_failed_cell_is_a_failed_run(folder, at_step):
    at_step(STEPS + 3, lambda: 1 / 0)
    with pytest.raises(CellFailed):
        run(folder)
    assert last_exit(folder) == 1
    assert of_kind(segments(folder)[-1], "preempting") == []


def test_a_diverged_cell_is_a_failed_run(folder):
    run(folder, "lr=1e20")
    assert folder.read().status == "diverged"
    assert last_exit(folder) == 1


def test_a_pruned_cell_is_no_failed_run(folder):
    run(folder, "pruner=threshold", "pruner_args.lower=101")
    assert folder.read().status == "pruned"
    assert last_exit(folder) == 0
    assert of_kind(segments(folder)[-1], "preempting") == []


def test_a_cell_that_could_not_be_measured_is_a_failed_run(folder, monkeypatch):
    def fail(*arguments, **known):
        raise RuntimeError("no curvature")

    monkeypatch.setattr(measuring, "measure", fail)
    with pytest.raises(CellFailed):
        run(folder, "sharpness=lambda_max")
    assert last_exit(folder) == 1


# --------------------------------------------------------------------------- upload


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
def test_synced_segments_are_one_run_with_every_epoch_once(folder, stopped, server, at_once):
    name = f"default.{folder.path.name}"
    stopped(STEPS + 3)
    if not at_once:
        sync(folder)
        assert server.steps(name) == [1]
    run(folder)
    told = sync(folder)
    assert server.steps(name) == [1, 2, 3], told
    assert server.groups == {name: {"default"}}
    assert server.ends[name] == [1, 0]
    assert server.summaries[name]["status"] == "complete"
    sync(folder)
    assert server.steps(name) == [1, 2, 3]


def test_a_segment_that_was_cut_off_is_replaced_and_uploads_whole(tmp_path, server):
    """Cut at any place, it would end ``wandb sync``."""
    record, _ = made_up_run(tmp_path, range(1, 60))
    (file,) = segment_files(tmp_path)
    os.truncate(file, 70_000)
    (file.parent / "closed").unlink()
    made_up_run(tmp_path, range(1, 65))
    (file,) = segment_files(tmp_path)
    assert steps(inspect(file)) == list(range(1, 65))
    sync(CellFolder(tmp_path))
    assert server.steps(f"default.{record.cell_id}") == list(range(1, 65))


# --------------------------------------------------------------------------- online


def test_online_a_resumed_cell_continues_what_the_server_has(folder, stopped, server):
    online = "tracking.mode=online"
    stopped(STEPS + 3, online)
    name = f"default.{folder.path.name}"
    assert server.steps(name) == [1]
    # What the server did not get is told again.
    server.history[name].clear()
    server.summaries.clear()
    run(folder, online)
    assert server.steps(name) == [1, 2, 3]
    assert server.ends[name] == [1, 0]


def test_equal_cells_of_two_studies_are_two_runs(tmp_path, server):
    for study in ("first", "second"):
        record, _ = made_up_run(tmp_path / study, [1, 2], 0, "tracking.mode=online", study=study)
    names = [f"{study}.{record.cell_id}" for study in ("first", "second")]
    assert list(server.history) == names
    assert [server.steps(name) for name in names] == [[1, 2], [1, 2]]
    assert server.groups == {names[0]: {"first"}, names[1]: {"second"}}


def test_without_network_a_run_is_written_for_later(folder, monkeypatch, caplog):
    from samsweep.tracking import wandb_tracker

    monkeypatch.setattr(wandb_tracker, "_INIT_TIMEOUT_S", 1.0)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    run(folder, "tracking.mode=online")
    assert folder.read().status == "complete"
    assert caplog.text.count("W&B cannot be reached") == 1
    offline = [file for file in segment_files(folder.path) if "offline" in file.parent.name]
    assert [steps(inspect(file)) for file in offline] == [[1, 2, 3]]


def test_without_a_key_a_run_is_written_for_later(folder, caplog):
    run(folder, "tracking.mode=online")
    assert folder.read().status == "complete"
    assert "No API key" in caplog.text
    assert [steps(records) for records in segments(folder)] == [[1, 2, 3]]


# --------------------------------------------------------------------------- a failing W&B


def test_a_w_and_b_that_cannot_start_is_told_once_and_done_without(folder, monkeypatch, caplog):
    import wandb

    def full(**keys):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb, "init", full)
    run(folder, "sharpness=lambda_max", "sharpness.num_examples=100")
    assert folder.read().status == "complete"
    assert caplog.text.count("tracking stopped") == 1
    assert "No space left on device" in caplog.text


@pytest.mark.slow
def test_a_w_and_b_that_dies_on_the_way_is_told_once_and_done_without(tmp_path):
    going_on = start(tmp_path, *LONG)
    (folder,) = wait_for_epoch(tmp_path, 2)
    subprocess.run(["pkill", "-KILL", "-P", str(going_on.pid), "wandb-core"], check=True)
    out, _ = going_on.communicate()
    assert going_on.returncode == 0, out
    assert folder.read().status == "complete"
    assert out.count("tracking stopped") == 1


# --------------------------------------------------------------------------- files


def made_up_run(folder, epochs, padding=1000, *overrides, study="default"):
    """A cell's run that told some epochs, in a folder."""
    folder.mkdir(exist_ok=True)
    run_config = compose_run("tracking=wandb", f"study={study}", *overrides)
    record = Record.planned(run_config)
    tracker = start_tracker(run_config.tracking, record, folder)
    rows = [{"epoch": epoch, "train_loss": 1.0 / epoch, "pad": "x" * padding} for epoch in epochs]
    for row in rows:
        tracker.log_epoch(row)
    tracker.finish(record.model_copy(update={"status": "complete"}))
    return record, rows


@pytest.mark.parametrize("left", ["closed", "run.wandb.synced", None])
def test_a_run_that_began_under_the_id_of_the_cell_alone_goes_on_under_it(tmp_path, left):
    """So did runs of earlier versions; of one that left nothing to upload there is no such run."""
    id_alone = Record.planned(compose_run("tracking=wandb")).cell_id
    began = tmp_path / f"wandb/offline-run-20250101_000000-{id_alone}"
    began.mkdir(parents=True)
    if left is not None:
        (began / left).touch()
    made_up_run(tmp_path, [1])
    (file,) = segment_files(tmp_path)
    expected = f"default.{id_alone}" if left is None else id_alone
    assert file.name == f"run-{expected}.wandb"


def test_an_id_is_never_longer_than_w_and_b_takes():
    from samsweep.tracking.wandb_tracker import run_id

    ids = {run_id(CellKey(study="s" * 100, cell_id=f"{'c' * 60}{end}")) for end in "ab"}
    assert {len(each) for each in ids} == {128} and len(ids) == 2


def test_an_uploaded_segment_is_kept(tmp_path):
    made_up_run(tmp_path, range(1, 5))
    (file,) = segment_files(tmp_path)
    (file.parent / "closed").unlink()
    file.with_name(f"{file.name}.synced").touch()
    made_up_run(tmp_path, range(1, 5))
    assert file in segment_files(tmp_path)
