"""A cell's name: a readable slug and a hash of everything that decides what is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from samsweep.config import MEASURES, CellConfig, SharpnessConfig

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
    parts = [cell.model.name, variant.name]
    if variant.granularity is not None:
        parts.append(variant.granularity)
    if variant.curvature not in (None, "hutchinson"):
        parts.append(str(variant.curvature))
    if variant.rho is not None:
        parts.append(f"rho{variant.rho:g}")
    return "-".join([*parts, cell.dataset.name, f"seed{cell.seed}"])


def measurement_settings(config: SharpnessConfig, name: str) -> dict[str, Any]:
    """What decides one measure's value: not how its batches are cut, nor other measures' keys."""
    return deciding_settings(config.model_dump(mode="json"), name)


def deciding_settings(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Those of the plain values of a :class:`~samsweep.config.SharpnessConfig` that count."""
    chosen: dict[str, Any] = {}
    for key in MEASURES[name].settings:
        section, dot, field = key.partition(".")
        if dot:
            chosen.setdefault(section, {})[field] = values[section][field]
        else:
            chosen[section] = values[section]
    if not MEASURES[name].ours:
        chosen["args"] = values.get("args", {}).get(name, {})
        chosen["source"] = MEASURES[name].source
    return chosen


def wanted_measurements(config: SharpnessConfig) -> dict[str, str]:
    """Names of the measurements asked for, by the keys under which the record keeps them.

    A key is the measure's name and a hash of its settings.
    """
    return {
        f"{name}-{short_hash(measurement_settings(config, name))}": name for name in config.measures
    }
