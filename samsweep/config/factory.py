"""Factories by their path, ``package.module.attribute``: found, imported, identified by source.

A factory's source is a version where its package is installed with one, and otherwise a fingerprint
of its module and of the modules beside it that it imports. Finding it imports nothing: planning
stays free of torch, whatever a model needs.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from samsweep.config.errors import ConfigError

Factory = str | Callable[..., Any]


def is_path(name: str) -> bool:
    """Whether a name is a path, ``package.module.attribute`` or ``package.module:attribute``.

    >>> is_path("sgd"), is_path("torch.optim.NAdam")
    (False, True)
    """
    return "." in name or ":" in name


def normal_path(path: str) -> str:
    """One spelling of a path.

    >>> normal_path("timm:create_model")
    'timm.create_model'
    """
    return path.replace(":", ".")


def load_factory(factory: Factory) -> Callable[..., Any]:
    """The callable that a path names.

    Raises:
        ConfigError: If there is none.
    """
    if not isinstance(factory, str):
        return factory
    parts = normal_path(factory).split(".")
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                continue
            raise _not_imported(factory, error) from error
        except Exception as error:
            raise _not_imported(factory, error) from error
        for attribute in parts[length:]:
            found = getattr(found, attribute, None)
        if not callable(found):
            raise ConfigError(
                f"{factory}: module {name} has no callable {'.'.join(parts[length:])}; "
                "name a function or class of it."
            )
        return found  # type: ignore[no-any-return]
    raise _not_found(factory)


@functools.cache
def source_of(factory: Factory) -> str:
    """A version such as ``timm 1.0.9``, or a fingerprint of 16 hex digits.

    Args:
        factory: A path, whose module is not imported, or a function or class.

    Raises:
        ConfigError: If its module cannot be found.
    """
    if isinstance(factory, str):
        module = normal_path(factory).rpartition(".")[0]
    else:
        module = inspect.unwrap(factory).__module__
    top = module.partition(".")[0]
    spec = _spec(top) if top else None
    if spec is None:
        raise _not_found(factory if isinstance(factory, str) else module)
    return _version(top, spec) or _fingerprint(_local_files(spec, module))


@functools.cache
def classes_of(package: str, folder: str) -> dict[str, str]:
    """Paths of the optimizers of an installed package, by their names in lower case.

    Read off its source, since importing it takes seconds.

    Args:
        package: At the top level; if it is not installed there are none.
        folder: Inside it, whose modules define the classes.
    """
    spec = _spec(package)
    where = next(iter((spec and spec.submodule_search_locations) or ()), None)
    found = {}
    for file in sorted(Path(where, folder).glob("*.py")) if where else ():
        for name in re.findall(r"^class (\w+)\(\w*Optimizer\w*\)", file.read_text(), re.MULTILINE):
            found[name.lower()] = f"{package}.{folder}.{file.stem}.{name}"
    return found


def make(what: str, factory: Factory, args: Mapping[str, Any], **beside: Any) -> Any:
    """Call a factory.

    Args:
        what: Is made, as ``key=value``, for messages.
        factory: The callable or its path.
        args: Keyword arguments that the user gives.
        beside: Keyword arguments that it is given if it has parameters of those names.

    Raises:
        ConfigError: If it has no parameter for an argument, or no value for a parameter.
    """
    return prepared(what, factory, args, beside)(**beside)


def prepared(
    what: str, factory: Factory, args: Mapping[str, Any], beside: Iterable[str]
) -> Callable[..., Any]:
    """A factory that is looked up and checked once, to be called with what stands beside.

    Args:
        what: As of :func:`make`.
        factory: As of :func:`make`.
        args: As of :func:`make`.
        beside: Names of the keyword arguments of the calls, all of which each call gives.

    Raises:
        ConfigError: As :func:`make`.
    """
    function = load_factory(factory)
    keywords, unknown, missing = match(function, args, dict.fromkeys(beside))
    left = [key for key in parameters_of(function) if key not in beside]
    problems = [_not_taken(what, function, key, left) for key in unknown]
    problems += [_filled(what, key) for key in args if key in beside and key in _FILLED]
    problems += [f"{what}: {name_of(function)} needs a value for {key}." for key in missing]
    if problems:
        raise ConfigError(*problems)
    taken = [key for key in keywords if key not in args]
    return lambda **values: function(**{key: values[key] for key in taken}, **args)


def match(
    function: Callable[..., Any], args: Mapping[str, Any], beside: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Keyword arguments for a callable.

    Args:
        function: Is called with them.
        args: What it is given in any case.
        beside: What it is given if it has a parameter of that name.

    Returns:
        The keywords, the arguments that it does not take, the parameters without a value.
    """
    parameters = inspect.signature(function).parameters
    named = {k: p for k, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    keywords = {key: value for key, value in beside.items() if key in named} | dict(args)
    unknown = [key for key in args if key not in named and not takes_any(function)]
    missing = [k for k, p in named.items() if p.default is p.empty and k not in keywords]
    return keywords, unknown, missing


def takes_any(function: Callable[..., Any]) -> bool:
    """Whether a callable takes keyword arguments of any name."""
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def bound(
    what: str, factory: Factory, args: Mapping[str, Any], *, num_given: int = 0
) -> Callable[..., Any]:
    """A function with its arguments, or what a class makes of them: something to call.

    Args:
        what: As of :func:`make`.
        factory: As of :func:`make`.
        args: As of :func:`make`.
        num_given: How many of its first parameters the caller gives, by position.

    Raises:
        ConfigError: As :func:`make`.
    """
    function = load_factory(factory)
    if isinstance(function, type):
        made: Callable[..., Any] = make(what, function, args)
        return made
    # What has no default, or is the number of the step, whoever calls it gives.
    first = parameters_of(function)[:num_given]
    if clash := [key for key in args if key in first]:
        raise ConfigError(_filled(what, clash[0]))
    _, unknown, given = match(function, args, {})
    unknown += [key for key in args if key == "step"]
    if unknown:
        kept = [key for key in parameters_of(function) if key not in (*given, "step")]
        raise ConfigError(_not_taken(what, function, unknown[0], kept))
    return functools.partial(function, **args) if args else function


#: What samsweep alone can know of a call; a network's ``num_classes`` may be the user's.
_FILLED = frozenset(
    "epoch epochs base rho model seed second_pass config record folder inputs labels".split()
)


def _filled(what: str, key: str) -> str:
    return f"{what}: {key} is given by samsweep: leave it out."


def _not_taken(
    what: str, function: Callable[..., Any], key: str, choices: Iterable[str] | None = None
) -> str:
    named = list(parameters_of(function) if choices is None else choices)
    remedy = f"choose among {', '.join(named)}" if named else "leave it out"
    return f"{what}: {name_of(function)} takes no argument {key}: {remedy}."


def name_of(factory: Factory) -> str:
    """Path of a factory, for messages and for another process."""
    if isinstance(factory, str):
        return factory
    return f"{factory.__module__}.{factory.__qualname__}"


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """Names of the parameters that can be given by name."""
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


#: Folders that were added to where modules are looked for.
_added: list[str] = []


def add_search_path(folders: Iterable[str | Path]) -> None:
    """Let modules of these folders be imported here, after all others."""
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.append(folder)
            _added.append(folder)


def search_path() -> tuple[str, ...]:
    """The folders that were added, for a process that starts elsewhere."""
    return tuple(_added)


def _spec(top: str) -> ModuleSpec | None:
    try:
        return find_spec(top)
    except (ImportError, ValueError):
        return None


def _not_found(path: str) -> ConfigError:
    top = path.partition(".")[0]
    return ConfigError(
        f"{path}: there is no module {top} here; install its package, or start where its folder "
        "lies, beside conf/ or on PYTHONPATH."
    )


def _not_imported(path: str, error: Exception) -> ConfigError:
    return ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}.")


# --------------------------------------------------------------------------- installed packages


def _version(top: str, spec: ModuleSpec) -> str | None:
    """Name and version of the distribution that a module is installed from; None beside one."""
    libraries = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    locations = [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
    inside = any(Path(where).is_relative_to(lib) for where in locations for lib in libraries)
    if not inside:
        return None
    try:
        return f"{top} {metadata.version(top)}"
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(top, ())
        return next((f"{name} {metadata.version(name)}" for name in names), None)


# --------------------------------------------------------------------------- sources beside conf/


def _local_files(spec: ModuleSpec, module: str) -> list[tuple[str, Path]]:
    """Name and file of a module, and of all that it imports from the same folder."""
    where = next(iter(spec.submodule_search_locations or ()), spec.origin)
    if where is None or where in ("built-in", "frozen"):
        return []
    root = Path(where).parent
    found: dict[str, Path] = {}
    waiting = list(_with_parents(module))
    while waiting:
        name = waiting.pop()
        file = _file(root, name)
        if file is not None and name not in found:
            found[name] = file
            waiting += _imports(name, file)
    return sorted(found.items())


def _with_parents(module: str) -> Iterator[str]:
    """A module and the packages that it lies in, all of which importing it runs."""
    parts = module.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _file(root: Path, module: str) -> Path | None:
    base = root.joinpath(*module.split("."))
    candidates = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _imports(name: str, file: Path) -> Iterator[str]:
    """The modules that a file may import, by their full names."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}: {error.msg}.") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = [*(above if node.level else ()), *filter(None, [node.module])]
            for tail in ("", *(alias.name for alias in node.names)):
                yield from _with_parents(".".join([*base, *filter(None, [tail])]))


def _fingerprint(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in files:
        digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
