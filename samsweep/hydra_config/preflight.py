"""Refuse what cannot be run before a folder is created."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from samsweep.config import ConfigError, RunConfig
from samsweep.hydra_config.convert import to_run_config
from samsweep.hydra_config.explain import explain, is_refusal
from samsweep.records.store import CellFolder
from samsweep.sweep.local.runner import prepare
from samsweep.sweep.plan import Point, plan_sweep
from samsweep.sweep.plan_table import print_plan


class Refusal(SystemExit):
    """A command that ends before any work is done: its reason, and exit status 2.

    It is no ``Exception``, since Hydra only warns of those when a callback raises them.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(2)
        self.reason = explain(error)


class Preflight(Callback):
    """Before a folder is created: is everything there that the command needs?"""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a single run, print what it would do, or download its data set."""
        try:
            _refuse_launcher(config)
            run = to_run_config(config)
            if config.dry_run:
                _print_single_run(config, run)
                raise SystemExit(0)
            # Late, since torch takes seconds to import.
            from samsweep.training.worker import prepare_machine

            prepare_machine(run.device, (run,), run.compiles)
        except Exception as error:
            if is_refusal(error):
                raise Refusal(error) from error
            raise

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse what only our own sweeper can do."""
        sweeper = config.hydra.runtime.choices["hydra/sweeper"]
        if config.dry_run and sweeper != "samsweep":
            problem = (
                f"dry_run=true: hydra/sweeper={sweeper} has no plan to print; "
                "leave dry_run out, or use hydra/sweeper=samsweep."
            )
            raise Refusal(ConfigError(problem))


def _refuse_launcher(config: DictConfig) -> None:
    """Without ``-m`` Hydra ignores launchers, and would train where it stands.

    Raises:
        ConfigError: If one was chosen.
    """
    launcher = ("hydra/launcher=", "hydra.launcher.")
    chosen = [o for o in config.hydra.overrides.hydra if o.lstrip("+").startswith(launcher)]
    name = config.hydra.runtime.choices["hydra/launcher"]
    if name != "local":
        # Perhaps by a preset.
        chosen.append(f"hydra/launcher={name}")
    if chosen:
        raise ConfigError(
            f"{chosen[0]} has no effect on a single run, which trains in this process: "
            "add -m to launch, also a single cell."
        )


def _print_single_run(config: DictConfig, run: RunConfig) -> None:
    folder = CellFolder(Path(config.hydra.run.dir).absolute())
    plan = plan_sweep([Point(run=run, folder=folder)])
    print_plan(plan, prepare(plan, None, download=False) if plan.to_do else None)
