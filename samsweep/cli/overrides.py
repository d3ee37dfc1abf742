"""The command lines that Hydra composes: their overrides, and the options that ``conf/`` has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from samsweep.config import ConfigError, conf_dir, with_arguments_added
from samsweep.config.factory import is_path, normal_path

#: Hydra's flags that take the next word.
_WITH_VALUE = frozenset(
    "--config-dir -cd --config-path -cp --config-name -cn --package -p --cfg -c".split()
)
_FLAGS = _WITH_VALUE | frozenset(
    "-m --multirun -r --run -h --help --hydra-help --version -sc --shell-completion "
    "-i --info --resolve --experimental-rerun".split()
)
#: What --info may be followed by.
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the overrides, in whatever order they were typed.

    Raises:
        ConfigError: With a sentence for every word that is neither.
    """
    # Late: completion does without Hydra, whose import takes time.
    from samsweep.hydra_config import with_option_as_text

    config_dir = config_dir_of(arguments)

    def is_group(key: str) -> bool:
        # Those of Hydra's plugins have no folder here.
        return "/" in key or bool(options_of(key, config_dir))

    flags: list[str] = []
    overrides: list[str] = []
    problems = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name in _FLAGS:
            flags.append(word)
            takes_word = name in _WITH_VALUE or (
                name in ("-i", "--info") and "".join(words[:1]) in _INFO
            )
            if takes_word and not equals and words:
                flags.append(words.pop(0))
        elif word.startswith("--"):
            if not equals and words and "=" not in words[0] and not words[0].startswith("-"):
                value = words.pop(0)
            problems.append(f"{word}: write {name.removeprefix('--')}={value or 'VALUE'}.")
        elif equals or word.startswith("~"):
            overrides.append(with_option_as_text(with_arguments_added(word), is_group))
        else:
            problems.append(f"{word}: write KEY=VALUE, such as study={word}.")
    if problems:
        raise ConfigError(*problems)
    return flags, overrides


def config_dir_of(arguments: Sequence[str]) -> str | None:
    """The folder that ``--config-dir`` names, if it does."""
    for index, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            return value if equals else "".join(arguments[index + 1 : index + 2])
    return None


def options_of(group: str, config_dir: str | None = None) -> list[str]:
    """The options of a group, such as ``opt`` or ``hydra/launcher``; none if it is no group."""
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def named_factories(config_dir: str | None) -> set[str]:
    """Every path, of factories above all, that an option of the user's conf/ has as a value."""
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    found: set[str] = set()
    for file in (file for folder in folders for file in folder.rglob("*.yaml")):
        # What Hydra cannot read either names nothing.
        with suppress(yaml.YAMLError, UnicodeDecodeError):
            found |= {normal_path(text) for text in _texts(yaml.safe_load(file.read_text()))}
    return {text for text in found if is_path(text)}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
