"""What is wrong with a command, in sentences that name the value and the valid choices.

Hydra and omegaconf say by the type of an exception, and by what it carries, what they refuse. Where
they only say it in English, the overrides are compared with the options that there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, Node
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
)

from samsweep.config import ConfigError, Options, conf_dir, sibling_keys, unknown_name
from samsweep.config.conf_folders import config_dir_of
from samsweep.records.store import NewerRecord, RecordError


def explain(error: BaseException, arguments: Sequence[str] = ()) -> str:
    """What is wrong with a command, by what was raised and by its flags and overrides."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ConfigError):
            return str(link)
        if isinstance(link, NewerRecord):
            return f"{link}."
        if isinstance(link, RecordError):
            return f"{link}. Move that cell's folder away to train it anew."
        if isinstance(link, OverrideParseException):
            return f"{link.override} cannot be read: look at its quotes, commas and brackets."
        if isinstance(link, MissingConfigException) and link.options is not None:
            group, _, option = str(link.missing_cfg_file).rpartition("/")
            return unknown_name(group, option, link.options)
        if isinstance(link, yaml.YAMLError):
            return _bad_yaml(link)
        if isinstance(link, UnicodeDecodeError):
            return _no_text(link, arguments)
        if isinstance(link, InterpolationResolutionError):
            return _nothing_meant(link)
        if isinstance(link, RecursionError):
            return "An option's defaults, or a value, lead back to themselves: see what they name."
    overrides = _parsed(arguments)
    for link in chain:
        if isinstance(link, ConfigAttributeError | ConfigKeyError) and link.full_key:
            return _nothing_to_replace(str(link.full_key), link, overrides)
    sweeps = not {"-m", "--multirun"}.isdisjoint(arguments) or any(
        override.key_or_group in ("experiment", "hydra.mode") for override in overrides
    )
    sentences = _refused_by_hydra(overrides, sweeps=sweeps)
    return next(sentences, str(error).partition("\n")[0])


def is_refusal(error: BaseException) -> bool:
    """Whether an exception is about the command rather than a failure."""
    kinds = (
        *(ConfigError, RecordError, HydraException, OmegaConfBaseException),
        *(yaml.YAMLError, UnicodeDecodeError, RecursionError),
    )
    return any(isinstance(link, kinds) for link in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _parsed(arguments: Iterable[str]) -> list[Override]:
    words = [word for word in arguments if "=" in word and not word.startswith("-")]
    return OverridesParser.create().parse_overrides(words)


def _bad_yaml(error: yaml.YAMLError) -> str:
    """Where a file is no YAML, and why."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        place, problem = f"{mark.name}, line {mark.line + 1}", getattr(error, "problem", None)
    else:
        # Of a character that YAML does not have.
        place, problem = getattr(error, "name", "a file"), getattr(error, "reason", None)
    return f"{place} is no valid YAML ({problem or error}): correct it."


def _no_text(error: UnicodeDecodeError, arguments: Sequence[str]) -> str:
    """Which files of the user's conf/ are no text; the exception does not say."""
    folder = config_dir_of(arguments)
    found = [file for file in Path(folder).rglob("*.yaml") if _is_no_text(file)] if folder else []
    files = ", ".join(map(str, sorted(found))) or "a configuration file"
    return f"{files} is not in UTF-8 ({error.reason}): save it as such."


def _is_no_text(file: Path) -> bool:
    with suppress(OSError):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return True
    return False


def _nothing_meant(error: InterpolationResolutionError) -> str:
    """A value that stands for something that is not there."""
    key, parent = str(error.full_key or error.key), error.parent_node
    node = parent._get_node(error.key) if isinstance(parent, DictConfig) else None
    text = str(node._value()) if isinstance(node, Node) else "${...}"
    why = "there is no such key"
    if not isinstance(error, InterpolationKeyError):
        # Of a resolver, the exception of its own.
        own = (e for e in _chain(error) if not isinstance(e, OmegaConfBaseException) and e.args)
        why = str(next(own, error).args[0]).partition("\n")[0]
    if "${dataset.recipe." in text:
        why += "; begin the data set's option with `defaults: [own, _self_]`, which has a recipe"
    return f"{key}={text}: {why}: set {key}=VALUE."


def _nothing_to_replace(
    key: str, error: OmegaConfBaseException, overrides: Iterable[Override]
) -> str:
    """A key that is unknown, or that the chosen options do not have."""
    valid = sibling_keys(Options, key)
    if key in valid:
        return f"{key} is not among the chosen options' own values: write +{key}=VALUE."
    if not valid and any(key.startswith(f"{override.key_or_group}.") for override in overrides):
        return f"{key} is not there to be replaced: write +{key}=VALUE."
    args = _argument_of(key, error)
    if args is not None:
        return f"{key} is unknown: it is an argument, write {args}=VALUE."
    if key.startswith("hydra.launcher."):
        valid = _keys_beside(key, error)
    return unknown_name("key", key, valid)


def _argument_of(key: str, error: OmegaConfBaseException) -> str | None:
    """The full name of a key's last part, where that is an argument of a part beside it."""
    parent, (before, _, name) = error.parent_node, key.rpartition(".")
    for other, value in parent.items() if isinstance(parent, DictConfig) else ():
        if isinstance(value, DictConfig) and name in value:
            return ".".join(filter(None, (before, str(other), name)))
    return None


def _keys_beside(key: str, error: OmegaConfBaseException) -> list[str]:
    """The keys that are where the dotted ``key`` is not, such as those of the chosen launcher."""
    parent = error.parent_node
    names = [str(name) for name in parent] if isinstance(parent, DictConfig) else []
    return [f"{key.rpartition('.')[0]}.{name}" for name in names if not name.startswith("_")]


def _refused_by_hydra(overrides: Iterable[Override], *, sweeps: bool) -> Iterator[str]:
    """A sentence for each override that cannot stand, by what the options are."""
    for override in overrides:
        key, value = override.key_or_group, override.get_value_string()
        if override.is_sweep_override():
            if override.is_interval_sweep():
                yield f"{override.input_line}: a grid has values, write {key}=0.1,0.2 or a range()."
            elif override.is_hydra_override():
                yield f"{override.input_line}: give one value for the whole sweep."
            elif not sweeps:
                yield f"{override.input_line} gives several values: add -m to sweep over them."
        elif key == "groups" and isinstance(override.value(), dict):
            yield f"{override.input_line}: write a list of groups, groups=[{value}]."
        elif override.is_add() and key in Options.model_fields:
            yield f"{override.input_line}: {key} is there already, write {key}={value}."
        elif (
            override.type is OverrideType.CHANGE
            and _is_group(key)
            and key not in Options.model_fields
        ):
            yield f"no {key} is chosen yet that could be replaced: write +{key}={value}."


def _is_group(key: str) -> bool:
    return "." not in key and not key.startswith("hydra") and (conf_dir() / key).is_dir()
