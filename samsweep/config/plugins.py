"""Plugins: modules that register components, found by entry points, by name or by environment."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterable
from importlib import metadata

from samsweep.config.errors import ConfigError

#: Group of entry points; each names a module.
GROUP = "samsweep.plugins"
#: Names of modules, with commas between.
VARIABLE = "SAMSWEEP_PLUGINS"


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import the plugins that are installed, that the environment names, and these.

    Args:
        modules: Names of further modules.

    Raises:
        ConfigError: If one cannot be imported, or registers a name that is taken.
    """
    for name in installed_plugins():
        _load(name, f"which an installed package lists in {GROUP}", "install what it needs")
    for name in filter(None, os.environ.get(VARIABLE, "").split(",")):
        _load(name.strip(), f"which {VARIABLE} names", f"correct it, or unset {VARIABLE}")
    for name in modules:
        _load(
            name,
            "which plugins names",
            "install its package, or start where its folder lies, beside conf/ or on PYTHONPATH",
        )


@functools.cache
def installed_plugins() -> tuple[str, ...]:
    """The modules of all entry points of the group."""
    return tuple(point.value for point in metadata.entry_points(group=GROUP))


@functools.cache
def _load(module: str, named: str, remedy: str) -> None:
    try:
        importlib.import_module(module)
    except ConfigError as error:
        raise ConfigError(*(f"plugin {module}: {problem}" for problem in error.problems)) from None
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
        remedy = remedy if isinstance(error, ModuleNotFoundError) else "mend it"
        raise ConfigError(
            f"plugin {module} cannot be imported ({raised}), {named}: {remedy}."
        ) from error
