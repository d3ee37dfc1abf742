"""What a user sees of one training: a bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from samsweep.system.progress import Snapshot

log = logging.getLogger(__name__)


class TrainingProgress:
    """Shows how far one cell has come. A context manager, called with each snapshot."""

    def __init__(self, title: str) -> None:
        self._title = title

    def __enter__(self) -> Self:
        """Show the bar."""
        self._epoch: int | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[latest]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(self._title, total=None, latest="")
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Take the bar away."""
        self._bar.stop()

    def __call__(self, snapshot: Snapshot) -> None:
        """Show this moment."""
        self._bar.update(
            self._task,
            total=snapshot.num_steps,
            completed=snapshot.step,
            latest=str(snapshot),
        )
        if self._bar.disable and self._epoch not in (None, snapshot.epoch):
            log.info("%s  %s", self._title, snapshot)
        self._epoch = snapshot.epoch
