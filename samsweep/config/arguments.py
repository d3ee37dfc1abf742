"""Command lines of ``key=value`` for commands that Hydra does not compose, and the help of all."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from samsweep.config.describe import Key, described
from samsweep.config.errors import ConfigError, unknown_name
from samsweep.config.fields import Frozen, refusal

S = TypeVar("S", bound=Frozen)

_WIDTH = 100


def parse_arguments(
    schema: type[S], arguments: Sequence[str], *, options: Mapping[str, str] | None = None
) -> S:
    """Read ``key=value`` words, and ``--flag`` in place of ``flag=true``.

    Args:
        schema: The keys.
        arguments: The words of the command line.
        options: Keys that may be written ``--key VALUE`` too, with what ``--key`` alone stands for;
            the empty text if it needs a value.

    Raises:
        ConfigError: With a sentence for every word that means nothing, and for every value that
            cannot be.
    """
    options = options or {}
    flags = {key.name for key in described(schema) if "true" in key.choices}
    values: dict[str, str] = {}
    problems: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        is_option = word.startswith("--")
        key, _, value = word.removeprefix("--").partition("=")
        key = key.replace("-", "_") if is_option else key
        if is_option and key not in flags and not value and words and _is_value(words[0]):
            value = words.pop(0)
        if key not in schema.model_fields:
            problems.append(_unknown(word, key, schema))
        elif not is_option and "=" in word:
            values[key] = value
        elif is_option and key in flags:
            values[key] = value or "true"
        elif is_option and (value or options.get(key)) and key in options:
            values[key] = value or options[key]
        else:
            problems.append(f"{word}: write {key}={value or 'VALUE'}.")
    if problems:
        raise ConfigError(*problems)
    return _checked(schema, {k: v for k, v in values.items() if v != "null"})


def _is_value(word: str) -> bool:
    return not word.startswith("-") and "=" not in word


def _unknown(word: str, key: str, schema: type[Frozen]) -> str:
    if not word.startswith("-") and "=" not in word and "study" in schema.model_fields:
        return f"{word}: write study={word} for the study of that name."
    return unknown_name("key", key, schema.model_fields)


def _checked(schema: type[S], values: Mapping[str, str]) -> S:
    """Texts of the command line as the values that they mean.

    Raises:
        ConfigError: With a sentence for every value that cannot be.
    """
    try:
        return schema.model_validate_strings(values, strict=False)
    except ValidationError as error:
        raise refusal(schema, error) from None


# --------------------------------------------------------------------------- help


def help_of_keys(keys: Iterable[Key], values: Mapping[str, Any] | None = None) -> str:
    """Each key with its default as it is written, what it can be, and what it means.

    Args:
        keys: In the order of the text.
        values: Defaults by name, before those of the classes.
    """
    return "\n".join(_help_of(key, (values or {}).get(key.name, key.default)) for key in keys)


def _help_of(key: Key, default: Any) -> str:
    shown = "" if default is PydanticUndefined else written(default)
    head = f"  {key.name}={shown}"
    if key.values:
        # The choices of a long list stand below its key.
        fits = len(head) + len(key.values) + 2 <= _WIDTH
        head += f"  {key.values}" if fits else f"\n{_indented(key.values)}"
    return f"{head}\n{_indented(key.meaning)}"


def _indented(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="      ", subsequent_indent="      ")


def written(value: Any) -> str:
    """A value as it is written on the command line.

    >>> written(None), written(True), written(0.1), written(("a", "b")), written({"k": 5})
    ('null', 'true', '0.1', '[a,b]', '{k:5}')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{written(x)}' for key, x in value.items())}}}"
    return str(value)
