"""The keys of the configuration that a cell's identity holds, as users write them.

The one place that knows which part of an identity is which key: ``model.args.width`` of the
network's arguments, ``rho`` of the variant, ``dataset.augment.mixup`` of the data. Keys without a
column in every frame get one of their own name where they vary. Nothing that a record names is
looked up or imported: a component that is not installed any more is as readable as any other.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pandas as pd

from multirun_analysis.runs.columns import RUN_COLUMNS
from samsweep.config import (
    ConfigError,
    DatasetConfig,
    ModelConfig,
    Options,
    RecipeConfig,
    Variant,
)
from samsweep.config.groups import PLAIN_SAM

#: Parts of a variant that stand elsewhere in the configuration.
_OF_VARIANT = {
    "name": "opt",
    "rho": "rho",
    "granularity": "granularity",
    "optimizer": "opt.factory",
    "optimizer_args": "opt.args",
}
#: What a key that is left out of an identity was: the value that all cells once had.
DEFAULTS: Mapping[str, Any] = {
    "dataset.train_fraction": 1.0,
    **{f"opt.{name}": value for name, value in PLAIN_SAM.items() if value is not None},
    **{
        name: Options.model_fields[name].default
        for name in RecipeConfig.model_fields
        if isinstance(Options.model_fields[name].default, str | float | bool)
    },
}


#: Column of each key that has one in every frame; any other key's has its own name.
COLUMNS: Mapping[str, str] = {
    "model": "model_name",
    "opt": "variant",
    "granularity": "granularity",
    "rho": "rho",
    **{
        f"opt.{name}": name
        for name in ("direction", "magnitude", "ascent", "eta", "scaled", "curvature")
    },
    "dataset": "dataset",
    **{f"dataset.{name}": name for name in ("label_noise", "image_size", "fingerprint")},
    **{
        f"dataset.augment.{name}": name
        for name in ("crop_padding", "flip", "cutout", "cutout_prob")
    },
    **{name: name for name, field in RecipeConfig.model_fields.items() if field.is_required()},
    "metric": "metric",
    "results_version": "results_version",
    "seed": "seed",
}
#: Of whose sources something else than the recipe is made.
_OF_ROW = ("model", "optimizer", "combination", "ascent")


def is_of_model(key: str) -> bool:
    """Whether a key is of the network."""
    return key.partition(".")[0] == "model" or key == "source.model"


def is_of_optimizer(key: str) -> bool:
    """Whether a key is of the optimizer, rho and granularity among them."""
    head, _, kind = key.partition(".")
    of_source = head == "source" and kind in _OF_ROW and kind != "model"
    return head in ("opt", "rho", "granularity") or of_source


def is_of_ascent(key: str) -> bool:
    """Whether a key is of how epsilon is found."""
    return key.startswith("opt.ascent_args") or key == "source.ascent"


def is_of_recipe(key: str) -> bool:
    """Whether a key is of the data or the training: of what cells of one table share."""
    return not is_of_model(key) and not is_of_optimizer(key) and key != "seed"


# --------------------------------------------------------------------------- of a cell


def other_keys(
    model: ModelConfig,
    variant: Variant,
    dataset: DatasetConfig,
    recipe: RecipeConfig,
    sources: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The keys without a column in every frame, those aside that have their default."""
    named = {
        **{f"model.{name}": value for name, value in vars(model).items()},
        **{_OF_VARIANT.get(name, f"opt.{name}"): value for name, value in vars(variant).items()},
        **{f"dataset.{name}": value for name, value in vars(dataset).items()},
        **{f"dataset.augment.{name}": value for name, value in vars(dataset.augment).items()},
        **vars(recipe),
        "groups": _plain_groups(recipe),
        "source": sources,
    }
    skipped = {*COLUMNS, "model.name", "dataset.name", "dataset.augment"}
    return {
        key: value
        for name, given in named.items()
        if given is not None and name not in skipped and given != DEFAULTS.get(name)
        for key, value in _flat(name, given)
    }


def _plain_groups(recipe: RecipeConfig) -> list[dict[str, Any]] | None:
    """Parameter groups as they are written, without the values that they leave to the others."""
    if recipe.groups is None:
        return None
    return [group.model_dump(mode="json", exclude_none=True) for group in recipe.groups]


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Arguments inside a value by their dotted names, where these say which one is meant."""
    if isinstance(value, Mapping) and value and not any("." in key or not key for key in value):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value


def text_of(value: Any) -> str:
    """A text of a JSON value, different for different ones."""
    return json.dumps(value, sort_keys=True)


def sources_of(sources: Mapping[str, Any] | None, *, of_recipe: bool) -> dict[str, Any]:
    """The sources of what belongs to the recipe, or of what does not."""
    return {
        kind: source for kind, source in (sources or {}).items() if (kind in _OF_ROW) != of_recipe
    }


# --------------------------------------------------------------------------- of a study


def column_of(key: str, items: Mapping[str, Mapping[str, Any]], rows: pd.Series[Any]) -> Any:
    """The column of a key, in the dtype of its values; of several kinds of them JSON texts.

    Args:
        key: One that some items have.
        items: Keys and values by the hash that ``rows`` has.
        rows: The hash of each row.
    """
    default = {key: DEFAULTS[key]} if key in DEFAULTS else {}
    values = {name: {**default, **item}[key] for name, item in items.items() if key in item}
    if default:
        values |= {name: default[key] for name in items if name not in values}
    dtype = _dtype(values.values())
    if dtype is None:
        dtype, values = "string", {name: text_of(value) for name, value in values.items()}
    filled = [values.get(row) for row in rows]
    column: Any = pd.Series(filled, index=rows.index, dtype="object")
    return column.astype(dtype)


def _dtype(values: Collection[Any]) -> str | None:
    """The dtype that holds all values, each as itself; None if only text does."""
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return "string"
    if kinds == {bool}:
        return "boolean"
    if kinds == {int} and all(abs(value) < 2**63 for value in values):
        return "Int64"
    if kinds <= {int, float} and all(abs(value) < 2**53 for value in values):
        return "float64" if len({text_of(v) for v in values}) == len(set(values)) else None
    return None


def keys_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """A column for each key of a study's cells, by its name."""
    names = {**COLUMNS, **{name: name for name in runs.columns if name not in RUN_COLUMNS}}
    return pd.DataFrame({key: runs[column] for key, column in names.items()}, index=runs.index)


def recipe_keys(runs: pd.DataFrame) -> list[str]:
    """The columns of keys of recipes beside those that every frame has."""
    return [name for name in runs.columns if name not in RUN_COLUMNS and is_of_recipe(name)]


def varying_keys(keys: pd.DataFrame) -> list[str]:
    """The columns with several values, a missing one among them."""
    return [name for name in keys.columns if keys[name].nunique(dropna=False) > 1]


def separating_keys(cells: pd.DataFrame, named: Collection[str] = ()) -> list[str]:
    """The fewest keys that, with the named ones, no two different cells have equal."""
    codes = cells.apply(lambda column: pd.factorize(column)[0])
    others = [key for key in varying_keys(cells) if key not in named and key != "seed"]

    def parted(keys: list[str]) -> int:
        return codes.groupby(keys).ngroups if keys else 1

    target = parted([*named, *others])
    for key in reversed(list(others)):
        if parted([*named, *(other for other in others if other != key)]) == target:
            others.remove(key)
    return others


def resolve_key(option: str, typed: str, keys: pd.DataFrame, study: str) -> str:
    """The key that a user means by its name, or by parts of it: ``opt.alpha``, ``width``.

    Args:
        option: Where it was typed, for the message.
        typed: What was.
        keys: Of :func:`keys_frame`.
        study: Name of the study, for the message.

    Raises:
        ConfigError: If no key of the study's cells, or more than one, has that name.
    """
    if typed in keys:
        return typed
    vary = varying_keys(keys)
    found = [key for key in vary if _means(typed.split("."), key.split("."))]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{option}: {typed} may be {' or '.join(found)}: write one of them.")
    ends = {key.rpartition(".")[2]: key for key in reversed(vary)} | {key: key for key in vary}
    near = difflib.get_close_matches(typed, ends, n=1) or difflib.get_close_matches(
        typed.rpartition(".")[2], ends, n=1
    )
    hint = f"did you mean {ends[near[0]]!r}? " if near else ""
    raise ConfigError(
        f"{option}: {typed!r} is no key of study {study}'s cells: {hint}those that vary are "
        f"{', '.join(vary)}."
    )


def _means(typed: list[str], parts: list[str]) -> bool:
    """Whether all that was typed stands in a key, in this order, and its end at the end."""
    rest = iter(parts)
    return typed[-1] == parts[-1] and all(part in rest for part in typed)
