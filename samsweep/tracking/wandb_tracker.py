"""Weights & Biases: one run per cell, under the cell's id, whoever continues it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from samsweep.config import TrackingConfig
from samsweep.records.schema import Record
from samsweep.tracking.segments import mend_segments

log = logging.getLogger(__name__)

#: Seconds to wait for a server at the start of a run, and at its end.
_INIT_TIMEOUT_S = 60.0
_FINISH_TIMEOUT_S = 60.0


class WandbTracker:
    """Reports to W&B; offline it writes files that ``wandb sync`` can upload later.

    A step of W&B is an epoch. Steps of a run only grow: an epoch that an earlier process told is
    not told again, even if it is trained again, and one that got lost with that process is made up
    for.

    Args:
        config: Mode, project and entity.
        record: The cell's record as the work on it starts.
        folder: The cell's folder, where W&B keeps its files.

    Raises:
        wandb.Error: If W&B cannot be started, not even offline.
    """

    def __init__(self, config: TrackingConfig, record: Record, folder: Path) -> None:
        told = mend_segments(folder)
        self._run = _init(
            config.mode,
            project=config.project,
            entity=config.entity,
            id=record.cell_id,
            name=record.cell_id.rpartition("-")[0],
            group=record.study,
            config={**record.identity.identity(), "formula": record.formula},
            dir=str(folder),
            resume="allow",
        )
        # Charts go by the epoch, whatever steps an upload in another order may have made of it.
        self._run.define_metric("*", step_metric="epoch")
        # The server knows best what it got; offline the files tell.
        self._next_step = told + 1 if self._run.offline else self._run.starting_step

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """One point per epoch, numbered by the epoch."""
        epoch = row["epoch"]
        if epoch >= self._next_step:
            self._run.log(_flat(row), step=epoch, commit=True)
            self._next_step = epoch + 1

    def finish(self, record: Record) -> None:
        """Summary of the results; the run is closed, as failed unless the cell is complete."""
        summary: dict[str, Any] = {"status": record.status}
        if record.metrics is not None:
            summary |= record.metrics.model_dump()
        for key, measurement in record.measurements.items():
            summary |= _flat({key: measurement.result})
        self._run.summary.update(summary)
        if record.status == "interrupted":
            # W&B's word for it is preempted.
            self._run.mark_preempting()
        done = record.status == "complete" and record.measuring_error is None
        self._run.finish(exit_code=0 if done else 1)


def _init(mode: Literal["offline", "online"], **keys: Any) -> wandb.Run:
    """Start a run, offline if the server cannot be had."""
    settings = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=_INIT_TIMEOUT_S,
        finish_timeout=_FINISH_TIMEOUT_S,
        # Never the run of another cell of this process that could not be closed.
        reinit="create_new",
    )
    try:
        return wandb.init(mode=mode, settings=settings, **keys)
    except wandb.Error as error:
        if mode == "offline":
            raise
        log.warning(
            "%s: W&B cannot be reached (%s); written to disk, `wandb sync` uploads it later",
            keys["id"],
            str(error).partition("\n")[0],
        )
        wandb.teardown()
        return wandb.init(mode="offline", settings=settings, **keys)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as W&B's slashed keys; no number is null, as it is in the history."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, float) and not math.isfinite(value):
            flat[prefix + key] = None
        else:
            flat[prefix + key] = value
    return flat
