"""How and where one cell runs; nothing of it changes what is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from samsweep.config.cell import CellConfig
from samsweep.config.fields import (
    NO_ARGUMENTS,
    Arguments,
    Count,
    DeviceName,
    FactoryPath,
    Frozen,
    Positive,
    StudyName,
)
from samsweep.config.sharpness import SharpnessConfig

OnCodeChange = Literal["warn", "refuse"]


class TrackingConfig(Frozen):
    """Where progress is logged beside the record.

    Args:
        factory: Path of a callable that makes a tracker.
        name: ``none``, ``wandb`` or one that is registered; beside a factory any.
        args: Arguments of a tracker of one's own.
        mode: W&B's mode; offline needs neither account nor network.
        project: W&B project.
        entity: W&B team or user; None is the account's default.
    """

    factory: FactoryPath | None = None
    name: str
    args: Arguments = NO_ARGUMENTS
    mode: Literal["offline", "online"] = "offline"
    project: str = "samsweep"
    entity: str | None = None


class CheckpointConfig(Frozen):
    """When a resumable state is written, whichever comes first.

    Args:
        every_steps: Period in optimizer steps; None turns it off.
        every_seconds: Period in seconds; None turns it off.
        keep: Whether checkpoints stay after completion.
    """

    every_steps: Count | None
    every_seconds: Positive | None
    keep: bool


class PruningConfig(Frozen):
    """What ends cells early that are hopeless beside the others of their study.

    Args:
        name: Of the pruner, registered or a path.
        args: Its arguments.
    """

    name: str
    args: Arguments = NO_ARGUMENTS


class RunConfig(Frozen):
    """One cell and how it runs here: nothing outside ``cell`` changes what is learnt."""

    cell: CellConfig
    study: StudyName
    # Launches before these were there are read too.
    plugins: tuple[str, ...] = ()
    on_code_change: OnCodeChange = "warn"
    data_dir: Path
    data_path: Path | None
    device: DeviceName
    num_threads: Count | None
    compile: bool = False
    cuda_graphs: bool = True
    parts_at_once: Count = 1
    sharpness: SharpnessConfig
    tracking: TrackingConfig
    checkpoint: CheckpointConfig
    pruning: PruningConfig | None = None
    diagnostics_every: Count

    @property
    def compiles(self) -> bool:
        """Whether a compiler is asked for, and the variant's steps can be compiled."""
        return self.compile and self.cell.variant.compilable

    @property
    def parts_together(self) -> int:
        """Parts of a mini-batch that are one pass; 1 where there are no parts."""
        return 1 if self.cell.variant.m is None else self.parts_at_once
