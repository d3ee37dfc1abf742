"""Weights & Biases: one run per cell, under the cell's id, whoever continues it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from samsweep.config import TrackingConfig
from samsweep.records.schema import Record


class WandbTracker:
    """Reports to W&B; offline it writes files that ``wandb sync`` can upload later.

    Args:
        config: Mode, project and entity.
        record: The cell's record as the work on it starts.
        folder: The cell's folder, where offline runs are kept.
    """

    def __init__(self, config: TrackingConfig, record: Record, folder: Path) -> None:
        self._run = wandb.init(
            mode=config.mode,
            project=config.project,
            entity=config.entity,
            id=record.cell_id,
            name=record.cell_id.rpartition("-")[0],
            group=record.study,
            config={**record.identity.identity(), "formula": record.formula},
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log_epoch(self, row: Mapping[str, Any]) -> None:
        """One point per epoch, numbered by the epoch."""
        self._run.log(_flat(row), step=row["epoch"])

    def finish(self, record: Record) -> None:
        """Summary of the results; the run is closed."""
        summary: dict[str, Any] = {"status": record.status}
        if record.metrics is not None:
            summary |= record.metrics.model_dump()
        for key, measurement in record.measurements.items():
            summary |= _flat({key: measurement.result})
        self._run.summary.update(summary)
        failed = record.status in ("failed", "interrupted")
        self._run.finish(exit_code=1 if failed else 0)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as W&B's slashed keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = value
    return flat
