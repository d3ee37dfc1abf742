"""The command lines that Hydra composes: their flags and their overrides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from samsweep.config import ConfigError, with_arguments_added
from samsweep.config.conf_folders import config_dir_of, options_of

#: Hydra's flags that take the next word.
_WITH_VALUE = frozenset(
    "--config-dir -cd --config-path -cp --config-name -cn --package -p --cfg -c".split()
)
_FLAGS = _WITH_VALUE | frozenset(
    "-m --multirun -r --run -h --help --hydra-help --version -sc --shell-completion "
    "-i --info --resolve".split()
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
        elif equals and not name.strip("+~"):
            problems.append(f"{word}: write the key before the =, such as rho{equals}{value}.")
        elif equals or word.startswith("~"):
            try:
                overrides.append(with_option_as_text(with_arguments_added(word), is_group))
            except ConfigError as error:
                problems += error.problems
        else:
            problems.append(f"{word}: write KEY=VALUE, such as study={word}.")
    if "-m" in flags or "--multirun" in flags:
        problems += [f"{flag} shows a single run: leave out -m." for flag in flags if _shows(flag)]
    if problems:
        raise ConfigError(*problems)
    return flags, overrides


def given_twice(overrides: Sequence[str]) -> Iterator[str]:
    """A sentence for each key that stands there again: the last counts, which may not be meant."""
    seen: dict[str, str] = {}
    for word in overrides:
        # Of others Hydra says that they are too many.
        key = word.partition("=")[0]
        if key in seen and seen[key] != word and key[0] not in "+~":
            yield f"{seen[key]} and {word}: the last counts."
        seen[key] = word


def _shows(flag: str) -> bool:
    """Whether a flag prints something in place of a run, of which Hydra takes one alone."""
    return flag.partition("=")[0] in ("-c", "--cfg", "-i", "--info")
