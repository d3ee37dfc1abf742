"""What a command that trains nothing takes of a composed configuration: options and a launcher."""

from __future__ import annotations

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig

from samsweep.config import ConfigError, Options
from samsweep.hydra_config.compose import Composer
from samsweep.hydra_config.convert import to_options
from samsweep.hydra_config.launcher import PlanLauncher


def options_of_grid(loader: ConfigLoader, master: DictConfig) -> list[Options]:
    """The options of each combination of the values that the command line gives.

    Raises:
        ConfigError: If a value cannot be.
    """
    parser = OverridesParser.create(config_loader=loader)
    overrides = parser.parse_overrides(list(master.hydra.overrides.task))
    composer = Composer(loader, master)
    (grid,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return [to_options(composer.config(chosen)) for chosen in grid]


def plan_launcher(loader: ConfigLoader, master: DictConfig) -> PlanLauncher:
    """The launcher that is chosen.

    Raises:
        ConfigError: If it cannot run a plan.
    """
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
        task_function=to_options,
        config=master,
    )
    if not isinstance(launcher, PlanLauncher):
        name = master.hydra.runtime.choices["hydra/launcher"]
        raise ConfigError(
            f"hydra/launcher={name} cannot measure: choose hydra/launcher=local or "
            "hydra/launcher=slurm."
        )
    return launcher
