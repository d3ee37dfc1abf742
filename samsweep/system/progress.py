"""How far the work on a cell has come: what a cell reports, and what a display shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from samsweep.system.text import score_text


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One moment in the life of a cell.

    Args:
        num_steps: Optimizer steps of the whole training.
        num_epochs: Epochs of the whole training.
        step: Optimizer steps that are done.
        epoch: Epochs that are done, validation included.
        train_loss: Of the latest epoch; None before the first.
        val_accuracy: Of the latest epoch, by the metric; None before the first.
        metric: What a network is scored by; None is the accuracy, in percent.
        measuring: The measurement that is being taken, after the training.
    """

    num_steps: int
    num_epochs: int
    step: int = 0
    epoch: int = 0
    train_loss: float | None = None
    val_accuracy: float | None = None
    metric: str | None = None
    measuring: str | None = None

    def __str__(self) -> str:
        """In words, such as ``epoch 3/40  train loss 1.234  val 87.2 %``."""
        if self.measuring is not None:
            return f"measuring {self.measuring}"
        parts = [f"epoch {self.epoch}/{self.num_epochs}"]
        if self.train_loss is not None:
            parts.append(f"train loss {self.train_loss:.3f}")
        if self.val_accuracy is not None:
            parts.append(f"val {score_text(self.val_accuracy, self.metric)}")
        return "  ".join(parts)


#: Is called with a snapshot after every step, every epoch, and before a measurement.
ReportProgress = Callable[[Snapshot], None]
