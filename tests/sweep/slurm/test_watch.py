"""Waiting for the jobs of a cluster that is stood in for: its answers are a script."""

import os
import signal
import threading

import pytest
from helpers import point

from samsweep.records.lock import FolderLock
from samsweep.records.provenance import provenance
from samsweep.records.schema import Attempt
from samsweep.records.transitions import register
from samsweep.sweep.plan import plan_sweep
from samsweep.sweep.slurm import watch as wait
from samsweep.sweep.slurm.scheduler import JobEnd, JobState, SlurmUnavailable
from samsweep.sweep.slurm.watch import JobWatch
from samsweep.system.signals import Interrupted

RUNNING = JobState(state="RUNNING", reason="node1")
PENDING = JobState(state="PENDING", reason="BeginTime")
DOWN = SlurmUnavailable("Unable to contact slurm controller")


class FakeDisplay:
    """Remembers what it is told."""

    def __init__(self):
        self.said = []
        self.ends = {}

    def print(self, text):
        self.said.append(text)

    def ended(self, cell, summary):
        self.ends[cell] = summary


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(wait, "_POLL_EVERY_S", 0.0)


@pytest.fixture
def cell(tmp_path):
    return make_cell(tmp_path, 0)


def make_cell(root, seed, sharpness="none"):
    """A cell that was registered when its job was submitted."""
    asked = point(root, f"seed={seed}", f"sharpness={sharpness}")
    register(asked.folder, asked.run)
    return plan_sweep([asked]).cells[0]


def watch(monkeypatch, jobs, script, end="", node=""):
    """Wait, while Slurm answers what the script says; a callable is something that happens."""
    answers = iter(script)

    def job_states(wanted):
        assert list(wanted), "asked about no jobs"
        answer = next(answers)
        while callable(answer):
            answer()
            answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(wait, "job_states", job_states)

    def ends_of_jobs(job_ids):
        found = {}
        for job_id in job_ids:
            told = end(job_id) if callable(end) else end
            state, _, code = told.partition(", exit code ")
            found |= {job_id: JobEnd(state=state, code=code, node=node)} if told else {}
        return found

    monkeypatch.setattr(wait, "ends_of_jobs", ends_of_jobs)
    display = FakeDisplay()
    JobWatch(jobs, display).wait()
    assert list(answers) == [], "ended early"
    return display


def becomes(cell, status, **more):
    """The record says so."""

    def change():
        cell.folder.write(cell.folder.read().model_copy(update={"status": status, **more}))

    return change


def test_a_job_that_is_gone_with_a_finished_cell(monkeypatch, cell):
    script = [{"41": PENDING}, {"41": RUNNING}, becomes(cell, "complete"), {}]
    display = watch(monkeypatch, {"41": (cell,)}, script, end="COMPLETED, exit code 0:0")
    assert cell.folder.read().status == "complete"
    assert display.said == ["jobs: 1 pending (BeginTime)", "jobs: 1 running"]
    assert display.ends == {cell.key: "complete"}


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("CANCELLED, exit code 0:15", "interrupted"),
        ("TIMEOUT, exit code 0:15", "interrupted"),
        ("PREEMPTED, exit code 0:15", "interrupted"),
        ("NODE_FAIL, exit code 1:0", "interrupted"),
        ("OUT_OF_MEMORY, exit code 0:125", "failed"),
        ("FAILED, exit code 1:0", "failed"),
        ("", "failed"),
    ],
)
def test_a_job_that_is_gone_without_a_word_is_accounted_for(monkeypatch, cell, end, status):
    script = [{"41": RUNNING}, becomes(cell, "running"), {}, {}]
    display = watch(monkeypatch, {"41": (cell,)}, script, end=end)
    record = cell.folder.read()
    assert record.status == status
    assert "its job 41 ended" in record.error
    assert (end or "does not remember how") in record.error
    assert cell.key in display.ends


def test_a_cell_that_was_stopped_stays_so_and_learns_how_its_job_ended(monkeypatch, cell):
    script = [{"41": RUNNING}, becomes(cell, "interrupted"), {}, {}]
    watch(monkeypatch, {"41": (cell,)}, script, end="FAILED, exit code 1:0")
    record = cell.folder.read()
    assert record.status == "interrupted"
    assert record.error == "its job 41 ended: FAILED, exit code 1:0"


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_what_the_cell_says_itself_is_left_as_it_is(monkeypatch, cell, status):
    script = [{"41": RUNNING}, becomes(cell, status, error="of its own"), {}, {}]
    watch(monkeypatch, {"41": (cell,)}, script, end="FAILED, exit code 1:0")
    record = cell.folder.read()
    assert (record.status, record.error) == (status, "of its own")


def test_a_requeued_job_is_missing_for_a_moment_and_waited_for(monkeypatch, cell):
    script = [
        {"41": RUNNING},
        becomes(cell, "interrupted"),
        {},
        {"41": PENDING},
        {},
        {"41": RUNNING},
        becomes(cell, "complete"),
        {},
    ]
    display = watch(monkeypatch, {"41": (cell,)}, script)
    assert display.ends == {cell.key: "complete"}


def test_a_controller_that_is_down_for_a_while_loses_nothing(monkeypatch, cell):
    script = [{"41": RUNNING}, DOWN, DOWN, DOWN, {"41": RUNNING}, becomes(cell, "complete"), {}]
    display = watch(monkeypatch, {"41": (cell,)}, script)
    assert display.said == [
        "jobs: 1 running",
        "jobs: Slurm does not answer (Unable to contact slurm controller); asking again",
        "jobs: 1 running",
    ]
    assert display.ends == {cell.key: "complete"}


def test_an_answer_that_does_not_come_is_no_missing_job(monkeypatch, cell):
    """Two answers without the job are needed, however often there was none."""
    script = [becomes(cell, "running"), {}, DOWN, {"41": RUNNING}, {}, DOWN, {}]
    watch(monkeypatch, {"41": (cell,)}, script, end="FAILED, exit code 1:0")
    assert cell.folder.read().status == "failed"


def test_each_job_is_settled_when_it_is_gone(monkeypatch, tmp_path):
    first, second, third = (make_cell(tmp_path, seed) for seed in range(3))
    jobs = {"41_0": (first, second), "41_1": (third,)}
    script = [
        {"41_0": RUNNING, "41_1": RUNNING},
        becomes(first, "complete"),
        {"41_1": RUNNING},
        {"41_1": RUNNING},
        becomes(third, "complete"),
        {},
    ]
    display = watch(monkeypatch, jobs, script, end=lambda job_id: f"FAILED of {job_id}")
    assert [cell.folder.read().status for cell in (first, second, third)] == [
        "complete",
        "failed",
        "complete",
    ]
    assert "its job 41_0 ended: FAILED of 41_0" in second.folder.read().error
    assert display.ends.keys() == {first.key, second.key, third.key}


def test_a_cell_that_somebody_works_on_is_left_to_them(monkeypatch, cell):
    with FolderLock(cell.folder.path):
        becomes(cell, "running")()
        watch(monkeypatch, {"41": (cell,)}, [{}, {}], end="FAILED")
        assert cell.folder.read().status == "running"


def test_a_signal_ends_the_waiting_and_not_the_jobs(monkeypatch, cell):
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.05)

    monkeypatch.setattr(wait, "_POLL_EVERY_S", 30.0)
    with pytest.raises(Interrupted) as stop:
        watch(monkeypatch, {"41": (cell,)}, [interrupt, {"41": RUNNING}])
    assert stop.value.signum == signal.SIGINT
    assert cell.folder.read().status == "planned"


@pytest.mark.parametrize(
    ("before", "after", "end", "told"),
    [
        (None, "no weights", "FAILED, exit code 1:0", "no weights"),
        ("no weights", "no weights", "FAILED, exit code 1:0", "no weights"),
        ("no device", "no weights", "", "no weights"),
        (None, None, "FAILED, exit code 1:0", "its job 41 ended: FAILED, exit code 1:0"),
        ("no weights", "no weights", "OUT_OF_MEMORY", "its job 41 ended: OUT_OF_MEMORY"),
    ],
)
def test_why_a_measurement_failed_is_said_by_the_cell_if_it_can(
    monkeypatch, cell, before, after, end, told
):
    becomes(cell, "complete", measuring_error=before)()
    to_measure = make_cell(cell.folder.study.parents[1], 0, "top5")
    script = [{"41": RUNNING}, becomes(cell, "complete", measuring_error=after), {}, {}]
    watch(monkeypatch, {"41": (to_measure,)}, script, end=end)
    assert cell.folder.read().measuring_error == told


def test_a_node_on_which_two_jobs_died_before_a_cell_began_is_excluded(monkeypatch, tmp_path):
    cells = [make_cell(tmp_path, seed) for seed in range(4)]
    jobs = {f"41_{n}": (cell,) for n, cell in enumerate(cells)}
    queues = [range(4), (1, 2, 3), (1, 2, 3), (2, 3), (2, 3), (3,), (3,), (), ()]
    script = [{f"41_{n}": PENDING for n in numbers} for numbers in queues]
    asked = []

    def exclude_node(node, job_ids):
        asked.append((node, sorted(job_ids)))
        return True

    monkeypatch.setattr(wait, "exclude_node", exclude_node)
    display = watch(monkeypatch, jobs, script, end="FAILED, exit code 127:0", node="n7")
    assert asked == [("n7", ["41_2", "41_3"])]
    assert any("n7 failed twice" in line for line in display.said)


def test_jobs_whose_cells_began_do_not_speak_against_a_node(monkeypatch, tmp_path):
    cells = [make_cell(tmp_path, seed) for seed in range(3)]
    for number, cell in enumerate(cells):
        here = provenance(device="cpu", num_threads=1).model_copy(update={"job_id": f"41_{number}"})
        attempt = Attempt(started="2026-01-01T00:00:00+00:00", provenance=here)
        becomes(cell, "running", attempts=(attempt,))()
    jobs = {f"41_{n}": (cell,) for n, cell in enumerate(cells)}
    script = [{f"41_{n}": RUNNING for n in range(3)}, {"41_2": PENDING}, {"41_2": PENDING}, {}, {}]
    monkeypatch.setattr(wait, "exclude_node", lambda *_: pytest.fail("excluded"))
    watch(monkeypatch, jobs, script, end="FAILED, exit code 1:0", node="n7")
