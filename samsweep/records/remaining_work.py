"""What is left to do for a cell, from its record and what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from samsweep.config import RunConfig
from samsweep.records.identity import wanted_measurements
from samsweep.records.schema import Record

#: Mean cross-entropy below which float32 rounds its curvature by more than the default tolerance.
ROUNDS_BELOW = 1e-3

Work = Literal["train", "resume", "measure", "nothing"]


def work_left(run: RunConfig, record: Record | None) -> Work:
    """What a cell needs, by what there is of it, to be as the run asks for.

    A pruned cell needs nothing as long as the run has a pruner, whichever, and is resumed without.
    """
    if record is None:
        return "train"
    if record.status == "pruned" and run.pruning is not None:
        return "nothing"
    if not record.finished:
        return "resume" if record.attempts else "train"
    if record.status == "complete" and missing_measurements(run, record):
        return "measure"
    return "nothing"


def missing_measurements(run: RunConfig, record: Record) -> dict[str, str]:
    """Names of the measurements that are asked for and not there, by their keys.

    One that was rounded away is taken again.
    """
    wanted, there = wanted_measurements(run.sharpness), record.measurements
    return {
        key: name
        for key, name in wanted.items()
        if key not in there or _rounded_away(there[key].result)
    }


def _rounded_away(result: Mapping[str, Any]) -> bool:
    """Whether a result is of a network that fits, from when losses were taken in float32.

    Later ones hold ``loss_rounding``.
    """
    loss = result.get("loss")
    return isinstance(loss, float) and loss < ROUNDS_BELOW and "loss_rounding" not in result
