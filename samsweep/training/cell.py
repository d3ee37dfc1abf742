"""One cell from its folder to its record: train what is missing, measure what is missing."""

from __future__ import annotations

import logging
import math
import signal
import time
import traceback
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

from samsweep.config import RunConfig
from samsweep.config.cell import KINDS, MEASURING
from samsweep.config.plugins import load_plugins
from samsweep.records.cancel_mark import CancelMark
from samsweep.records.lock import FolderBusy, FolderLock, LockLost
from samsweep.records.provenance import now
from samsweep.records.remaining_work import work_left
from samsweep.records.schema import CellFailed, Record, Status
from samsweep.records.store import CellFolder
from samsweep.system.progress import ReportProgress
from samsweep.system.signals import Interrupted, StopRequest
from samsweep.tracking import tracking
from samsweep.training.checkpoint import Checkpoints
from samsweep.training.device import num_cores, num_threads, prepare_device
from samsweep.training.measurement import measure_missing
from samsweep.training.progress_bar import TrainingProgress
from samsweep.training.pruning import Pruned
from samsweep.training.record_writer import RecordWriter
from samsweep.training.train import Diverged, train
from samsweep.training.workspace import Workspace

log = logging.getLogger(__name__)


def run_cell(
    config: RunConfig,
    folder: CellFolder,
    progress: AbstractContextManager[ReportProgress] | None = None,
    *,
    num_attempts: int | None = None,
) -> float:
    """Bring a cell to its end, from wherever it is.

    A finished cell is not trained again, an interrupted one is resumed at its checkpoint (a pruned
    one if the run has no pruner), and a measurement that is there is not repeated.

    Args:
        config: The cell and how it runs here.
        folder: Its folder, which exists.
        progress: Shows how far it is, entered for each part of the work; None is a bar on a
            terminal and a line per epoch elsewhere.
        num_attempts: How often it had been tried when this was planned. If it has failed since, in
            another process, it is not tried again. None is always to try.

    Returns:
        Validation accuracy of the last epoch in percent, of a pruned cell too; 0 for one that
        diverged, NaN for one that another process is working on.

    Raises:
        CellFailed: If training or measuring raised, here or since it was planned.
        Interrupted: If a signal stopped it; there is a checkpoint.
    """
    name = folder.path.name
    # First: what is left of a cell is asked of its measures, which a plugin may have.
    load_plugins(config.plugins)
    record = folder.read()
    if record is not None and work_left(config, record) == "nothing":
        # Without its lock: the disk may be one that is read only.
        log.info("%s: already %s", name, record.summary)
        return record.objective
    try:
        with FolderLock(folder.path) as lock:
            _check_not_failed_since(folder, num_attempts)
            mark = CancelMark(folder.path)
            if num_attempts is None:
                # Not of a launch that may be cancelled in part, but asked for by itself.
                mark.clear()
            folder.remove_temporary_files()
            writer = RecordWriter(folder, lock, folder.read() or Record.planned(config))
            work = work_left(config, writer.record)
            if work != "nothing":
                if mark.is_set:
                    _leave_out(writer)
                _check_sources(config, name, MEASURING if work == "measure" else KINDS)
                _train_and_measure(config, writer, progress or TrainingProgress(name))
            log.info("%s: %s", name, writer.record.summary)
            return writer.record.objective
    except FolderBusy as busy:
        log.info("%s: skipped, %s", name, busy)
    except LockLost as lost:
        log.warning("%s: stopped here, another process took over: %s", name, lost)
    return math.nan


def _leave_out(writer: RecordWriter) -> None:
    """End a cell that was cancelled while it waited its turn.

    Raises:
        Interrupted: As if a signal had stopped it.
    """
    if writer.record.status == "planned":
        writer.update(status="interrupted", error="cancelled before it began")
    raise Interrupted(signal.SIGTERM)


def _check_sources(config: RunConfig, name: str, kinds: Collection[str]) -> None:
    """Whether the user's own components are still those of the cell's identity.

    Raises:
        CellFailed: If not, and ``on_code_change`` says so.
        ConfigError: If one cannot be found any more.
    """
    before = config.cell.sources or {}
    now = config.cell.sources_now(kinds)
    changed = [kind for kind in kinds if before.get(kind) != now.get(kind)]
    if not changed:
        return
    sentence = f"{name}: the source of its {', '.join(changed)} has changed since it was planned"
    if config.on_code_change == "refuse":
        raise CellFailed(f"{sentence}, and on_code_change=refuse: give the command again")
    log.warning("%s: it runs on the source as it is now", sentence)


def _check_not_failed_since(folder: CellFolder, num_attempts: int | None) -> None:
    """Under the lock, so that no other process can fail between this check and what follows."""
    record = None if num_attempts is None else folder.read()
    if record is None or record.status != "failed":
        return
    if len(record.attempts) > (num_attempts or 0):
        raise CellFailed(f"{folder.path.name}: failed elsewhere, {record.summary}")


def _train_and_measure(
    config: RunConfig, writer: RecordWriter, progress: AbstractContextManager[ReportProgress]
) -> None:
    obeyed = CancelMark(writer.folder.path).obeyed()
    with StopRequest() as stop, obeyed, num_threads(_threads(config, writer)):
        device = prepare_device(config.device)
        with tracking(config.tracking, writer.folder.path, lambda: writer.record) as tracker:
            workspace = Workspace(
                config=config, writer=writer, device=device, tracker=tracker, progress=progress
            )
            if not writer.record.finished:
                _attempt(workspace, stop)
                stop.check()
            else:
                for row in writer.folder.read_history():
                    tracker.log_epoch(row)
            if writer.record.status == "complete":
                measure_missing(workspace)


def _threads(config: RunConfig, writer: RecordWriter) -> int | None:
    """Threads to work with: as configured, or those of an interrupted training, if they fit."""
    if config.num_threads is not None or not writer.folder.checkpoint_file.exists():
        return config.num_threads
    earlier = [attempt.provenance.num_threads for attempt in writer.record.attempts[-1:]]
    return next((n for n in earlier if n <= num_cores()), None)


def _attempt(workspace: Workspace, stop: StopRequest) -> None:
    """Train to the end; the record says how that ended.

    Raises:
        CellFailed: If it raised.
        Interrupted: If a signal stopped it; there is a checkpoint.
    """
    writer, config = workspace.writer, workspace.config
    started = time.monotonic()

    def end(status: Status, **changes: Any) -> None:
        seconds = round(time.monotonic() - started, 3)
        writer.amend_attempt(ended=now(), seconds=seconds)
        writer.update(status=status, **changes)

    writer.folder.freeze_config(config.cell)
    here = workspace.provenance(compiled=config.compiles, parts_at_once=config.parts_together)
    writer.begin_attempt(here)
    checkpoints = Checkpoints(writer.folder, config.checkpoint, confirm=writer.confirm)
    try:
        metrics = train(workspace, checkpoints, stop)
    except LockLost:
        raise
    except Diverged as error:
        end("diverged", error=str(error))
    except Pruned as reason:
        # Its checkpoint stays: without a pruner it is resumed.
        end("pruned", error=str(reason))
        return
    except Exception as error:
        end("failed", error=traceback.format_exc())
        raise writer.failure("training", error) from error
    except BaseException:
        end("interrupted")
        log.info("%s: interrupted, the same command resumes it", writer.name)
        raise
    else:
        end("complete", metrics=metrics)
    checkpoints.discard()
