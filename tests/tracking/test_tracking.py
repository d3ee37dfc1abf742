"""Tracking: nothing by default, W&B offline without an account."""

import pytest
from helpers import compose_run
from helpers import run as command

from samsweep.config import TrackingConfig
from samsweep.records.schema import Record
from samsweep.tracking import NoTracker, start_tracker


def test_none_imports_nothing_of_wandb(tmp_path):
    code = (
        "import sys, samsweep.training.cell, samsweep.tracking\n"
        "assert not any(name.split('.')[0] == 'wandb' for name in sys.modules)"
    )
    command(tmp_path, code=code)


def test_none_keeps_quiet(tmp_path):
    record = Record.planned(compose_run())
    tracker = start_tracker(TrackingConfig(name="none"), record, tmp_path)
    assert isinstance(tracker, NoTracker)
    tracker.log_epoch({"epoch": 1})
    tracker.finish(record)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_wandb_is_told_id_group_and_epochs(tmp_path, monkeypatch):
    import wandb

    seen = {"logged": [], "summary": {}}

    class FakeRun:
        summary = seen["summary"]
        offline = True

        def define_metric(self, name, step_metric):
            seen["step_metric"] = step_metric

        def log(self, row, step, commit):
            seen["logged"].append((step, row))

        def finish(self, exit_code):
            seen["exit_code"] = exit_code

    def init(**keys):
        seen.update(keys)
        return FakeRun()

    monkeypatch.setattr(wandb, "init", init)
    run = compose_run("tracking=wandb", "study=mine")
    record = Record.planned(run)
    tracker = start_tracker(run.tracking, record, tmp_path)
    tracker.log_epoch({"epoch": 1, "train_loss": 2.0, "layer_cosines": {"fc": 0.5}})
    tracker.finish(record)
    assert seen["id"] == f"mine.{record.cell_id}"
    assert seen["group"] == "mine"
    assert seen["mode"] == "offline"
    assert seen["resume"] == "allow"
    assert seen["config"]["variant"]["name"] == "sam"
    assert seen["step_metric"] == "epoch"
    assert seen["logged"] == [(1, {"epoch": 1, "train_loss": 2.0, "layer_cosines/fc": 0.5})]
    assert seen["summary"]["status"] == "planned"
    assert seen["exit_code"] == 1
