"""A cell's name: a readable slug and a hash of everything that decides what is trained."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from samsweep.config import MEASURES, CellConfig, SharpnessConfig
from samsweep.config.cell import SAM_FAMILY

#: Bump this when a change of the code alters what equal configurations train by more than rounding,
#: in which other processors and versions of torch differ as well.
RESULTS_VERSION = 1


class CellKey(NamedTuple):
    """What a cell is called among those of several studies, which may have equal cells."""

    study: str
    cell_id: str


def canonical_json(values: Mapping[str, Any]) -> str:
    """One text per value: sorted keys, no spaces, no NaN."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def short_hash(values: Mapping[str, Any]) -> str:
    """Ten hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()[:10]


def cell_id(cell: CellConfig) -> str:
    """The cell's id, ``<slug>-<10 hex>``; the name of its folder."""
    hashed = {"results_version": RESULTS_VERSION, "cell": cell.identity()}
    return f"{slug(cell)}-{short_hash(hashed)}"


def slug(cell: CellConfig) -> str:
    """The readable part: model, variant, data set and seed."""
    variant = cell.variant
    parts = [cell.model.name, *_named(cell.model.args), variant.name]
    for args in variant.args:
        parts += _named(args)
    if variant.departures:
        parts += _named({key: getattr(variant, key) for key in SAM_FAMILY})
    if variant.granularity is not None:
        parts.append(variant.granularity)
    if variant.curvature not in (None, "hutchinson"):
        parts.append(str(variant.curvature))
    if variant.rho is not None:
        parts.append(f"rho{variant.rho:g}")
    parts += [cell.dataset.name, *_named(cell.dataset.args), f"seed{cell.seed}"]
    return "-".join(parts)


def _named(args: Mapping[str, Any] | None) -> list[str]:
    """Arguments that are short enough to be part of a folder's name."""
    given = {key: value for key, value in (args or {}).items() if value is not None}
    words = [f"{key}{value}" for key, value in sorted(given.items())]
    return [word for word in words if re.fullmatch(r"[A-Za-z0-9._]{1,24}", word)]


def flat(identity: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of an identity by their dotted keys; lists are values."""
    found: dict[str, Any] = {}
    for key, value in identity.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def varying(cells: Sequence[CellConfig]) -> list[dict[str, Any]]:
    """For each cell the values of the keys in which the cells differ, None where it has none."""
    identities = [flat(cell.identity()) for cell in cells]
    keys = dict.fromkeys(key for identity in identities for key in identity)
    # What is written alike is the same, and quickly seen to be.
    unlike = [key for key in keys if len({repr(i.get(key)) for i in identities}) > 1]
    differ = [k for k in unlike if len({canonical_json({"": i.get(k)}) for i in identities}) > 1]
    return [{key: identity.get(key) for key in differ} for identity in identities]


def measurement_settings(config: SharpnessConfig, name: str) -> dict[str, Any]:
    """What decides one measure's value: not how its batches are cut, nor other measures' keys."""
    return deciding_settings(config.model_dump(mode="json"), name)


def deciding_settings(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Those of the plain values of a :class:`~samsweep.config.SharpnessConfig` that count."""
    chosen: dict[str, Any] = {}
    measure = MEASURES.find(name)
    for key in measure.settings:
        section, dot, field = key.partition(".")
        if dot:
            chosen.setdefault(section, {})[field] = values[section][field]
        else:
            chosen[section] = values[section]
    if not measure.ours:
        chosen["args"] = values.get("args", {}).get(name, {})
        chosen["source"] = measure.source
    return chosen


def wanted_measurements(config: SharpnessConfig) -> dict[str, str]:
    """Names of the measurements asked for, by the keys under which the record keeps them.

    A key is the measure's name and a hash of its settings.
    """
    return {
        f"{name}-{short_hash(measurement_settings(config, name))}": name for name in config.measures
    }
