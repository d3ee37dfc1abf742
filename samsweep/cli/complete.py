"""Tab completion of ``samsweep`` in bash and zsh: commands, keys, options of groups, studies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from samsweep.cli.main import COMMANDS
from samsweep.config import MEASURES, OUTCOMES, Key, Options, conf_dir, described
from samsweep.config.conf_folders import config_dir_of, options_of
from samsweep.records.store import cell_folders, study_names

#: What a shell evaluates, by its name. Bash splits words at = and : and completes the last part.
SCRIPTS = {
    "bash": """\
_samsweep() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n'
    local word="${line##*[[:space:]]}"
    COMPREPLY=($(samsweep --complete "$line" 2>/dev/null))
    [[ $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[=:]}"}"}")
}
complete -o nospace -F _samsweep samsweep""",
    "zsh": """\
_samsweep() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    compadd -S '' -- ${(f)"$(samsweep --complete "$line" 2>/dev/null)"}
}
compdef _samsweep samsweep""",
}

_FLAGS = {
    "run": ("-m", "--config-dir", "--cfg", "--hydra-help", "--help"),
    "measure": ("--config-dir", "--help"),
    "status": ("--watch", "--failed", "--logs", "--cancel", "--retry", "--help"),
    "tables": ("--help",),
    "report": ("--help",),
}
#: Options of status that the start of a cell's id may follow.
_TAKING_CELLS = ("--logs", "--cancel", "--retry")
#: Groups of conf/ beside the keys of a command.
_HYDRA = {
    "run": ("+experiment", "hydra/launcher", "hydra/sweeper"),
    "measure": ("hydra/launcher",),
}
#: Keys of Hydra's that a launcher is given.
_LAUNCHER = "hydra.launcher."


def completions(line: str) -> list[str]:
    """The words that the last word of a command line may become.

    Args:
        line: As typed, from the name of the program to the cursor.
    """
    *before, word = line.split(" ")
    words = [each for each in before[1:] if each]
    if not words:
        return _starting_with(word, COMMANDS)
    command = words[0]
    if command not in COMMANDS:
        return []
    if words[-1] in _TAKING_CELLS and not word.startswith("-") and "=" not in word:
        return _starting_with(word, _cells(words))
    if word.startswith("-") and "=" not in word:
        return _starting_with(word, _FLAGS[command])
    keys = {key.name: key for key in _keys(command)}
    key, equals, value = word.partition("=")
    if not equals:
        launchers = _launcher_keys(command, words) if word.startswith("hydra.") else []
        beside = (*_HYDRA.get(command, ()), *launchers)
        found = [name for name in (*keys, *beside) if name.startswith(word)]
        # Values of a group once its name is written out.
        deep = "." in word
        return [f"{name}=" for name in found if deep or "." not in name]
    # Of several values the last is completed.
    first, comma, last = value.rpartition(",")
    choices = _values(command, key, keys, words)
    return [f"{key}={first}{comma}{found}" for found in _starting_with(last, choices)]


def _starting_with(word: str, choices: Iterable[str]) -> list[str]:
    return [choice for choice in choices if choice.startswith(word)]


def _keys(command: str) -> Iterable[Key]:
    if command == "status":
        from samsweep.cli.status import StatusOptions

        return described(StatusOptions)
    if command in ("tables", "report"):
        from samsweep.cli.tables import TablesOptions

        return described(TablesOptions)
    if command == "measure":
        from samsweep.cli.measure_keys import PATH, filters, measured_settings

        path = (key for key in described(Options) if key.name == PATH)
        return (*filters(), *path, *measured_settings())
    return described(Options)


def _launcher_keys(command: str, words: list[str]) -> list[str]:
    """Those of the launcher that is chosen, else of all."""
    if command not in _HYDRA:
        return []
    chosen = _last("hydra/launcher", words)
    files = [
        f for f in sorted((conf_dir() / "hydra/launcher").glob("*.yaml")) if chosen in (f.stem, "")
    ]
    keys = {key for file in files for key in yaml.safe_load(file.read_text(encoding="utf-8"))}
    return [f"{_LAUNCHER}{key}" for key in sorted(keys) if not key.startswith("_")]


def _values(command: str, name: str, keys: Mapping[str, Key], words: list[str]) -> Iterable[str]:
    if name == "study":
        return study_names(_root(words))
    if command == "status" and f"--{name.removeprefix('--')}" in _TAKING_CELLS:
        return _cells(words)
    if name == "reference" and name in keys:
        from samsweep.cli.tables import reference_names

        return (*reference_names(), *keys[name].choices)
    if command == "tables" and name in ("rows", "cols", "effects"):
        return (key.name for key in described(Options))
    if command == "tables" and name == "value":
        return (*OUTCOMES, *MEASURES)
    if name not in keys and name not in _HYDRA.get(command, ()):
        return ()
    group = name.removeprefix("+")
    return options_of(group, config_dir_of(words)) or (keys[name].choices if name in keys else ())


def _root(words: list[str]) -> Path:
    return Path(_last("root", words) or "multirun")


def _cells(words: list[str]) -> list[str]:
    study = _last("study", words) or "default"
    return [folder.path.name for folder in cell_folders(_root(words) / study)]


def _last(key: str, words: list[str]) -> str:
    """The value that a command line gives to a key; empty if none."""
    given = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return given[-1] if given else ""
