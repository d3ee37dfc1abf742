"""What is left to do for a cell, from its record and what is asked for."""

from __future__ import annotations

from typing import Literal

from samsweep.config import RunConfig
from samsweep.records.identity import wanted_measurements
from samsweep.records.schema import Record

Work = Literal["train", "resume", "measure", "nothing"]


def work_left(run: RunConfig, record: Record | None) -> Work:
    """What a cell needs to be as the run asks for.

    Args:
        run: What is asked for.
        record: What there is.
    """
    if record is None:
        return "train"
    if not record.finished:
        return "resume" if record.attempts else "train"
    if record.status == "complete" and missing_measurements(run, record):
        return "measure"
    return "nothing"


def missing_measurements(run: RunConfig, record: Record) -> dict[str, str]:
    """Names of the measurements that are asked for and not there, by their keys."""
    wanted = wanted_measurements(run.sharpness)
    return {key: name for key, name in wanted.items() if key not in record.measurements}
