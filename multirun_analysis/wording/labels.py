"""Names for people: of numbers, optimizers, training recipes and measurements.

A recipe and a measurement have many settings, most of them the same in every cell of a study. A
label states the few that matter always, and any other one only where it differs, so that two
different things never carry one name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from multirun_analysis.wording.numbers import number
from samsweep.config import CORNERS, VARIANTS, OptOptions
from samsweep.config.cell import call_text, departures
from samsweep.config.components import FAMILY
from samsweep.records.identity import canonical_json
from samsweep.system.text import counted, printable

Values = Mapping[Any, Any]
Phrase = Callable[[Values], str]

#: Defaults, which labels leave out; anything else is shown in brackets.
_USUAL_ETA = OptOptions.model_fields["eta"].default
_USUAL_CURVATURE = "hutchinson"

#: Characters of a setting's value that a label shows, at most.
_MOST_SHOWN = 60
#: Whole numbers up to here are floats as well.
_MOST_EXACT = 2**53


def ranking(names: Iterable[str]) -> Callable[[object], int]:
    """Where a registry lists a name; unknown ones, and none, come last.

    >>> [ranking(["sgd", "sam"])(name) for name in ("sam", "lion", None)]
    [1, 2, 2]
    """
    ranks = {name: rank for rank, name in enumerate(names)}
    return lambda name: ranks.get(name, len(ranks)) if isinstance(name, str) else len(ranks)


_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")


def natural_order(text: str) -> tuple[tuple[str | float, ...], str]:
    """Sorts texts by their letters, and by the numbers among them as numbers.

    >>> sorted(["mlp (width 128)", "mlp (width 32)", "cnn"], key=natural_order)
    ['cnn', 'mlp (width 32)', 'mlp (width 128)']
    """
    parts = _NUMBER.split(text)
    return tuple(float(part) if place % 2 else part for place, part in enumerate(parts)), text


def optimizer_label(variant: Values) -> str:
    """The name of a row: the study's, in capitals, with what that name does not imply.

    Args:
        variant: The fields of :class:`samsweep.config.Variant`; granularity has its own column.

    >>> optimizer_label({"name": "samdirection", "direction": "sam", "ascent": "adaptive"})
    'SAMDIRECTION (adaptive, unscaled norms)'
    """
    name, extras = variant["name"], list(_extras(variant))
    own = variant.get("combination") or variant.get("optimizer")
    if own is not None:
        # One's own may have any name, also that of another one.
        short = call_text(own, None)
        extras = [short] if short.lower() != name.lower() else []
        extras += [] if variant.get("ascent") in (None, "plain") else [str(variant["ascent"])]
    return f"{name.upper()} ({', '.join(extras)})" if extras else name.upper()


def _extras(variant: Values) -> Iterable[str]:
    name = variant["name"]
    ascent, eta, curvature = (variant.get(key) for key in ("ascent", "eta", "curvature"))
    if ascent not in (None, "plain") and FAMILY.get(("ascent", ascent)) != name:
        yield ascent
    if eta not in (None, _USUAL_ETA):
        yield f"eta {number(eta)}"
    # Cells without the key are those that leave out norm layers.
    if ascent == "adaptive" and variant.get("scaled") is None:
        yield "unscaled norms"
    if curvature not in (None, _USUAL_CURVATURE):
        yield curvature.replace("_", "-")
    if name not in VARIANTS:
        return
    yield from departures(variant)
    # The published code swaps the hybrids' names; no table of ours may do so unnoticed.
    if "direction" in variant and "magnitude" in variant:
        corner = {"asam": "sam", "sgdhess": "sgd"}.get(name, name)
        if CORNERS[variant["direction"], variant["magnitude"]] != corner:
            yield f"direction {variant['direction']}, magnitude {variant['magnitude']}"


# --------------------------------------------------------------------------- distinct labels


def labels_with_differences(
    items: Mapping[str, tuple[str, Values]], short: Mapping[str, str]
) -> dict[str, str]:
    """Each item's label with the values in brackets that tell it from others of that label.

    Args:
        items: Label, and values by their keys, of each item.
        short: Of each key the name that is shown.

    Returns:
        A label for each item; equal for items that are equal. Different ones whose labels are still
        equal end in a number.

    >>> items = {"a": ("HALF", {"opt.alpha": 0.5}), "b": ("HALF", {"opt.alpha": 0.2})}
    >>> labels_with_differences(items, {"opt.alpha": "alpha"})
    {'a': 'HALF (alpha 0.5)', 'b': 'HALF (alpha 0.2)'}
    """
    by_label: dict[str, list[Values]] = {}
    for base, values in items.values():
        by_label.setdefault(base, []).append(values)
    differing = {base: varying(every) for base, every in by_label.items()}
    texts: dict[str, str] = {}
    found: dict[str, dict[str, None]] = {}
    for item, (base, values) in items.items():
        phrases = [
            f"{short[key].replace('_', ' ').replace('.', ' ')} {setting_text(values[key])}"
            for key in differing[base]
            if key in values
        ]
        text = _in_brackets(base, phrases)
        texts[item] = f"{base}\n{canonical_json(values)}"
        found.setdefault(text, {}).setdefault(texts[item])
    numbered = {
        text: label if len(same) == 1 else f"{label} [{number}]"
        for label, same in found.items()
        for number, text in enumerate(same, start=1)
    }
    return {item: numbered[text] for item, text in texts.items()}


def _in_brackets(label: str, phrases: Iterable[str]) -> str:
    told = ", ".join(printable(phrase, _MOST_SHOWN) for phrase in phrases)
    if not told:
        return label
    return f"{label[:-1]}, {told})" if label.endswith(")") else f"{label} ({told})"


def varying(items: Iterable[Values]) -> list[str]:
    """The keys that some items lack or have another value of, in order of appearance."""
    every = list(items)
    seen: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    for values in every:
        for key, value in values.items():
            seen.setdefault(key, set()).add(json.dumps(value, sort_keys=True))
            counts[key] += 1
    return [key for key, texts in seen.items() if len(texts) > 1 or counts[key] < len(every)]


def distinct_labels(
    items: Mapping[str, Values],
    *,
    within: str,
    core: Iterable[Phrase],
    extra: Mapping[str, str],
    silent: Collection[str] = (),
) -> dict[str, str]:
    """A label for each item, different for different items.

    Args:
        items: Settings by a key that is unique to them.
        within: The setting whose equals are compared when looking for differences.
        core: Phrases of every label; an empty one is left out.
        extra: Template of each further setting, shown where it varies.
        silent: Settings of which a missing value is not shown.

    Returns:
        Label by key. Labels that are still equal end in their key.
    """
    differing = _varying(items.values(), within, extra)
    labels = {}
    for key, values in items.items():
        phrases = [phrase(values) for phrase in core]
        phrases += [
            extra[name].format(setting_text(values.get(name)))
            for name in differing[values[within]]
            if name not in silent or not pd.isna(values[name])
        ]
        labels[key] = ", ".join(phrase for phrase in phrases if phrase)
    times = Counter(labels.values())
    return {key: f"{text} [{key}]" if times[text] > 1 else text for key, text in labels.items()}


def _varying(items: Iterable[Values], within: str, names: Iterable[str]) -> dict[object, list[str]]:
    """The settings that take several values, among the items of each value of ``within``."""
    seen: dict[object, dict[str, set[str]]] = {}
    for values in items:
        shown = seen.setdefault(values[within], {name: set() for name in names})
        for name in names:
            shown[name].add(setting_text(values.get(name)))
    return {
        value: [name for name, texts in shown.items() if len(texts) > 1]
        for value, shown in seen.items()
    }


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """For each key the shortest end of it that no other has; sources by their whole names."""
    every = list(keys)
    return {key: _short(key, every) for key in every}


def _short(key: str, every: list[str]) -> str:
    parts = key.split(".")
    if parts[0] == "source":
        return key
    ends = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
    return next(
        (end for end in ends if not any(o != key and f".{o}".endswith(f".{end}") for o in every)),
        key,
    )


def setting_text(value: Any) -> str:
    """The value of a setting, for people."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple | dict):
        return printable(str(value), _MOST_SHOWN)
    if pd.isna(value):
        return "none"
    if isinstance(value, int | float) and abs(value) < _MOST_EXACT:
        return number(value)
    return printable(str(value), _MOST_SHOWN)


# --------------------------------------------------------------------------- recipes


def _base_name(base: str) -> str:
    """A base optimizer's name; of a path its end, in its own letters."""
    return call_text(base, None) if "." in base else base.upper()


_RECIPE_CORE: tuple[Phrase, ...] = (
    lambda recipe: recipe["dataset"],
    lambda recipe: counted(recipe["epochs"], "epoch"),
    lambda recipe: f"batch {recipe['batch_size']}",
    lambda recipe: f"{_base_name(recipe['base'])} lr {number(recipe['lr'])}",
    lambda recipe: "" if pd.isna(recipe["momentum"]) else f"momentum {number(recipe['momentum'])}",
    lambda recipe: f"weight decay {number(recipe['weight_decay'])}",
    lambda recipe: f"label noise {number(recipe['label_noise'])}" if recipe["label_noise"] else "",
    lambda recipe: "" if recipe["precision"] == "float32" else recipe["precision"],
)

_RECIPE_EXTRA = {
    "metric": "metric {}",
    "lr_schedule": "schedule {}",
    "crop_padding": "crop padding {}",
    "flip": "flip {}",
    "cutout": "cutout {}",
    "cutout_prob": "cutout probability {}",
    "image_size": "image size {}",
    "fingerprint": "fingerprint {}",
    "results_version": "results version {}",
}


def recipe_titles(runs: pd.DataFrame, others: Collection[str] = ()) -> dict[str, str]:
    """A readable title for each ``recipe_key`` of a frame, different for different recipes.

    Args:
        runs: Frame of :func:`.load_runs`.
        others: Columns of further keys of recipes, which titles show where they vary.
    """
    recipes = runs.drop_duplicates("recipe_key").to_dict("records")
    items = {recipe["recipe_key"]: recipe for recipe in recipes}
    short = short_names(others)
    return distinct_labels(
        items,
        within="dataset",
        core=_RECIPE_CORE,
        extra=_RECIPE_EXTRA | {name: _as_template(short[name]) for name in others},
        silent=others,
    )


# --------------------------------------------------------------------------- measurements

_SETTINGS_CORE = {
    "num_examples": "{} examples",
    "weights": "{} weights",
    "tolerance": "tolerance {}",
}

#: Settings of single measures without which their numbers say little, as phrases.
_SECTIONS_CORE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    **{
        f"{ball}worst_case_{norm}": {
            "rho {}": (f"worst_case.{ball}rho_{norm}",),
            "batches of {}": ("worst_case.batch_size",),
        }
        for ball in ("", "adaptive_")
        for norm in ("l2", "linf")
    },
    "average_case": {"rho {}": ("average_case.rho",)},
    "adaptive_average_case": {"rho {}": ("average_case.adaptive_rho",)},
    "sam_gap": {"rho {}": ("sam_gap.rho",), "batches of {}": ("sam_gap.batch_size",)},
    "empirical_sam": {
        "{} batches of {}": ("empirical_sam.num_batches", "empirical_sam.batch_size"),
        "{} eigenvalues": ("empirical_sam.num_eigenvalues",),
    },
}

#: Of the phrases of a section, beside the settings: no setting's name.
_SECTION = None


def _setting_phrase(name: str, template: str) -> Phrase:
    return lambda values: template.format(setting_text(values[name])) if name in values else ""


def _described(name: str, settings: Values) -> dict[Any, Any]:
    """Settings of a measurement, those aside that its phrases say."""
    flat = _flat(settings)
    phrases = []
    for template, keys in _SECTIONS_CORE.get(name, {}).items():
        if all(key in flat for key in keys):
            phrases.append(template.format(*(setting_text(flat.pop(key)) for key in keys)))
    return {**flat, "name": name, _SECTION: ", ".join(phrases)}


def _flat(settings: Values) -> dict[str, Any]:
    """Settings with those of a section named after it: ``trace.num_samples``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": setting for inner, setting in value.items()})
        else:
            flat[name] = value
    return flat


def settings_labels(measurements: Mapping[str, tuple[str, Values]]) -> dict[str, str]:
    """A readable label for each measurement, different for different settings.

    Args:
        measurements: Name and settings of each, by a key that is unique to both.
    """
    items = {key: _described(name, settings) for key, (name, settings) in measurements.items()}
    known = {*_SETTINGS_CORE, "name", _SECTION}
    others = sorted({name for item in items.values() for name in item} - known)
    return distinct_labels(
        items,
        within="name",
        core=(
            lambda item: printable(item["name"], _MOST_SHOWN),
            *(_setting_phrase(name, template) for name, template in _SETTINGS_CORE.items()),
            lambda item: item[_SECTION],
        ),
        extra={name: _as_template(name) for name in others},
    )


def _as_template(name: str) -> str:
    """The name of a setting before its value; braces in it are no fields to fill in."""
    shown = printable(name.replace("_", " ").replace(".", " "), _MOST_SHOWN)
    return shown.replace("{", "{{").replace("}", "}}") + " {}"
