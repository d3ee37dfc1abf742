"""What each key of a configuration means, and what it can be: from the docstrings of its class."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from samsweep.config.fields import PATTERNS, OneOf

_TYPES: Mapping[Any, str] = {
    int: "integer",
    float: "number",
    str: "text",
    Path: "folder",
    tuple: "list",
    Mapping: "mapping",
}
_BOUNDS = {Ge: (">=", "ge"), Gt: (">", "gt"), Le: ("<=", "le"), Lt: ("<", "lt")}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key as a user writes it.

    Args:
        name: With dots, such as ``sharpness.trace.num_samples``.
        meaning: From the class's docstring.
        values: What it can be, in words.
        choices: The values, if they can be listed.
        default: The class's own, :data:`~pydantic_core.PydanticUndefined` if there is none.
    """

    name: str
    meaning: str
    values: str = ""
    choices: tuple[str, ...] = ()
    default: Any = PydanticUndefined


def described(schema: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """The keys of a class and of the classes of its fields, in their order.

    Args:
        schema: Its docstring has a section ``Args:`` in Google's style.
        prefix: What stands before the names.
    """
    meanings = meanings_of(schema)
    for name, field in schema.model_fields.items():
        parts = list(_alternatives(field.annotation, field.metadata))
        yield Key(
            name=f"{prefix}{name}",
            meaning=meanings.get(name, ""),
            values=listed([word for part in parts for word in _choices(*part) or _kind(*part)]),
            choices=tuple(choice for part in parts for choice in _choices(*part)),
            default=field.default,
        )
        for inner, _ in parts:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from described(inner, f"{prefix}{name}.")


def meanings_of(schema: type[BaseModel]) -> dict[str, str]:
    """The texts of a docstring's ``Args:``, by name, each on one line and without markup."""
    _, _, text = inspect.cleandoc(schema.__doc__ or "").partition("Args:\n")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", text, flags=re.MULTILINE)
    return {name: _plain(meaning) for name, meaning in entries}


def _plain(text: str) -> str:
    """Without markup, and in the words of the command line."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "")
    return " ".join(re.sub(r"\bNone\b", "null", text).split())


def _alternatives(annotation: Any, attached: Iterable[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The alternatives of a type, each with what is attached to it by ``Annotated``."""
    flat = [
        inner
        for item in attached
        for inner in (item.metadata if isinstance(item, FieldInfo) else [item])
    ]
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from _alternatives(inner, [*flat, *more])
    elif get_origin(annotation) in (Union, types.UnionType):
        for alternative in get_args(annotation):
            yield from _alternatives(alternative, flat)
    else:
        yield annotation, flat


def _choices(kind: Any, attached: Iterable[Any]) -> list[str]:
    """The values of a type, if they can be listed."""
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if kind is bool:
        return ["true", "false"]
    if kind is type(None):
        return ["null"]
    if get_origin(kind) is tuple:
        return [
            choice for part in _alternatives(get_args(kind)[0], []) for choice in _choices(*part)
        ]
    checks = [getattr(item, "func", None) for item in attached]
    return [choice for check in checks if isinstance(check, OneOf) for choice in check.choices]


def _kind(kind: Any, attached: Iterable[Any]) -> list[str]:
    """What a type is called, with its bounds."""
    attached = list(attached)
    for pattern in (getattr(item, "pattern", None) for item in attached):
        if pattern is not None:
            return [PATTERNS[pattern]]
    bounds = [
        f"{sign} {getattr(item, name)}"
        for item in attached
        for bound, (sign, name) in _BOUNDS.items()
        if isinstance(item, bound)
    ]
    named = _TYPES.get(get_origin(kind) or kind, "")
    return [f"{named} {' and '.join(bounds)}".strip()] if named else []


def listed(words: Iterable[str]) -> str:
    """Words as alternatives.

    >>> listed(["cpu"]), listed(["element", "tensor", "global"])
    ('cpu', 'element, tensor or global')
    """
    *rest, last = list(words) or [""]
    return f"{', '.join(rest)} or {last}" if rest else last
