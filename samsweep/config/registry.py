"""A table of what can be named in a configuration, for each kind of component one.

Those of samsweep are in :mod:`samsweep.config.components`. Others come in through
:mod:`samsweep.register`, into the same tables; a name with dots is a factory by its path and needs
no table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from samsweep.config.errors import ConfigError, unknown_name
from samsweep.config.factory import (
    Factory,
    is_path,
    load_factory,
    normal_path,
    source_of,
)

C = TypeVar("C", bound="Component")


@dataclass(frozen=True, kw_only=True)
class Component:
    """Something that a configuration can name, and how it is made.

    Args:
        factory: Makes it: a callable, or ``package.module.attribute``, imported when it is needed.
        args: Keyword arguments that it is always given.
        version: That a plugin declares in place of its source's fingerprint.
        ours: Whether it is samsweep's own, which ``RESULTS_VERSION`` stands for.
    """

    factory: Factory = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    ours: bool = False

    @property
    def source(self) -> str | None:
        """What a cell's identity holds of its source; None for our own.

        Raises:
            ConfigError: If its module cannot be found.
        """
        if self.ours:
            return None
        # Arguments stand in the plugin, perhaps another module than the factory's.
        args = f" {json.dumps(self.args, sort_keys=True, default=str)}" if self.args else ""
        return (self.version or source_of(self.factory)) + args

    def load(self) -> Callable[..., Any]:
        """The callable.

        Raises:
            ConfigError: If it cannot be imported.
        """
        return load_factory(self.factory)

    def with_args(self, args: Mapping[str, Any] | None) -> dict[str, Any]:
        """What it is always given and, before that, what a configuration gives."""
        return {**self.args, **(args or {})}


class Registry(Mapping[str, C], Generic[C]):
    """The components of one kind, by name.

    Args:
        kind: What they are, for messages.
        component: Their class.
        ours: Those of samsweep.
    """

    def __init__(self, kind: str, component: type[C], ours: Mapping[str, C]) -> None:
        self.kind = kind
        self.component = component
        self._components = dict(ours)

    #: One of each kind.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __getitem__(self, name: str) -> C:
        """The component of a name that is registered."""
        return self._components[name]

    def __iter__(self) -> Iterator[str]:
        """The names: ours in the order of the tables, then others as they came."""
        return iter(self._components)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._components)

    def add(self, name: str, component: C) -> None:
        """Register a component.

        Raises:
            ConfigError: If the name has dots or is taken by another one, or its factory has no name
                of its own, such as a partial function.
        """
        there = self._components.get(name)
        if is_path(name):
            raise ConfigError(f"{self.kind} {name!r}: choose a name without dots or colons.")
        if not isinstance(component.factory, str) and not hasattr(
            component.factory, "__qualname__"
        ):
            raise ConfigError(
                f"{self.kind} {name!r} is made by a {type(component.factory).__name__}: register a "
                "function or class, and give its arguments with args={...}."
            )
        if there is not None and not _same(there, component):
            raise ConfigError(f"{self.kind} {name!r} is registered twice: choose another name.")
        self._components[name] = component

    def find(self, name: str, factory: str | None = None) -> C:
        """The component that a configuration names.

        Args:
            name: Registered, or a path.
            factory: A path that goes before the name.

        Raises:
            ConfigError: If nothing has that name.
        """
        if factory is not None or is_path(name):
            return self.component(factory=normal_path(factory or name))
        if name not in self:
            raise ConfigError(self.unknown(name))
        return self[name]

    def unknown(self, name: str) -> str:
        """The sentence about a name that nothing answers to."""
        own = "One of your own needs its plugin, plugins=[MODULE], or its path, MODULE.NAME."
        return f"{unknown_name(self.kind, name, self)} {own}"


def _same(there: Component, component: Component) -> bool:
    """Whether both are one factory, perhaps of a module that was imported twice."""
    names = [
        (getattr(c.factory, "__module__", ""), getattr(c.factory, "__qualname__", c.factory))
        for c in (there, component)
    ]
    return not there.ours and names[0] == names[1]


def built_in(module: str, names: str) -> dict[str, Component]:
    """Samsweep's own functions of a module, each by its name."""
    return {n: Component(factory=f"{module}.{n}", ours=True) for n in names.split()}
