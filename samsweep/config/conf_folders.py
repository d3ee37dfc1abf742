"""The folders of configurations: samsweep's own, and the user's, which goes before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from samsweep.config.factory import is_path, normal_path

_CONFIG_DIR = ("--config-dir", "-cd")


def conf_dir() -> Path:
    """The folder of configurations: inside an installed package, beside one in a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


def config_dir_of(arguments: Sequence[str]) -> str | None:
    """The folder that ``--config-dir`` names, if it does."""
    return take_config_dir(arguments)[0]


def take_config_dir(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The folder that ``--config-dir`` names, the first if there are more, and the other words."""
    folders: list[str] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name in _CONFIG_DIR:
            folders.append(value if equals else next(words, ""))
        else:
            others.append(word)
    return next(iter(folders), None), others


def no_such_folder(config_dir: str) -> str:
    """The sentence about a ``--config-dir`` that is none."""
    return f"--config-dir {config_dir}: there is no such folder."


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
