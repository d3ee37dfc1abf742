"""Tab completion of ``samsweep`` in bash and zsh: commands, keys, options of groups, studies."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from samsweep.cli.main import COMMANDS
from samsweep.cli.overrides import config_dir_of, options_of
from samsweep.config import Key, Options, described
from samsweep.records.store import study_names

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
#: Keys beside those of conf/config.yaml.
_HYDRA = ("+experiment", "hydra/launcher", "hydra/sweeper")


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
    if word.startswith("-"):
        return _starting_with(word, _FLAGS[command])
    keys = {key.name: key for key in _keys(command)}
    key, equals, value = word.partition("=")
    if not equals:
        found = [name for name in (*keys, *_HYDRA) if name.startswith(word)]
        # Values of a group once its name is written out.
        deep = "." in word
        return [f"{name}=" for name in found if deep or "." not in name]
    # Of several values the last is completed.
    first, comma, last = value.rpartition(",")
    choices = _values(key, keys, words)
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
    return described(Options)


def _values(name: str, keys: dict[str, Key], words: list[str]) -> Iterable[str]:
    if name == "study":
        roots = [word.partition("=")[2] for word in words if word.startswith("root=")]
        return study_names(Path(roots[-1] if roots else "multirun"))
    group = name.removeprefix("+")
    return options_of(group, config_dir_of(words)) or (keys[name].choices if name in keys else ())
