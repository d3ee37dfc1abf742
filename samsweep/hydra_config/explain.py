"""What is wrong with a command, in sentences that name the value and the valid choices."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samsweep.config import (
    ConfigError,
    Options,
    conf_dir,
    sibling_keys,
    unknown_name,
)
from samsweep.records.store import RecordError


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
            return f"{link.override} cannot be read: look at its quotes, commas and brackets."
    swept = re.search(r"Sweeping over Hydra's configuration is not supported : '([^']+)'", text)
    if swept is not None:
        return f"{swept[1]}: give one value for the whole sweep."
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
    inner = re.search(r"full_key: (\S+)", text)
    if inner is not None and inner[1].startswith(f"{key}."):
        return f"{inner[1]} is not there to be replaced: write +{inner[1]}=VALUE."
    if (conf_dir() / key).is_dir():
        addition = re.search(r"use (\+\S+)", text)
        remedy = addition[1] if addition else f"+{key}=OPTION"
        return f"no {key} is chosen yet that could be replaced: write {remedy}."
    if key in valid:
        return f"{key} is not among the chosen options' own values: write +{key}=VALUE."
    if key.startswith("hydra.launcher."):
        valid = sorted(_launcher_keys())
    return unknown_name("key", key, valid)


def _launcher_keys() -> set[str]:
    """What can be set of the launchers that conf/ describes."""
    files = (conf_dir() / "hydra/launcher").glob("*.yaml")
    keys = {str(key) for file in files for key in OmegaConf.load(file)}
    return {f"hydra.launcher.{key}" for key in keys - {"_target_", "defaults"}}


def _available_options(text: str) -> list[str]:
    """The options that Hydra lists in its own message, those of --config-dir among them."""
    return re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
