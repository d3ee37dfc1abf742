"""The progress of a sweep: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from samsweep.records.identity import CellKey
from samsweep.system.machine import Slot
from samsweep.system.progress import Snapshot
from samsweep.system.text import duration, printable

#: Seconds between two plain lines about a running cell.
_PLAIN_EVERY_S = 30.0


class Display:
    """The progress display of a pool or of jobs: a context manager.

    Args:
        names: What the cells are called.
        console: Where it is shown.
    """

    def __init__(self, names: Mapping[CellKey, str], console: Console | None = None) -> None:
        self._console = console or Console()
        self._names = names
        self._num_ended = 0
        self._bars = Progress(
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis"),
            ),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            _Remaining(),
            TextColumn("{task.fields[latest]}", markup=False, table_column=Column(no_wrap=True)),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._all = self._bars.add_task("cells", total=len(names), latest="")
        self._tasks: dict[CellKey, TaskID] = {}
        self._printed_at: dict[CellKey, float] = {}

    def __enter__(self) -> Self:
        """Show the bars."""
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Take the bars away."""
        self._bars.stop()

    def print(self, line: str, cell: CellKey | None = None) -> None:
        """A line that stays, after the name of the cell that it is about, if any."""
        if cell is not None:
            line = f"{self._names[cell]}  {line}"
        self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()

    def started(self, cell: CellKey, slot: Slot) -> None:
        """A cell has a process."""
        self._tasks[cell] = self._bars.add_task(self._names[cell], total=None, latest=str(slot))
        self._printed_at[cell] = time.monotonic()
        if self._bars.disable:
            self.print(f"started, {slot}", cell)

    def progress(self, cell: CellKey, snapshot: Snapshot) -> None:
        """A cell has reported how far it is."""
        self._bars.update(
            self._tasks[cell],
            total=snapshot.num_steps,
            completed=snapshot.step,
            latest=str(snapshot),
        )
        waited = time.monotonic() - self._printed_at[cell] > _PLAIN_EVERY_S
        if self._bars.disable and (waited or snapshot.measuring is not None):
            self._printed_at[cell] = time.monotonic()
            self.print(str(snapshot), cell)

    def removed(self, cell: CellKey) -> None:
        """A cell has no process any more."""
        task = self._tasks.pop(cell, None)
        if task is not None:
            self._bars.remove_task(task)

    def ended(self, cell: CellKey, outcome: str) -> None:
        """A cell has ended, well or not."""
        self._num_ended += 1
        self.removed(cell)
        self._bars.update(self._all, completed=self._num_ended)
        self.print(f"{self._num_ended}/{len(self._names)}  {self._names[cell]}  {outcome}")


class _Remaining(ProgressColumn):
    """Time to go at the pace so far, if it is known."""

    def render(self, task: Task) -> Text:
        remaining = task.time_remaining
        return Text(f"{duration(remaining)} to go" if remaining else "", style="cyan")
