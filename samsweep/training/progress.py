"""What a user sees of a training: a bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)


class TrainingProgress:
    """Shows how far one cell has come. A context manager.

    Args:
        title: What is being trained.
        num_epochs: Epochs in all.
        steps_per_epoch: Steps of one epoch.
        done_steps: Steps already taken.
    """

    def __init__(
        self, title: str, *, num_epochs: int, steps_per_epoch: int, done_steps: int
    ) -> None:
        self._title = title
        self._num_epochs = num_epochs
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
        self._task = self._bar.add_task(
            title, total=num_epochs * steps_per_epoch, completed=done_steps, latest=""
        )

    def __enter__(self) -> Self:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Take the bar away."""
        self._bar.stop()

    def step(self) -> None:
        """One step is done."""
        self._bar.advance(self._task)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """One epoch is done."""
        latest = f"train loss {row['train_loss']:.3f}  val {row['val_accuracy']:.1f} %"
        self._bar.update(self._task, latest=latest)
        if self._bar.disable:
            log.info("%s  epoch %d/%d  %s", self._title, row["epoch"], self._num_epochs, latest)
