"""What a user sees of a pool: bars that move on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
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

from samsweep.system.machine import Slot
from samsweep.system.progress import Snapshot
from samsweep.system.text import duration

#: Seconds between two plain lines about a cell that goes on.
_PLAIN_EVERY_S = 30.0


class Display:
    """The one progress display of a pool. A context manager.

    Args:
        num_cells: Cells that the pool is to work on.
        console: Where to show it; standard output unless told otherwise.
    """

    def __init__(self, num_cells: int, console: Console | None = None) -> None:
        self._console = console or Console()
        self._num_cells = num_cells
        self._num_ended = 0
        self._bars = Progress(
            TextColumn(
                "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            _Remaining(),
            TextColumn("{task.fields[latest]}", table_column=Column(no_wrap=True)),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._all = self._bars.add_task("cells", total=num_cells, latest="")
        self._tasks: dict[str, TaskID] = {}
        self._told_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Show the bars."""
        self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Take the bars away."""
        self._bars.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()

    def started(self, name: str, slot: Slot) -> None:
        """A cell has a process."""
        self._tasks[name] = self._bars.add_task(name, total=None, latest=str(slot))
        self._told_at[name] = time.monotonic()
        if self._bars.disable:
            self.say(f"{name}  started, {slot}")

    def moved(self, name: str, snapshot: Snapshot) -> None:
        """A cell tells how far it is."""
        self._bars.update(
            self._tasks[name],
            total=snapshot.num_steps,
            completed=snapshot.step,
            latest=str(snapshot),
        )
        if self._bars.disable and time.monotonic() - self._told_at[name] > _PLAIN_EVERY_S:
            self._told_at[name] = time.monotonic()
            self.say(f"{name}  {snapshot}")

    def left(self, name: str) -> None:
        """A cell has no process any more, and is not done with."""
        task = self._tasks.pop(name, None)
        if task is not None:
            self._bars.remove_task(task)

    def ended(self, name: str, outcome: str) -> None:
        """A cell is done with, well or not."""
        self._num_ended += 1
        self.left(name)
        self._bars.update(self._all, completed=self._num_ended)
        self.say(f"{self._num_ended}/{self._num_cells}  {name}  {outcome}")


class _Remaining(ProgressColumn):
    """Time to go at the pace so far, where a task has shown one."""

    def render(self, task: Task) -> Text:
        remaining = task.time_remaining
        return Text(f"{duration(remaining)} to go" if remaining else "", style="cyan")
