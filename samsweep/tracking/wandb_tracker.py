"""Weights & Biases: one run per cell of a study, over all processes that work on it."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb

from samsweep.config import TrackingConfig
from samsweep.records.identity import CellKey, short_hash
from samsweep.records.schema import Record

log = logging.getLogger(__name__)

#: Seconds to wait for a server at the start of a run, and at its end.
_INIT_TIMEOUT_S = 60.0
_FINISH_TIMEOUT_S = 60.0

#: Marks a segment that was closed; holds the last epoch that it, or one before it, has.
_CLOSED = "closed"

#: Characters of a run's id that W&B takes.
_LONGEST_ID = 128


class WandbTracker:
    """Reports to W&B; offline it writes files that ``wandb sync`` can upload later.

    A step of W&B is an epoch. Steps of a run only grow: an epoch that an earlier process logged is
    not logged again, even if it is trained again, and one that was lost with that process is
    replayed from the history.

    Every process that works on a cell writes a segment, ``wandb/[offline-]run-<time>-<id>/``. That
    of a process that was killed is cut off anywhere, and ``wandb sync`` stops at it: a segment that
    was not closed is removed before the next one starts.

    Args:
        config: Mode, project and entity.
        record: The cell's record as the work on it starts.
        folder: The cell's folder, where W&B keeps its files.

    Raises:
        wandb.Error: If W&B cannot be started, not even offline.
    """

    def __init__(self, config: TrackingConfig, record: Record, folder: Path) -> None:
        # Before the segments that tell are removed.
        run_id = _id_in(folder, CellKey(study=record.study, cell_id=record.cell_id))
        logged = _remove_cut_segments(folder)
        self._run = _init(
            config.mode,
            project=config.project,
            entity=config.entity,
            id=run_id,
            name=record.cell_id.rpartition("-")[0],
            group=record.study,
            config={**record.identity.identity(), "formula": record.formula},
            dir=str(folder),
            resume="allow",
        )
        # Charts go by the epoch, whatever steps an upload in another order may have made of it.
        self._run.define_metric("*", step_metric="epoch")
        # Online the server knows what it got; offline the segments that were closed.
        self._next_step = logged + 1 if self._run.offline else self._run.starting_step

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """One point per epoch, numbered by the epoch."""
        epoch = row["epoch"]
        if epoch >= self._next_step:
            self._run.log(_flat(row), step=epoch, commit=True)
            self._next_step = epoch + 1

    def finish(self, record: Record) -> None:
        """Summary of the results; the run is closed, as failed unless the cell came to an end."""
        summary: dict[str, Any] = {"status": record.status}
        if record.metrics is not None:
            summary |= record.metrics.model_dump()
        for key, measurement in record.measurements.items():
            summary |= _flat({key: measurement.result})
        self._run.summary.update(summary)
        if record.status == "interrupted":
            # W&B calls it preempted.
            self._run.mark_preempting()
        done = record.status in ("complete", "pruned") and record.measuring_error is None
        self._run.finish(exit_code=0 if done else 1)
        closed = Path(self._run.dir).parent / _CLOSED
        closed.write_text(f"{self._next_step - 1}\n", encoding="utf-8")


def run_id(cell: CellKey) -> str:
    """The id of a cell's run: equal cells of two studies are two runs of a project.

    >>> run_id(CellKey(study="demo", cell_id="resnet8-sgd-digits-seed0-0123456789"))
    'demo.resnet8-sgd-digits-seed0-0123456789'
    """
    plain = f"{cell.study}.{cell.cell_id}"
    if len(plain) <= _LONGEST_ID:
        return plain
    hashed = short_hash({"study": cell.study, "cell": cell.cell_id})
    return f"{plain[: _LONGEST_ID - len(hashed) - 1]}-{hashed}"


def _id_in(folder: Path, cell: CellKey) -> str:
    """The id of a cell's run; the cell's own where an earlier version began the run under it.

    Of such a run there is a segment that may have been uploaded, or will be: one that was closed,
    that has been synced, or that was written online.
    """
    for segment in folder.glob(f"wandb/*run-*-{cell.cell_id}"):
        synced = any(segment.glob("*.synced"))
        if synced or (segment / _CLOSED).exists() or not segment.name.startswith("offline-"):
            return cell.cell_id
    return run_id(cell)


def _remove_cut_segments(folder: Path) -> int:
    """Remove the segments of processes that were killed, unless they have been uploaded.

    Returns:
        The last epoch that a closed segment holds; 0 if there is none.
    """
    last = 0
    for segment in folder.glob("wandb/*run-*"):
        closed = segment / _CLOSED
        if closed.exists():
            last = max(last, int(closed.read_text(encoding="utf-8") or 0))
        elif segment.is_dir() and not segment.is_symlink() and not any(segment.glob("*.synced")):
            shutil.rmtree(segment)
    return last


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
