"""Where progress is reported beside the record: nowhere, or Weights & Biases.

``tracking=none`` imports nothing of W&B.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from samsweep.config import TrackingConfig
from samsweep.records.schema import Record


class Tracker(Protocol):
    """What a tracker is told, in this order."""

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """A line of the history."""
        ...

    def finish(self, record: Record) -> None:
        """The record as it is when this process ends its work on the cell."""
        ...


class NoTracker:
    """Keeps quiet."""

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def finish(self, record: Record) -> None:
        """Nothing."""


def start_tracker(config: TrackingConfig, record: Record, folder: Path) -> Tracker:
    """The tracker that a run asks for, ready to be told of epochs.

    Args:
        config: Which, and how.
        record: The cell's record as the work on it starts.
        folder: The cell's folder.
    """
    if config.name == "none":
        return NoTracker()
    from samsweep.tracking.wandb_tracker import WandbTracker

    return WandbTracker(config, record, folder)


__all__ = ["NoTracker", "Tracker", "start_tracker"]
