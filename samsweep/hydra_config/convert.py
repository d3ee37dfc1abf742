"""From a composed configuration to a checked and frozen run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from samsweep.config import (
    ConfigError,
    Options,
    RunConfig,
)
from samsweep.data.dataset_info import describe
from samsweep.records.identity import cell_id


def register_resolvers() -> None:
    """Make ``${cell_id:}`` stand for the id of the cell that the configuration describes."""
    OmegaConf.register_new_resolver("cell_id", _resolve_cell_id, replace=True)


def _resolve_cell_id(*, _root_: DictConfig) -> str:
    return cell_id(to_run_config(_root_).cell)


def to_run_config(cfg: DictConfig) -> RunConfig:
    """The run that a composed configuration describes, checked and frozen.

    Raises:
        ConfigError: With one sentence for every value that is wrong.
    """
    options = to_options(cfg)
    dataset = options.dataset
    path = None if dataset.path is None else Path(dataset.path)
    return options.resolve(describe(dataset.name, path, dataset.image_size))


def to_options(cfg: DictConfig) -> Options:
    """Check and freeze a composed configuration, whatever data set there is.

    Raises:
        ConfigError: With one sentence for every value that is wrong.
    """
    return Options.parse(_plain(cfg))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, without Hydra's own node."""
    masked = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        plain = OmegaConf.to_container(masked, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing: set {error.full_key}=VALUE.") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
