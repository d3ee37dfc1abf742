"""Tracking: nothing by default."""

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
