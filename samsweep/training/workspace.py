"""What a process has at hand while it works on one cell."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import torch

from samsweep.config import RunConfig
from samsweep.data.load import load_dataset
from samsweep.data.splits import SplitData
from samsweep.records.provenance import provenance
from samsweep.records.schema import Provenance
from samsweep.records.store import CellFolder
from samsweep.system.progress import ReportProgress
from samsweep.tracking import Tracker
from samsweep.training.device import describe_device
from samsweep.training.record_writer import RecordWriter


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """One cell, and what one process works on it with.

    Args:
        config: The cell and how it runs here.
        writer: Its record.
        device: Where it runs.
        tracker: Gets every epoch and the results.
        progress: Shows how far the cell is; entered for each part of the work.
    """

    config: RunConfig
    writer: RecordWriter
    device: torch.device
    tracker: Tracker
    progress: AbstractContextManager[ReportProgress]

    @property
    def folder(self) -> CellFolder:
        """The cell's folder."""
        return self.writer.folder

    @cached_property
    def data(self) -> SplitData:
        """The data set, on the device; loaded when it is first needed."""
        config = self.config
        data = load_dataset(config.cell.dataset, data_dir=config.data_dir, path=config.data_path)
        return data.to(self.device)

    def provenance(self, *, compiled: bool = False, parts_at_once: int = 1) -> Provenance:
        """Code, machine and versions at work."""
        return provenance(
            device=describe_device(self.device),
            num_threads=torch.get_num_threads(),
            compiled=compiled,
            parts_at_once=parts_at_once,
        )
