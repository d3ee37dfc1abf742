"""Where progress is reported beside the record: nowhere, or Weights & Biases.

``tracking=none`` imports nothing of W&B.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from samsweep.config import TRACKERS, TrackingConfig
from samsweep.config.factory import make
from samsweep.records.schema import Record

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """What a tracker gets, in this order."""

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """A line of the history; one that it has from an earlier process is skipped."""
        ...

    def finish(self, record: Record) -> None:
        """The record as it is when this process ends its work on the cell."""
        ...


class NoTracker:
    """Tracks nothing."""

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def finish(self, record: Record) -> None:
        """Nothing."""


class DispensableTracker:
    """A tracker that a training can do without: its first error is logged, and ends it."""

    def __init__(self, start: Callable[[], Tracker]) -> None:
        self._tracker: Tracker = NoTracker()
        with self._or_without():
            self._tracker = start()

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """See :meth:`Tracker.log_epoch`."""
        with self._or_without():
            self._tracker.log_epoch(row)

    def finish(self, record: Record) -> None:
        """See :meth:`Tracker.finish`."""
        with self._or_without():
            self._tracker.finish(record)

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._tracker = NoTracker()
            log.warning(
                "tracking stopped, the cell goes on without (%s: %s)", type(error).__name__, error
            )


def start_tracker(config: TrackingConfig, record: Record, folder: Path) -> Tracker:
    """The tracker that a run asks for, ready for epochs, from the cell's record and folder."""
    if config.name == "none":
        return NoTracker()

    def start() -> Tracker:
        component = TRACKERS.find(config.name, config.factory)
        beside = {"config": config, "record": record, "folder": folder}
        made: Tracker = make(
            f"tracking={config.name}", component.factory, component.with_args(config.args), **beside
        )
        return made

    return DispensableTracker(start)


@contextmanager
def tracking(
    config: TrackingConfig, folder: Path, record: Callable[[], Record]
) -> Iterator[Tracker]:
    """Track the work on a cell inside the block; ``record`` gives its record as it is by then."""
    tracker = start_tracker(config, record(), folder)
    try:
        yield tracker
    finally:
        tracker.finish(record())


__all__ = ["NoTracker", "Tracker", "start_tracker", "tracking"]
