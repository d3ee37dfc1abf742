"""Where the cells of a study stand, from their records; works from any shell while they run.

python -m samsweep.status study=default
python -m samsweep.status study=default --watch
python -m samsweep.status study=default --retry
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.table import Table

from samsweep.config import ConfigError
from samsweep.records.lock import FolderLock
from samsweep.records.schema import FINISHED, Attempt, Record
from samsweep.records.store import CellFolder, RecordError, cell_folders, find_study
from samsweep.sweep.slurm.queue import QueuedCell, queued_cells
from samsweep.sweep.slurm.scheduler import SlurmUnavailable
from samsweep.system.text import console, counted, duration

#: Seconds between two looks with ``--watch``.
_PERIOD_S = 2.0

#: Rows of a screen that the frame of a watched table takes.
_FRAME_ROWS = 6

#: Cells named in a message.
_MOST_NAMED = 5

#: States of cells that have stopped before their end, unless a launch is about to start them.
_STOPPED = ("failed", "unmeasured", "interrupted", "stalled", "planned")

#: States in the order in which --watch shows them; the others follow.
_FIRST = ("running", "stalled", "failed", "unmeasured", "unreadable", "interrupted", "queued")

_STYLES = {
    "running": "green",
    "stalled": "bold yellow",
    "failed": "bold red",
    "unmeasured": "bold red",
    "unreadable": "bold red",
    "diverged": "magenta",
    "interrupted": "yellow",
    "planned": "dim",
    "starting": "dim",
    "queued": "cyan",
}


@dataclass(frozen=True, kw_only=True)
class CellStatus:
    """One row of the table.

    Args:
        name: The cell's id.
        state: The record's status; ``stalled`` for a running cell without a heartbeat,
            ``starting`` for one without a record, ``unreadable`` for a broken record, ``queued``
            for one whose job waits on a cluster, ``unmeasured`` for a trained one whose measurement
            failed.
        record: The record, if there is one.
        problem: What is wrong with an unreadable one.
        queued: Its job on a cluster, if that waits or runs.
    """

    name: str
    state: str
    record: Record | None = None
    problem: str | None = None
    queued: QueuedCell | None = None

    @property
    def where(self) -> str:
        """Host and job, and what a queued job waits for."""
        parts = [self.attempt.provenance.host] if self.attempt and self.state != "queued" else []
        if self.queued is not None:
            parts.append(f"job {self.queued.job_id}")
            if self.state == "queued":
                parts.append(f"({self.queued.state.reason or self.queued.state.state.lower()})")
        elif self.attempt and self.attempt.provenance.job_id:
            parts.append(f"job {self.attempt.provenance.job_id}")
        return " ".join(parts)

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.record.attempts[-1] if self.record and self.record.attempts else None

    @property
    def reason(self) -> str:
        """What went wrong."""
        told = [self.problem]
        if self.record is not None:
            told += [self.record.error, self.record.measuring_error]
        return "\n".join(text for text in told if text)

    @property
    def epochs(self) -> str:
        """Complete epochs of all."""
        progress = self.record.progress if self.record else None
        return f"{progress.epoch}/{progress.num_epochs}" if progress else ""

    @property
    def elapsed_s(self) -> float | None:
        """Seconds of work: of all attempts that ended, and of the one that goes on."""
        if self.record is None or self.attempt is None:
            return None
        going_on = _seconds_since(self.attempt.started) if self.state == "running" else 0.0
        return self.record.seconds + going_on

    @property
    def remaining_s(self) -> float | None:
        """Seconds to go at the pace of the attempt that goes on; None until it ends an epoch."""
        if self.state != "running" or self.record is None or self.attempt is None:
            return None
        progress, start = self.record.progress, self.attempt.start_step
        if progress is None or start is None:
            return None
        done = progress.epoch - start / progress.steps_per_epoch
        if done <= 0:
            return None
        seconds = _seconds_between(self.attempt.started, progress.updated)
        return seconds / done * (progress.num_epochs - progress.epoch)


def read_status(
    study: Path, complain: Callable[[str], None] = lambda text: None
) -> list[CellStatus]:
    """Look at every cell of a study.

    Args:
        study: ``multirun/<study>``.
        complain: Takes the sentence that only records could be asked, if a cluster does not answer.
    """
    try:
        queued = queued_cells(study)
    except SlurmUnavailable as error:
        # A machine that cannot ask the cluster; the records speak.
        complain(f"Slurm does not answer here ({error}): what follows is from the records alone.")
        queued = {}
    return [_cell_status(folder, queued.get(folder.key)) for folder in cell_folders(study)]


def _cell_status(folder: CellFolder, queued: QueuedCell | None) -> CellStatus:
    name = folder.path.name
    try:
        record = folder.read()
    except RecordError as error:
        return CellStatus(name=name, state="unreadable", problem=str(error))
    if record is None:
        return CellStatus(name=name, state="starting")
    state: str = record.status
    alive = not record.finished and FolderLock(folder.path).alive
    if state == "running" and not alive:
        state = "stalled"
    if record.measuring_error is not None:
        state = "unmeasured"
    if queued is not None and not alive and not record.finished and state != "failed":
        state = state if _was_stopped_in(record, queued) else "queued"
    return CellStatus(name=name, state=state, record=record, queued=queued)


def _was_stopped_in(record: Record, queued: QueuedCell) -> bool:
    """Whether a cell was stopped in a job that goes on with others: it will not be taken up there.

    If the whole job was stopped it is queued again, and waits.
    """
    return (
        record.status == "interrupted"
        and queued.state.state == "RUNNING"
        and bool(record.attempts)
        and record.attempts[-1].provenance.job_id == queued.job_id
    )


def status_table(cells: Sequence[CellStatus], title: str) -> Table:
    """All cells as a table, with the totals by state below it."""
    table = Table(
        title=title,
        caption=totals(cells),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        # Padding takes a third of the time of a long table.
        padding=0,
    )
    for header in ("cell", "state"):
        table.add_column(header, overflow="fold")
    for header in ("epoch", "train loss", "val %", "elapsed", "to go"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    for cell in cells:
        table.add_row(*_row(cell), style=_STYLES.get(cell.state))
    return table


def totals(cells: Sequence[CellStatus]) -> str:
    """How many cells are in which state."""
    counts = Counter(cell.state for cell in cells)
    parts = ", ".join(f"{n} {state}" for state, n in counts.most_common())
    return f"{counted(len(cells), 'cell')}: {parts}"


def _row(cell: CellStatus) -> list[str]:
    progress = cell.record.progress if cell.record else None
    numbers = (progress.train_loss, progress.val_accuracy) if progress else (None, None)
    return [
        cell.name,
        cell.state,
        cell.epochs,
        "" if numbers[0] is None else f"{numbers[0]:.3f}",
        "" if numbers[1] is None else f"{numbers[1]:.1f}",
        _shown(cell.elapsed_s),
        _shown(cell.remaining_s),
        cell.where,
    ]


def _shown(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _seconds_since(moment: str) -> float:
    return _seconds_between(moment, datetime.now(UTC).isoformat())


def _seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


# --------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m samsweep.status", description="Where the cells of a study stand."
    )
    parser.add_argument("study", nargs="?", default="study=default", help="study=NAME")
    parser.add_argument("--root", type=Path, default=Path("multirun"), help="folder of the studies")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--watch", action="store_true", help="look again every two seconds")
    one.add_argument("--failed", action="store_true", help="failed cells with tracebacks")
    one.add_argument("--logs", metavar="CELL", help="the log of a cell, by the start of its id")
    one.add_argument(
        "--cancel",
        metavar="CELL",
        nargs="?",
        const="",
        help="stop what runs at its next step: a cell, or all",
    )
    one.add_argument(
        "--retry",
        metavar="CELL",
        nargs="?",
        const="",
        help="take up what failed or was stopped, as it was launched: a cell, or all",
    )
    options = parser.parse_args(arguments)
    try:
        study = find_study(options.root, options.study.removeprefix("study="))
        return _answer(study, options)
    except (ConfigError, RecordError) as error:
        print(error, file=sys.stderr)
        return 1
    except SlurmUnavailable as error:
        print(f"Slurm does not answer here ({error}): try again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _answer(study: Path, options: argparse.Namespace) -> int:
    """Do what the options ask for; returns the exit status."""
    if options.logs is not None:
        print(_log_of(_only_cell(study, options.logs)), end="")
    elif options.failed:
        _print_failures(study)
    elif options.watch:
        _watch(study)
    elif options.cancel is not None:
        _cancel(study, options.cancel)
    elif options.retry is not None:
        return _retry(study, options.retry)
    else:
        cells = read_status(study, complain=_complain)
        console().print(status_table(cells, f"study {study.name}"))
    return 0


def _complain(text: str) -> None:
    print(text, file=sys.stderr)


def _only_cell(study: Path, start: str) -> CellFolder:
    found = [folder for folder in cell_folders(study) if folder.path.name.startswith(start)]
    if len(found) != 1:
        names = [folder.path.name for folder in found or cell_folders(study)]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise ConfigError(
            f"{len(found)} cells of {study.name} start with {start!r}: "
            f"give more of one of {', '.join(names[:_MOST_NAMED])}{more}."
        )
    return found[0]


def _log_of(folder: CellFolder) -> str:
    if not folder.log_file.exists():
        raise ConfigError(f"{folder.path.name} has no log yet.")
    return folder.log_file.read_text(encoding="utf-8", errors="replace")


def _print_failures(study: Path) -> None:
    cells = read_status(study)
    for cell in cells:
        if cell.state in ("failed", "unmeasured", "unreadable"):
            print(f"{cell.name}\n{cell.reason}")
    print(totals(cells))


def _cancel(study: Path, start: str) -> None:
    from samsweep.sweep.cancel import cancel, cancel_cell

    sentences = cancel_cell(_only_cell(study, start)) if start else cancel(study)
    print("\n".join(sentences) or f"Nothing runs in {start or study.name}.")


def _retry(study: Path, start: str) -> int:
    from samsweep.sweep.cancel import active_cells
    from samsweep.sweep.retry import plan_retries, retry

    cells = [cell for cell in read_status(study) if cell.state in _STOPPED]
    # What a stopped launch did not come to has been stopped as well.
    active = {key.cell_id for key in active_cells(study)}
    cells = [cell for cell in cells if cell.state != "planned" or cell.name not in active]
    if start:
        only = _only_cell(study, start).path.name
        cells = [cell for cell in cells if cell.name == only]
    if not cells:
        print(f"Nothing has failed or was stopped in {start or study.name}.")
        return 0
    retries, problems = plan_retries(study, [CellFolder(study / "cells" / c.name) for c in cells])
    for launcher, plan in retries:
        retry(launcher, plan)
    for problem in problems:
        print(problem, file=sys.stderr)
    after = [cell for cell in read_status(study) if cell.name in {c.name for c in cells}]
    print(totals(after))
    return 0 if all(cell.state in FINISHED for cell in after) else 1


def _watch(study: Path) -> None:
    out = console()
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(_watched(read_status(study), study.name, out.height), refresh=True)
            time.sleep(_PERIOD_S)


def _watched(cells: Sequence[CellStatus], name: str, height: int) -> Table:
    """As much of the table as a screen holds, what moves and what went wrong first."""
    order = {state: rank for rank, state in enumerate(_FIRST)}
    ordered = sorted(cells, key=lambda cell: order.get(cell.state, len(order)))
    rows = max(1, height - _FRAME_ROWS)
    hidden = len(ordered) - rows
    more = f"; {hidden} more below" if hidden > 0 else ""
    table = status_table(ordered[:rows], f"study {name}: {totals(cells)}{more}")
    table.caption = None
    return table


if __name__ == "__main__":
    sys.exit(main())
