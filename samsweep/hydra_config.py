"""Between Hydra and the rest: the one home of DictConfig.

Finds ``conf/``, names a cell's folder, turns a composed configuration into a
:class:`~samsweep.config.RunConfig`, and refuses what cannot be run before anything is created.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from samsweep.config import ConfigError, Options, RunConfig, sibling_keys, unknown_name
from samsweep.data.describe import describe
from samsweep.records.identity import cell_id
from samsweep.records.store import RecordError


class Refusal(SystemExit):
    """A command that ends before any work is done: its reason, and exit status 2.

    It is no ``Exception``, since Hydra only warns of those when a callback raises them.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(2)
        self.reason = explain(error)


def conf_dir() -> Path:
    """The folder of configurations: inside an installed package, beside one in a checkout."""
    package = Path(__file__).parent
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


def register_resolvers() -> None:
    """Make ``${cell_id:}`` stand for the id of the cell that the configuration describes."""
    OmegaConf.register_new_resolver("cell_id", _resolve_cell_id, replace=True)


def _resolve_cell_id(*, _root_: DictConfig) -> str:
    return cell_id(to_run_config(_root_).cell)


def to_run_config(cfg: DictConfig) -> RunConfig:
    """Check and freeze a composed configuration.

    Args:
        cfg: What Hydra composed from ``conf/`` and the command line.

    Returns:
        The run it describes.

    Raises:
        ConfigError: With one sentence for every value that is wrong.
    """
    options = Options.parse(_plain(cfg))
    dataset = options.dataset
    path = None if dataset.path is None else Path(dataset.path)
    return options.resolve(describe(dataset.name, path, dataset.image_size))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, without Hydra's own node."""
    masked = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        plain = OmegaConf.to_container(masked, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing: set {error.full_key}=VALUE.") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


class Preflight(Callback):
    """Before a single run creates its folder: is everything there that it needs?"""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse the run, or get its data set ready."""
        try:
            prepare_run(to_run_config(config))
        except ConfigError as error:
            raise Refusal(error) from error


def prepare_run(config: RunConfig) -> None:
    """Download what a run needs and make sure of its device.

    Raises:
        ConfigError: If either cannot be had.
    """
    from samsweep.data.load import prepare
    from samsweep.training.device import resolve_device

    resolve_device(config.device)
    prepare(config.cell.dataset.name, config.data_dir)


# --------------------------------------------------------------------------- telling what is wrong


def explain(error: BaseException) -> str:
    """What is wrong with a command, in sentences that name the value and the valid choices."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ConfigError):
            return str(link)
        if isinstance(link, RecordError):
            return f"{link}. Move that cell's folder away to train it anew."
    text = "\n".join(str(link) for link in chain)
    key = re.search(r"Could not override '([^']+)'", text)
    if key is not None:
        return _not_overridable(key[1], text)
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if option is not None:
        return unknown_name(option[1], option[2], _available_options(text))
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if ambiguous is not None:
        return f"{ambiguous[1]} gives several values: add -m to sweep over them."
    for link in chain:
        if isinstance(link, OverrideParseException):
            return f"{link.override} cannot be read: {link.message.splitlines()[0]}."
    return str(error).splitlines()[0]


def is_refusal(error: BaseException) -> bool:
    """Whether an exception speaks of the command rather than of a failure."""
    kinds = (ConfigError, RecordError, HydraException, OmegaConfBaseException)
    return any(isinstance(link, kinds) for link in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _not_overridable(key: str, text: str) -> str:
    """A key that is unknown, or one that has nothing to override yet."""
    valid = sibling_keys(Options, key)
    if (conf_dir() / key).is_dir():
        addition = re.search(r"use (\+\S+)", text)
        remedy = addition[1] if addition else f"+{key}=OPTION"
        return f"no {key} is chosen yet that could be replaced: write {remedy}."
    if key in valid:
        return f"{key} is not among the chosen options' own values: write +{key}=VALUE."
    return unknown_name("key", key, valid)


def _available_options(text: str) -> list[str]:
    """The options that Hydra lists in its own message, those of --config-dir among them."""
    return re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
