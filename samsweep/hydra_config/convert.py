"""From a composed configuration to a checked and frozen run."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from samsweep.config import ConfigError, Options, RunConfig, conf_dir
from samsweep.config.factory import add_search_path
from samsweep.config.plugins import load_plugins
from samsweep.data.dataset_info import describe
from samsweep.records.identity import cell_id


def register_resolvers() -> None:
    """Make ``${cell_id:}`` stand for the id of the cell that the configuration describes."""
    OmegaConf.register_new_resolver("cell_id", _resolve_cell_id, replace=True)


#: The id of the cell whose folder is being named, where it is known already.
_known_id: ContextVar[str | None] = ContextVar("cell_id", default=None)


def _resolve_cell_id(*, _root_: DictConfig) -> str:
    return _known_id.get() or cell_id(to_run_config(_root_).cell)


def cell_folder(cfg: DictConfig, run: RunConfig) -> Path:
    """Where a sweep puts the cell of a configuration, whose run this is."""
    token = _known_id.set(cell_id(run.cell))
    try:
        return Path(cfg.hydra.sweep.dir).absolute() / str(cfg.hydra.sweep.subdir)
    finally:
        _known_id.reset(token)


def to_run_config(cfg: DictConfig) -> RunConfig:
    """The run that a composed configuration describes, checked and frozen.

    Raises:
        ConfigError: With one sentence for every value that is wrong.
    """
    options = to_options(cfg)
    path = options.dataset.path
    return options.resolve(describe(options.dataset, None if path is None else Path(path)))


def to_options(cfg: DictConfig) -> Options:
    """Check and freeze a composed configuration, whatever data set there is.

    Raises:
        ConfigError: With one sentence for every value that is wrong.
    """
    values = _plain(cfg)
    add_search_path(_project_folders(cfg))
    plugins = values.get("plugins") or ()
    load_plugins([plugins] if isinstance(plugins, str) else map(str, plugins))
    return Options.parse(_named(values, cfg))


def _project_folders(cfg: DictConfig) -> Iterator[Path]:
    """Where modules of the user's own may lie: here, and beside the user's own conf/."""
    yield Path.cwd()
    hydra = _hydra(cfg)
    for source in () if hydra is None else hydra.runtime.config_sources:
        folder = Path(source.path)
        if source.provider != "hydra" and source.schema == "file" and folder != conf_dir():
            yield folder.parent


def _hydra(cfg: DictConfig) -> Any:
    """Hydra's own node, which the configuration of a task comes without; None outside of Hydra."""
    if "hydra" in cfg:
        return cfg.hydra
    return HydraConfig.get() if HydraConfig.initialized() else None


#: Groups whose options may leave their name to the file's.
_GROUPS = ("model", "opt", "dataset", "tracking")


def _named(values: dict[str, Any], cfg: DictConfig) -> dict[str, Any]:
    """With the option's name where a component of the user's own has none."""
    hydra = _hydra(cfg)
    choices = {} if hydra is None else hydra.runtime.choices
    return {
        key: {"name": choices[key], **value}
        if key in _GROUPS and key in choices and isinstance(value, dict)
        else value
        for key, value in values.items()
    }


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, without Hydra's own node."""
    try:
        plain = {
            str(key): OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            if OmegaConf.is_config(value := cfg[key])
            else value
            for key in cfg
            if key != "hydra"
        }
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing: set {error.full_key}=VALUE.") from None
    return plain
