"""``hydra/launcher=slurm``; Hydra accepts launchers from this namespace alone."""

from __future__ import annotations

from typing import Any

from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititSlurm

from samsweep.hydra_config.launcher import PlanLauncher
from samsweep.sweep.slurm.submit import SlurmRunner


class SlurmLauncher(PlanLauncher, SubmititSlurm):  # type: ignore[misc]
    """Submits cells to Slurm as arrays of jobs, each a pool over its share of them.

    Args:
        params: The keys of ``conf/hydra/launcher/slurm.yaml``.

    Raises:
        ConfigError: If a key is unknown or a value out of range.
    """

    def __init__(self, **params: Any) -> None:
        # Makes plain containers of what Hydra passes.
        super().__init__(**params)
        self.runner = SlurmRunner(self.params)
