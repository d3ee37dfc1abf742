"""``hydra/launcher=local``; Hydra accepts launchers from this namespace alone."""

from __future__ import annotations

from collections.abc import Sequence

from samsweep.hydra_config.launcher import PlanLauncher
from samsweep.sweep.local.runner import LocalRunner
from samsweep.sweep.local.slots import PoolSettings


class LocalLauncher(PlanLauncher):
    """Runs cells at the same time on this machine, each in a process of its own.

    Args:
        workers: See :class:`~samsweep.sweep.local.slots.PoolSettings`, also for the others.
        gpus: GPUs to use.
        cells_per_gpu: Cells that share a GPU.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(
        self,
        workers: int | None = None,
        gpus: Sequence[int] | None = None,
        cells_per_gpu: int = 1,
    ) -> None:
        values = {
            "workers": workers,
            "gpus": None if gpus is None else tuple(gpus),
            "cells_per_gpu": cells_per_gpu,
        }
        self.runner = LocalRunner(settings=PoolSettings.parse(values, prefix="hydra.launcher."))
