"""The pool, with stand-ins for the work and for the devices."""

import io
import itertools
import json
import os
import signal
import threading
import time

import pytest
from helpers import compose_run
from rich.console import Console

from samsweep.records.identity import cell_id
from samsweep.records.lock import FolderLock
from samsweep.records.store import CellFolder, RecordError
from samsweep.records.transitions import register
from samsweep.sweep.display import Display
from samsweep.sweep.local import pool
from samsweep.sweep.local.pool import Pool
from samsweep.sweep.local.process import ProcessDied
from samsweep.sweep.names import names_of
from samsweep.sweep.plan import Point, plan_sweep
from samsweep.system.machine import Slot
from samsweep.system.signals import Interrupted

TWO = [Slot(num_threads=1), Slot(num_threads=1)]


class Sweep:
    """Cells of some seeds, and a pool that does something with them."""

    def __init__(self, root):
        self.root = root
        self.out = io.StringIO()

    def plan(self, *seeds, sharpness=("none",), studies=("study",)):
        points = []
        for study, seed, name in itertools.product(studies, seeds, sharpness):
            run = compose_run(f"seed={seed}", f"sharpness={name}")
            folder = CellFolder(self.root / study / "cells" / cell_id(run.cell))
            register(folder, run)
            points.append(Point(run=run, folder=folder))
        return plan_sweep(points)

    def run(self, plan, work, slots=TWO, **keys):
        console = Console(file=self.out, width=200)
        with Display(names_of(plan.cells), console) as display:
            pool = Pool(slots, display, work=f"pool_work:{work}", **keys)
            pool.run(plan.to_do, plan.elsewhere)

    def statuses(self, plan):
        return [cell.folder.read().status for cell in plan.cells]

    def noted(self, plan):
        return [json.loads((c.folder.path / "noted.json").read_text()) for c in plan.cells]

    def waits(self):
        return "runs elsewhere" in self.out.getvalue()


def lock_of(cell):
    return cell.folder.path / "lock.json"


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


@pytest.fixture
def later():
    """Call a function in a thread once a condition holds."""
    threads = []

    def start(condition, action):
        def wait():
            deadline = time.monotonic() + 30
            while not condition():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            action()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


def most_at_once(noted):
    moments = [(n["started"], 1) for n in noted] + [(n["ended"], -1) for n in noted]
    running = [0]
    for _, change in sorted(moments):
        running.append(running[-1] + change)
    return max(running)


def test_each_cell_has_a_process_and_only_so_many_run_at_a_time(sweep):
    plan = sweep.plan(*range(5))
    sweep.run(plan, "note")
    noted = sweep.noted(plan)
    assert sweep.statuses(plan) == ["complete"] * 5
    assert len({n["pid"] for n in noted}) == 5
    assert os.getpid() not in {n["pid"] for n in noted}
    assert most_at_once(noted) == 2
    assert "5/5" in sweep.out.getvalue()


def test_cells_are_bound_to_the_gpus_of_their_slots(sweep):
    """Two GPUs, two cells each: every GPU is used, and never by three."""
    slots = [Slot(num_threads=3, gpu=name) for name in ("a", "b", "a", "b")]
    plan = sweep.plan(*range(8))
    sweep.run(plan, "note", slots)
    noted = sweep.noted(plan)
    assert {n["num_threads"] for n in noted} == {3}
    for gpu in ("a", "b"):
        mine = [n for n in noted if n["gpu"] == gpu]
        assert len(mine) >= 2
        assert most_at_once(mine) <= 2
    assert "started, GPU a" in sweep.out.getvalue()


def test_a_sweep_may_span_studies_with_equal_cells(sweep):
    plan = sweep.plan(6, 7, studies=("one", "two"))
    sweep.run(plan, "note")
    assert sweep.statuses(plan) == ["complete"] * 4
    lines = sweep.out.getvalue().splitlines()
    for cell in plan.cells:
        assert any("started" in line and "/".join(cell.key) in line for line in lines)


def test_measurements_of_one_cell_are_one_process_in_order(sweep):
    plan = sweep.plan(0, sharpness=("lambda_max", "top5"))
    sweep.run(plan, "note")
    (noted,) = sweep.noted(plan)
    assert noted["measures"] == [["lambda_max"], ["top5"]]


def test_a_cell_that_dies_leaves_the_others_running(sweep):
    plan = sweep.plan(0, 1, 2, 3, 5, 6, 4)
    sweep.run(plan, "by_seed")
    *others, broken = plan.cells
    records = [cell.folder.read() for cell in others]
    assert [record.status for record in records] == ["failed"] * 4 + ["complete"] * 2
    with pytest.raises(RecordError):
        broken.folder.read()
    errors = [record.error for record in records]
    assert errors[0].startswith("its process was killed (SIGKILL): out of memory?")
    assert errors[1].startswith("its process ended with SIGABRT")
    assert errors[2] == "OSError: no space left"
    assert errors[3] == "Traceback\nRuntimeError: out of luck"
    out = sweep.out.getvalue()
    assert "7/7" in out
    assert "failed  RuntimeError: out of luck" in out
    assert "nor can its record be written" in out


def test_a_cell_that_exits_in_the_middle_is_called_failed(sweep):
    """Whatever its status says: a component of the user's may call os._exit."""
    plan = sweep.plan(17, 18, 5)
    sweep.run(plan, "by_seed")
    assert sweep.statuses(plan) == ["failed", "failed", "complete"]
    for cell, status in zip(plan.cells, (0, 3), strict=False):
        assert f"ended with status {status} in the middle" in cell.folder.read().error


def test_fewer_cells_run_at_a_time_where_no_more_processes_can(sweep, monkeypatch):
    start, times = pool.start, []

    def none(*arguments):
        raise ProcessDied("could not be started")

    def scarce(*arguments):
        times.append(arguments)
        return none() if len(times) == 2 else start(*arguments)

    monkeypatch.setattr(pool, "start", scarce)
    plan = sweep.plan(*range(3))
    sweep.run(plan, "note")
    assert sweep.statuses(plan) == ["complete"] * 3
    assert most_at_once(sweep.noted(plan)) == 1
    assert "One more process could not be started; 1 at a time." in sweep.out.getvalue()

    monkeypatch.setattr(pool, "start", none)
    with pytest.raises(ProcessDied, match="want of memory: free some"):
        sweep.run(sweep.plan(9), "note")


def test_fail_fast_stops_the_others_in_an_orderly_way(sweep):
    plan = sweep.plan(0, 2, 3)
    sweep.run(plan, "fail_or_wait", fail_fast=True)
    assert sweep.statuses(plan) == ["failed", "interrupted", "planned"]
    assert "fail_fast=true" in sweep.out.getvalue()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_and_each_saves_its_state(sweep, later, signum):
    plan = sweep.plan(0, 2, 3)
    at_work = [cell.folder.path / "at work" for cell in plan.cells[:2]]
    later(lambda: all(f.exists() for f in at_work), lambda: os.kill(os.getpid(), signum))
    with pytest.raises(Interrupted) as caught:
        sweep.run(plan, "until_told")
    assert caught.value.code == 128 + signum
    assert sweep.statuses(plan) == ["interrupted", "interrupted", "planned"]
    assert "Stopping: each cell saves its state" in sweep.out.getvalue()


def test_a_second_ctrl_c_is_immediate(sweep, later):
    """The cell of seed 1 does not stop when told."""
    plan = sweep.plan(1, 0)
    at_work = [cell.folder.path / "at work" for cell in plan.cells]
    later(lambda: all(f.exists() for f in at_work), lambda: os.kill(os.getpid(), signal.SIGINT))
    later(lambda: "2  " in sweep.out.getvalue(), lambda: os.kill(os.getpid(), signal.SIGINT))
    started = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        sweep.run(plan, "until_told")
    assert caught.value.code == 130
    assert time.monotonic() - started < 20
    assert sweep.statuses(plan) == ["interrupted", "interrupted"]
    assert "stopped at once" in plan.cells[0].folder.read().error


def test_a_single_cell_that_is_stopped_leaves_the_others_running(sweep, later):
    plan = sweep.plan(0, 2)
    at_work = [cell.folder.path / "at work" for cell in plan.cells]

    def stop(file):
        os.kill(int(file.read_text()), signal.SIGTERM)

    later(lambda: all(f.exists() for f in at_work), lambda: stop(at_work[0]))
    later(
        lambda: plan.cells[0].folder.read().status == "interrupted",
        lambda: stop(at_work[1]),
    )
    sweep.run(plan, "until_told", fail_fast=True)
    assert sweep.statuses(plan) == ["interrupted", "interrupted"]
    assert "fail_fast" not in sweep.out.getvalue()


def test_cells_that_run_elsewhere_are_waited_for(sweep, later):
    plan = sweep.plan(0)
    (cell,) = plan.cells
    with FolderLock(cell.folder.path):
        elsewhere = sweep.plan(0)
        assert elsewhere.elsewhere

        def finish():
            record = cell.folder.read().model_copy(update={"status": "complete"})
            cell.folder.write(record)
            lock_of(cell).unlink()

        later(sweep.waits, finish)
        sweep.run(elsewhere, "by_seed")
    assert "complete, elsewhere" in sweep.out.getvalue()
    assert "started" not in sweep.out.getvalue()


def test_a_cell_whose_owner_dies_is_resumed(sweep, later):
    plan = sweep.plan(7)
    (cell,) = plan.cells
    with FolderLock(cell.folder.path):
        elsewhere = sweep.plan(7)
        later(sweep.waits, lock_of(cell).unlink)
        sweep.run(elsewhere, "by_seed")
    assert "resumed here" in sweep.out.getvalue()
    assert sweep.statuses(plan) == ["complete"]


def test_a_cell_that_turns_out_to_be_busy_is_come_back_to(sweep, later):
    plan = sweep.plan(0)
    (cell,) = plan.cells
    with FolderLock(cell.folder.path):
        later(sweep.waits, lock_of(cell).unlink)
        sweep.run(plan, "busy")
    assert sweep.statuses(plan) == ["complete"]
