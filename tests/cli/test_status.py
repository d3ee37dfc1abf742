"""The status of a study, from its records and locks alone."""

import io
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from helpers import leave, point
from rich.console import Console

from samsweep.cli import status as command
from samsweep.cli.status import main
from samsweep.records.lock import FolderLock, Holder
from samsweep.records.provenance import provenance
from samsweep.records.schema import Attempt, Progress
from samsweep.records.store import CellFolder
from samsweep.records.transitions import close_abandoned
from samsweep.sweep import retry
from samsweep.sweep.manifest import LauncherSettings, launch_folders, launched
from samsweep.sweep.plan import plan_sweep
from samsweep.sweep.slurm import queue, standing
from samsweep.sweep.slurm.scheduler import JobEnd, JobState, SlurmUnavailable
from samsweep.sweep.status import StatusReader, read_status, totals


@pytest.fixture
def study(tmp_path):
    return tmp_path / "multirun" / "mine"


def ago(seconds):
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def add(study, status, *, seed=0, epoch=None, started_s=100, updated_s=0, start_step=0, **changes):
    """A cell with a record; with progress if ``epoch`` is given."""
    attempt = Attempt(
        started=ago(started_s),
        start_step=start_step,
        provenance=provenance(device="cpu", num_threads=1),
    )
    progress = epoch and Progress(
        epoch=epoch,
        num_epochs=40,
        steps_per_epoch=7,
        train_loss=1.25,
        val_accuracy=90.0,
        updated=ago(updated_s),
    )
    values = {"status": status, "attempts": (attempt,), "progress": progress, **changes}
    return leave(study.parents[1], f"seed={seed}", "study=mine", **values)


def state_of(study):
    (cell,) = read_status(study)
    return cell.state


@pytest.mark.parametrize(
    ("epoch", "start_step", "remaining"),
    [
        # Ten epochs in 100 seconds: thirty more take 300.
        (10, 0, 300),
        # Resumed at epoch 5: five in 100 seconds.
        (10, 5 * 7, 600),
        (None, 0, None),
    ],
)
def test_a_running_cell_shows_the_pace_of_its_latest_attempt(study, epoch, start_step, remaining):
    with FolderLock(add(study, "running", epoch=epoch, start_step=start_step).path):
        (cell,) = read_status(study)
    assert cell.state == "running"
    assert cell.epochs == ("10/40" if epoch else "")
    assert cell.elapsed_s == pytest.approx(100, abs=10)
    assert cell.remaining_s == (remaining and pytest.approx(remaining, rel=0.02))


def test_running_without_a_heartbeat_is_stalled(study):
    folder = add(study, "running", epoch=3)
    assert state_of(study) == "stalled"
    lock = FolderLock(folder.path)
    with lock:
        lock._holder = replace(Holder.here(), machine="elsewhere")
        assert state_of(study) == "running"
        os.utime(lock.file, (0, 0))
        assert state_of(study) == "stalled"


@pytest.mark.parametrize(
    "status", ["planned", "complete", "diverged", "failed", "interrupted", "pruned"]
)
def test_other_states_are_the_records(study, status):
    add(study, status, epoch=3)
    assert state_of(study) == status


# --------------------------------------------------------------------------- on a cluster


def sent_to_slurm(folder, job_id, settings=None):
    """As a launch leaves it whose job is ``job_id``."""
    plan = plan_sweep([point(folder.study.parents[1], "seed=0", "study=mine")])
    with launched(plan.cells, LauncherSettings(name="slurm", settings=settings or {})) as folders:
        folders[0].record_jobs({folder.key: job_id})


def slurm_says(monkeypatch, states, ends=None):
    """What the scheduler answers from now on; the list of what it was asked."""
    asked = []

    def job_states(job_ids):
        asked.append(sorted(job_ids))
        if isinstance(states, Exception):
            raise states
        return states

    for module in (queue, standing):
        monkeypatch.setattr(module, "job_states", job_states)
    monkeypatch.setattr(standing, "ends_of_jobs", lambda job_ids: ends or {})
    return asked


@pytest.mark.parametrize("record", ["planned", "running"])
@pytest.mark.parametrize(
    ("end", "state", "told"),
    [
        (JobEnd(state="FAILED", code="127:0", node="n1"), "failed", "FAILED, exit code 127:0"),
        (JobEnd(state="OUT_OF_MEMORY", code="0:125"), "failed", "OUT_OF_MEMORY"),
        (JobEnd(state="TIMEOUT", code="0:15"), "interrupted", "TIMEOUT"),
        (None, "failed", "Slurm does not remember how"),
    ],
)
def test_a_job_that_died_without_a_word_is_told_by_the_scheduler(
    study, monkeypatch, capsys, record, end, state, told
):
    folder = add(study, record)
    sent_to_slurm(folder, "41")
    (launch,) = launch_folders(study)
    (launch.path / "jobs").mkdir()
    log = launch.path / "jobs/41_0_log.err"
    log.write_text("x\n" * 20 + "bash: module: command not found\n")
    slurm_says(monkeypatch, {}, {} if end is None else {"41": end})
    (cell,) = read_status(study)
    assert cell.state == state and "job 41" in cell.where
    assert told in cell.reason and str(log) in cell.reason
    assert "module: command not found" in cell.reason
    assert cell.reason.count("x\n") < 6
    assert main(["study=mine", f"root={study.parent}", f"--logs={folder.path.name}"]) == 0
    assert "module: command not found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("end", "key", "had", "more"),
    [("OUT_OF_MEMORY", "mem_gb", 1.5, "3"), ("TIMEOUT", "timeout_min", 20, "40")],
)
def test_more_is_proposed_of_what_was_too_little_and_a_retry_takes_it(
    study, monkeypatch, capsys, end, key, had, more
):
    folder = add(study, "running")
    sent_to_slurm(folder, "41", {key: had, "per_model": {}})
    slurm_says(monkeypatch, {}, {"41": JobEnd(state=end)})
    assert main(["study=mine", f"root={study.parent}"]) == 0
    assert f"--retry hydra.launcher.{key}={more}\n" in capsys.readouterr().out
    retried = []
    monkeypatch.setattr(retry, "retry", lambda launcher, plan: retried.append(launcher.settings))
    changes = [f"hydra.launcher.{key}={more}", "+hydra.launcher.per_model.resnet8.qos=long"]
    main(["study=mine", f"root={study.parent}", "--retry", *changes])
    assert retried == [{key: int(more), "per_model": {"resnet8": {"qos": "long"}}}]


def test_resources_of_a_retry_are_checked(study, capsys):
    add(study, "failed")
    plan = plan_sweep([point(study.parents[1], "seed=0", "study=mine")])
    with launched(plan.cells, LauncherSettings(name="local")):
        pass
    where = ["study=mine", f"root={study.parent}"]
    assert main([*where, "--retry", "hydra.launcher.wrkers=2"]) == 2
    assert "did you mean 'workers'" in capsys.readouterr().err
    assert main([*where, "hydra.launcher.workers=2"]) == 2
    assert "--retry" in capsys.readouterr().err
    assert main([*where, "--retry", "hydra.launcher.workers=["]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_lock_that_an_ended_job_left_does_not_keep_its_cell_running(study, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    folder = add(study, "running", epoch=3)
    sent_to_slurm(folder, "41")
    end = JobEnd(state="OUT_OF_MEMORY", code="0:125")
    with FolderLock(folder.path) as lock:
        lock._holder = replace(lock._holder, machine="elsewhere")
        lock.file.write_text(json.dumps(vars(lock._holder)))
        slurm_says(monkeypatch, {}, {"41": end})
        assert state_of(study) == "failed"
        close_abandoned(folder, "failed", "its job 41 ended: OUT_OF_MEMORY", job_id="41")
    assert folder.read().error == "its job 41 ended: OUT_OF_MEMORY"


def test_a_later_launch_elsewhere_takes_a_cell_over(study, monkeypatch):
    folder = add(study, "planned")
    sent_to_slurm(folder, "41")
    plan = plan_sweep([point(study.parents[1], "seed=0", "study=mine")])
    with launched(plan.cells, LauncherSettings(name="local")):
        pass
    slurm_says(monkeypatch, {}, {"41": JobEnd(state="FAILED")})
    assert state_of(study) == "planned"


def test_with_the_controller_down_submitted_cells_show_their_jobs(study, monkeypatch):
    sent_to_slurm(add(study, "planned", attempts=()), "41")
    slurm_says(monkeypatch, SlurmUnavailable("Connection refused"))
    (cell,) = read_status(study)
    assert (cell.state, cell.where) == ("submitted", "job 41")


def test_all_watchers_share_one_answer_and_read_what_has_changed(study, monkeypatch):
    folder = add(study, "running", epoch=3)
    sent_to_slurm(folder, "41")
    asked = slurm_says(monkeypatch, {"41": JobState(state="RUNNING", reason="node1")})
    reads = []
    read = CellFolder.read
    monkeypatch.setattr(CellFolder, "read", lambda self: reads.append(self) or read(self))
    readers = [StatusReader(study, max_age_s=30.0) for _ in range(2)]
    for _ in range(3):
        assert all(reader.read()[0].epochs == "3/40" for reader in readers)
    assert (asked, len(reads)) == ([["41"]], 2)
    monkeypatch.setattr(CellFolder, "read", read)
    record = folder.read()
    later = record.progress.model_copy(update={"epoch": 4})
    folder.write(record.model_copy(update={"progress": later}))
    assert readers[0].read()[0].epochs == "4/40"
    kept = study / "launches/queue.json"
    kept.write_text(kept.read_text().replace('"asked": ', '"asked": 1'))
    readers[0].read()
    kept.write_text("{")
    readers[0].read()
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("last_job", "job_state", "told"),
    [
        # Stopped by itself, while its job goes on with others.
        ("41_2", "RUNNING", "interrupted"),
        # Its job was preempted, and is queued again.
        ("41_2", "PENDING", "queued"),
        # It was stopped once, and waits its turn in another job.
        ("40", "RUNNING", "queued"),
    ],
)
def test_a_stopped_cell_is_queued_if_it_will_be_taken_up(
    study, monkeypatch, last_job, job_state, told
):
    job, _, index = last_job.partition("_")
    monkeypatch.setenv("SLURM_JOB_ID", "40")
    if index:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", job)
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", index)
    sent_to_slurm(add(study, "interrupted", epoch=3), "41_2")
    states = {"41_2": JobState(state=job_state, reason="node1")}
    slurm_says(monkeypatch, states)
    (cell,) = read_status(study)
    assert cell.state == told
    assert "job 41_2" in cell.where


@pytest.mark.parametrize(("last_job", "told"), [("41", "pruned"), ("40", "queued")])
def test_a_pruned_cell_is_queued_if_another_job_resumes_it(study, monkeypatch, last_job, told):
    monkeypatch.setenv("SLURM_JOB_ID", last_job)
    sent_to_slurm(add(study, "pruned", epoch=3), "41")
    states = {"41": JobState(state="RUNNING", reason="node1")}
    slurm_says(monkeypatch, states)
    assert state_of(study) == told


def test_a_cell_stopped_before_it_began_waits_in_its_job(study, monkeypatch):
    sent_to_slurm(add(study, "interrupted", attempts=()), "41")
    states = {"41": JobState(state="RUNNING", reason="node1")}
    slurm_says(monkeypatch, states)
    assert state_of(study) == "queued"


def test_an_ended_job_has_the_name_that_it_had_in_the_queue(study, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "43")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "41")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    add(study, "failed")
    (cell,) = read_status(study)
    assert cell.where.endswith(" job 41_2")
    assert Holder.here().job_id == "41_2"


@pytest.mark.parametrize("option", [None, "--cancel", "--retry"])
def test_without_an_answer_of_slurm_the_records_speak_and_jobs_are_left_alone(
    study, monkeypatch, capsys, option
):
    folder = add(study, "interrupted", epoch=3)
    sent_to_slurm(folder, "41")
    slurm_says(monkeypatch, SlurmUnavailable("Connection refused"))
    status = main(["study=mine", f"root={study.parent}", *([option] if option else [])])
    told = capsys.readouterr()
    assert "Connection refused" in told.err and "Traceback" not in told.err
    assert (status == 0) == (option is None)
    if option is None:
        assert folder.path.name in told.out and "interrupted" in told.out


def test_a_folder_without_a_record_is_starting(study):
    (study / "cells" / "some-cell").mkdir(parents=True)
    assert state_of(study) == "starting"


def test_a_broken_record_is_a_row(study, capsys):
    folder = add(study, "complete")
    folder.record_file.write_text("{")
    assert state_of(study) == "unreadable"
    assert main(["study=mine", f"root={study.parent}", "--failed"]) == 0
    assert "record.json" in capsys.readouterr().out


def test_the_table_names_every_cell_and_the_totals(study, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    cells = [add(study, "complete", seed=0, epoch=40), add(study, "failed", seed=1, epoch=2)]
    assert main(["study=mine", f"root={study.parent}"]) == 0
    out = capsys.readouterr().out
    assert all(folder.path.name in out for folder in cells)
    assert "40/40" in out and "1.250" in out and "90.0" in out
    assert "2 cells: 1 complete, 1 failed" in out
    assert totals(read_status(study)[:1]) == "1 cell: 1 complete"


def test_failed_cells_and_measurements_show_their_traceback(study, capsys):
    add(study, "complete", seed=0)
    add(study, "failed", seed=1, error="Traceback ...\nRuntimeError: out of luck")
    add(study, "complete", seed=2, measuring_error="Traceback ...\nMemoryError: too large")
    assert [cell.state for cell in read_status(study)] == ["complete", "failed", "unmeasured"]
    main(["study=mine", f"root={study.parent}", "--failed"])
    out = capsys.readouterr().out
    assert "RuntimeError: out of luck" in out and "MemoryError: too large" in out
    assert "seed0" not in out


def test_logs_of_one_cell(study, capsys):
    folder = add(study, "complete", seed=0)
    folder.log_file.write_text("epoch 1\n")
    add(study, "complete", seed=10)
    root = ["study=mine", f"root={study.parent}"]
    for arguments in (["--logs", folder.path.name], [f"logs={folder.path.name}"]):
        assert main([*root, *arguments]) == 0
        assert capsys.readouterr().out == "epoch 1\n"
    assert main([*root, "--logs", "resnet8"]) == 2
    assert "2 cells of mine start with 'resnet8'" in capsys.readouterr().err
    assert main([*root, "--logs", "resnet8-sam-rho0.1-digits-seed10"]) == 2
    assert "has no log" in capsys.readouterr().err


def test_watch_shows_what_moves_first_and_fits_the_screen(study):
    for seed in range(8):
        add(study, "complete", seed=seed, epoch=40)
    running = add(study, "running", seed=8, epoch=3)
    failed = add(study, "failed", seed=9, epoch=3)
    with FolderLock(running.path):
        table = command._watched(read_status(study), "mine", 10)
    console = Console(file=io.StringIO(), width=150, height=10)
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert len(lines) < 10
    assert "10 cells: 8 complete, 1 running, 1 failed; 6 more below" in lines[0]
    shown = [line.split()[0] for line in lines if "resnet8" in line]
    assert shown[:2] == [running.path.name, failed.path.name]


def test_an_unknown_study_is_told(study, capsys):
    add(study, "complete")
    assert main(["study=mien", f"root={study.parent}"]) == 2
    assert "study 'mien' is unknown: did you mean 'mine'?" in capsys.readouterr().err
    assert main([f"root={study}"]) == 2
    assert "There is no study in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--study", "mine"], "study=mine"),
        (["--study=mine"], "study=mine"),
        (["mine"], "study=mine"),
        (["stduy=mine"], "'study'"),
        (["--logs"], "logs=VALUE"),
        (["study=a/b"], "not a path"),
        (["watch=maybe"], "watch=maybe"),
        (["--watch", "--failed"], "choose one"),
    ],
)
def test_what_is_no_key_and_value_is_answered_with_the_remedy(capsys, arguments, remedy):
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert remedy in told and len(told.splitlines()) == 1


def test_watch_waits_for_a_study_that_is_not_there_yet(study, capsys, monkeypatch):
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            add(study, "complete")
        if len(naps) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    assert main(["study=mine", f"root={study.parent}", "--watch"]) == 130
    told = capsys.readouterr().out
    assert "Waiting for study mine" in told and "1 cell: 1 complete" in told


#: What rich would take for markup or an emoji, and what a terminal would obey.
FOREIGN = "[bold]x[/red] :smile: \x1b[2Jy\x07\r"


@pytest.mark.parametrize("option", [None, "--failed", "--logs=resnet8"])
def test_text_from_a_record_is_shown_and_never_obeyed(study, capsys, option):
    add(study, "failed", error=f"Traceback\n{FOREIGN}")
    folder = next((study / "cells").iterdir())
    (folder / "run.log").write_text(FOREIGN)
    (folder.parent / "[red]other").mkdir()
    assert main(["study=mine", f"root={study.parent}", *([option] if option else [])]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\x07" not in printed
    if option is None:
        assert "[red]other" in printed
    else:
        assert "[bold]x[/red] :smile: \\x1b[2Jy\\x07" in printed


def test_a_summary_is_one_line_without_what_a_terminal_obeys(study):
    add(study, "failed", error=f"Traceback\n{FOREIGN}")
    (cell,) = read_status(study)
    assert cell.record.summary == "failed  [bold]x[/red] :smile: \\x1b[2Jy\\x07"
