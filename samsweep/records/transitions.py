"""Changes of a cell's state that are made for it: before it starts, and after its process died."""

from __future__ import annotations

from samsweep.config import RunConfig
from samsweep.records.cancel_mark import CancelMark
from samsweep.records.lock import FolderBusy, FolderLock
from samsweep.records.provenance import now
from samsweep.records.schema import Record, Status
from samsweep.records.store import CellFolder


def register(folder: CellFolder, run: RunConfig) -> None:
    """Give a new cell its folder, its frozen config and a record that says ``planned``.

    A cell that has a record, or that somebody is about to start, is left as it is; that it was
    cancelled in an earlier launch counts no more.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    CancelMark(folder.path).clear()
    if folder.record_file.exists():
        return
    try:
        with FolderLock(folder.path):
            if not folder.record_file.exists():
                folder.freeze_config(run.cell)
                folder.write(Record.planned(run))
    except FolderBusy:
        return


def close_abandoned(
    folder: CellFolder, status: Status, error: str, *, job_id: str | None = None
) -> None:
    """Say in the record of a cell whose process died how that came; nothing if it still lives.

    One that was stopped, and has saved its state, keeps its status; of others ``failed`` or
    ``interrupted`` is the new one.

    Args:
        folder: Of the cell.
        status: Of a cell that had not stopped.
        error: How it came.
        job_id: Of a job that has ended: a lock of its processes is nobody's.
    """
    try:
        with FolderLock(folder.path, nobodys=job_id):
            record = folder.read()
            if record is not None and record.finished:
                folder.write(record.model_copy(update={"measuring_error": error}))
            elif record is not None and record.status in ("planned", "running"):
                attempts = tuple(
                    attempt.model_copy(update={"ended": attempt.ended or now()})
                    for attempt in record.attempts
                )
                changes = {"status": status, "error": error, "attempts": attempts}
                folder.write(record.model_copy(update=changes))
            elif record is not None and record.status == "interrupted":
                folder.write(record.model_copy(update={"error": record.error or error}))
    except FolderBusy:
        return
