"""What a job of a cluster does around its pool."""

import logging
import signal

import pytest
from helpers import point
from submitit.core.utils import UncompletedJobError

from samsweep.config import PruningConfig
from samsweep.records.provenance import code_fingerprint
from samsweep.records.schema import CellFailed
from samsweep.records.transitions import register
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.slurm import job
from samsweep.sweep.slurm.job import CellJob
from samsweep.system.machine import Machine
from samsweep.system.signals import Interrupted


@pytest.fixture(autouse=True)
def handlers():
    """Those of this process are put back."""
    names = (signal.SIGCONT, signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
    before = {name: signal.getsignal(name) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.fixture
def cells(tmp_path):
    """Two planned cells."""
    points = [point(tmp_path, f"seed={seed}", "sharpness=none") for seed in (0, 1)]
    for each in points:
        register(each.folder, each.run)
    return [(each.folder, each.run) for each in points]


@pytest.fixture
def pool(monkeypatch):
    """A pool that does what the test says, on a machine of two cores."""

    class Stub:
        work = staticmethod(lambda cells: None)
        settings = {}

        def __init__(self, slots, display, **settings):
            Stub.settings = settings

        def run(self, cells):
            Stub.work(cells)

    machine = Machine(host="node", num_cores=2, device="cpu")
    monkeypatch.setattr(job, "machine_of", lambda plan, download: machine)
    monkeypatch.setattr(job, "Pool", Stub)
    return Stub


def job_of(cells, **changes):
    usual = {
        "cells": tuple((folder.path, (run,)) for folder, run in cells),
        "settings": PoolSettings(),
        "code": code_fingerprint(),
    }
    return CellJob(**(usual | changes))


def set_status(folder, status, **changes):
    folder.write(folder.read().model_copy(update={"status": status, **changes}))


def finish(cells):
    for cell in cells:
        set_status(cell.folder, "complete")


def errors(cells):
    return [(folder.read().status, folder.read().error) for folder, _ in cells]


def test_finished_cells_end_the_job_well(cells, pool):
    pool.work = finish
    job_of(cells)()
    job_of(cells)()  # queued again by mistake: there is nothing to do


def test_pruned_cells_end_the_job_well(cells, pool):
    pruned = [
        (f, run.model_copy(update={"pruning": PruningConfig(name="median")})) for f, run in cells
    ]
    pool.work = lambda cells: [set_status(cell.folder, "pruned") for cell in cells]
    job_of(pruned)()
    pool.work = None  # queued again, there is nothing to do
    job_of(pruned)()


def test_an_unfinished_cell_fails_the_job(cells, pool):
    pool.work = lambda cells: set_status(cells[0].folder, "failed", error="out of luck")
    with pytest.raises(CellFailed, match="2 of 2 cells not finished: 1 failed, 1 planned"):
        job_of(cells)()


def test_what_keeps_a_job_from_beginning_is_in_the_records(cells, monkeypatch):
    def no_device(plan, download):
        raise OSError("no such device")

    monkeypatch.setattr(job, "machine_of", no_device)
    set_status(cells[0][0], "complete")
    with pytest.raises(OSError, match="no such device"):
        job_of(cells)()
    (first, _), (second, error) = errors(cells)
    assert (first, second) == ("complete", "failed")
    assert "OSError: no such device" in error


def test_other_source_is_warned_of(cells, pool, caplog):
    pool.work = finish
    with caplog.at_level(logging.WARNING):
        job_of(cells, code="another")()
    assert "source has changed" in caplog.text


def test_other_source_can_be_refused(cells, pool):
    with pytest.raises(CellFailed, match="on_code_change=refuse: submit the sweep again"):
        job_of(cells, code="another", on_code_change="refuse")()
    assert [status for status, _ in errors(cells)] == ["failed"] * 2


def stopped_by(signum):
    def work(cells):
        set_status(cells[0].folder, "interrupted")
        raise Interrupted(signum)

    return work


def test_out_of_time_the_job_is_handed_back_to_submitit(cells, pool):
    """After everything is saved its handler hears the signal."""
    heard = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: heard.append(errors(cells)[0][0]))
    pool.work = stopped_by(signal.SIGUSR2)
    with pytest.raises(Interrupted):
        job_of(cells)()
    assert heard == ["interrupted"]


def test_preempted_the_job_is_left_to_slurm(cells, pool):
    signal.signal(signal.SIGUSR2, lambda signum, frame: pytest.fail("requeued twice"))
    pool.work = stopped_by(signal.SIGTERM)
    with pytest.raises(Interrupted):
        job_of(cells)()
    assert [status for status, _ in errors(cells)] == ["interrupted", "planned"]


def test_out_of_time_once_too_often(cells, pool):
    def refuse(signum, frame):
        raise UncompletedJobError("Job not requeued because: timed-out too many times.")

    signal.signal(signal.SIGUSR2, refuse)
    pool.work = stopped_by(signal.SIGUSR2)
    with pytest.raises(CellFailed, match="timed-out too many times"):
        job_of(cells)()
    assert [status for status, _ in errors(cells)] == ["interrupted"] * 2
    assert all("raise timeout_min or max_num_timeout" in error for _, error in errors(cells))


def test_continuing_after_a_pause_calls_no_handler_that_logs(cells, pool):
    """Submitit's handler of SIGCONT logs, in the middle of whatever is being logged."""
    signal.signal(signal.SIGCONT, lambda signum, frame: pytest.fail("logged in a handler"))

    def work(cells):
        signal.raise_signal(signal.SIGCONT)
        finish(cells)

    pool.work = work
    job_of(cells)()


def test_submitit_submits_the_same_job_again(cells):
    wanted = job_of(cells)
    assert wanted.checkpoint().function is wanted
