"""From cells to the commands that train them: ``python -m samsweep.run -m ...``.

A command is a rectangle of optimizers, models, radii, granularities and seeds. Cells are joined
into as few rectangles as a plain merging along one axis after the other finds, and the rectangles
hold those cells and no others. What ``conf/`` says already is left out of a command.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import yaml

from multirun_analysis.wording.numbers import number
from samsweep.config import (
    VARIANTS,
    CellConfig,
    DatasetConfig,
    OptOptions,
    RecipeConfig,
    Variant,
    conf_dir,
)

#: Stands for the folder of one's own images, which records do not know.
FOLDER = "FOLDER"


@dataclass(frozen=True, kw_only=True)
class _Rectangle:
    """Cells of one data set and recipe that one command trains: the product of the axes.

    An axis that the optimizers do not use is empty: SGD's radius, its granularity and SAM's.
    """

    #: Keys of ``opt`` beside its name; None for SGD, which goes with any.
    extras: tuple[tuple[str, object], ...] | None
    model: frozenset[str]
    opt: frozenset[str]
    rho: frozenset[float]
    granularity: frozenset[str]
    seed: frozenset[int]


_AXES = ("seed", "rho", "granularity", "opt", "model")


def sweep_commands(cells: Iterable[CellConfig], study: str) -> list[str]:
    """The commands that train cells.

    Args:
        cells: In any order; each once.
        study: Whose folder they go to.

    Returns:
        Lines for a shell. For an ``image_folder`` its path is to be written in place of
        :data:`FOLDER`.
    """
    settings: dict[tuple[DatasetConfig, RecipeConfig], list[CellConfig]] = {}
    for cell in cells:
        settings.setdefault((cell.dataset, cell.recipe), []).append(cell)
    return [
        _command(study, dataset, recipe, rectangle)
        for (dataset, recipe), group in settings.items()
        for rectangle in _rectangles(group)
    ]


# --------------------------------------------------------------------------- rectangles


def _rectangles(cells: Iterable[CellConfig]) -> list[_Rectangle]:
    found = [_point(cell) for cell in cells]
    for axis in _AXES:
        found = _merged(found, axis)
    return _joined(found)


def _point(cell: CellConfig) -> _Rectangle:
    variant = cell.variant
    return _Rectangle(
        extras=_extras(variant),
        model=frozenset([cell.model.name]),
        opt=frozenset([variant.name]),
        rho=frozenset() if variant.rho is None else frozenset([variant.rho]),
        granularity=frozenset()
        if variant.granularity is None
        else frozenset([variant.granularity]),
        seed=frozenset([cell.seed]),
    )


def _extras(variant: Variant) -> tuple[tuple[str, object], ...] | None:
    keys = {name: getattr(variant, name) for name in ("ascent", "eta", "curvature")}
    keys["scaled"] = variant.scales
    used = tuple((name, value) for name, value in keys.items() if value is not None)
    return used or None


def _merged(rectangles: Iterable[_Rectangle], axis: str) -> list[_Rectangle]:
    """Rectangles that differ along one axis alone, made one."""
    found: dict[tuple[object, ...], _Rectangle] = {}
    others = [field.name for field in fields(_Rectangle) if field.name != axis]
    for rectangle in rectangles:
        along = getattr(rectangle, axis)
        # SGD has no radius to share with SAM.
        key = (bool(along), *(getattr(rectangle, name) for name in others))
        known = found.setdefault(key, rectangle)
        changes: dict[str, Any] = {axis: getattr(known, axis) | along}
        found[key] = replace(known, **changes)
    return list(found.values())


def _joined(rectangles: Iterable[_Rectangle]) -> list[_Rectangle]:
    """Rectangles with unused axes put into those that use them and are otherwise equal.

    A sweep drops the duplicates that so arise.
    """
    found: list[_Rectangle] = []
    for rectangle in sorted(rectangles, key=_unused_axes):
        for index, host in enumerate(found):
            if _fits(rectangle, host):
                found[index] = replace(host, opt=host.opt | rectangle.opt)
                break
        else:
            found.append(rectangle)
    return sorted(found, key=_order)


def _unused_axes(rectangle: _Rectangle) -> int:
    return (not rectangle.granularity) + (not rectangle.rho)


def _fits(guest: _Rectangle, host: _Rectangle) -> bool:
    """Whether a host with the guest's optimizers trains the guest's cells, and no others."""
    if guest.extras is None and "sgdhess" in host.opt:
        # A curvature would make SGD another SGDHESS.
        return False
    changes: dict[str, Any] = {
        axis: getattr(guest, axis) or getattr(host, axis) for axis in ("rho", "granularity")
    }
    if guest.extras is None:
        changes["extras"] = host.extras
    return replace(guest, opt=host.opt, **changes) == host


def _order(rectangle: _Rectangle) -> tuple[object, ...]:
    return (
        sorted(rectangle.model),
        [VARIANTS.index(name) for name in _in_table_order(rectangle.opt)],
        sorted(rectangle.granularity),
        sorted(rectangle.rho),
        sorted(rectangle.seed),
    )


def _in_table_order(opts: Iterable[str]) -> list[str]:
    return sorted(opts, key=VARIANTS.index)


# --------------------------------------------------------------------------- text


def _command(
    study: str, dataset: DatasetConfig, recipe: RecipeConfig, rectangle: _Rectangle
) -> str:
    overrides = [
        f"study={study}",
        *_dataset_overrides(dataset),
        *_differing("", recipe.model_dump(), _usual_recipe(dataset.name)),
        f"model={','.join(sorted(rectangle.model))}",
        f"opt={','.join(_in_table_order(rectangle.opt))}",
        *_opt_overrides(rectangle),
    ]
    if rectangle.granularity:
        overrides.append(f"granularity={','.join(sorted(rectangle.granularity))}")
    if rectangle.rho:
        overrides.append(f"rho={','.join(number(rho) for rho in sorted(rectangle.rho))}")
    overrides.append(f"seed={_seeds(sorted(rectangle.seed))}")
    return shlex.join(["python", "-m", "samsweep.run", "-m", *overrides])


def _seeds(seeds: Sequence[int]) -> str:
    """Hydra's range where there is one.

    >>> _seeds([3, 4, 5]), _seeds([3, 5])
    ('range(3,6)', '3,5')
    """
    first, stop = seeds[0], seeds[-1] + 1
    if len(seeds) > 2 and len(seeds) == stop - first:
        return f"range({first},{stop})"
    return ",".join(map(str, seeds))


def _dataset_overrides(dataset: DatasetConfig) -> Iterator[str]:
    yield f"dataset={dataset.name}"
    if dataset.fingerprint is not None:
        yield f"dataset.path={FOLDER}"
    usual = _option("dataset", dataset.name)
    plain = dataset.model_dump(include={"label_noise", "image_size"})
    yield from _differing("dataset.", plain, usual)
    yield from _differing("dataset.augment.", dataset.augment.model_dump(), usual["augment"])


def _opt_overrides(rectangle: _Rectangle) -> Iterator[str]:
    """Keys of ``opt``, with ``++`` since not every optimizer's file has them."""
    usual = {
        "ascent": "adaptive" if rectangle.opt <= {"asam", "sgd"} else "plain",
        "eta": OptOptions.model_fields["eta"].default,
        "scaled": OptOptions.model_fields["scaled"].default,
        "curvature": "hutchinson",
    }
    yield from _differing("++opt.", dict(rectangle.extras or ()), usual)


def _differing(
    prefix: str, wanted: Mapping[str, object], usual: Mapping[str, object]
) -> Iterator[str]:
    """Overrides of the values that are used and are not the usual ones."""
    for key, value in wanted.items():
        if value is not None and value != usual[key]:
            yield f"{prefix}{key}={_text(value)}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------- defaults


def _usual_recipe(dataset: str) -> Mapping[str, Any]:
    return {**_read("config.yaml"), **_option("dataset", dataset)["recipe"]}


@functools.cache
def _option(group: str, name: str) -> Mapping[str, Any]:
    """An option of a group, on top of the options that its defaults list names."""
    own = _read(f"{group}/{name}.yaml")
    values: Mapping[str, Any] = {}
    for parent in own.get("defaults", []):
        if parent != "_self_":
            values = _updated(values, _option(group, parent))
    return _updated(values, own)


@functools.cache
def _read(file: str) -> Mapping[str, Any]:
    values: dict[str, Any] = yaml.safe_load((conf_dir() / file).read_text(encoding="utf-8"))
    return values


def _updated(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping with another one's entries in place of its own."""
    inner = {
        key: _updated(values[key], change)
        for key, change in changes.items()
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping)
    }
    return {**values, **changes, **inner}
