"""Published numbers, with their source, protocol and caveats.

Each YAML file is one publication. Numbers of different protocols are not to be compared without
saying so; :func:`load_reference` carries protocol and caveats along in ``frame.attrs``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from samsweep.config import unknown_name

_FOLDER = Path(__file__).parent

#: Columns of :func:`load_reference`.
REFERENCE_COLUMNS: Mapping[str, str] = {
    "table": "string",  # of the publication: accuracy, sharpness or sgdhess
    "quantity": "string",  # accuracy (percent) or sharpness
    "model": "string",
    "variant": "string",  # by the name of the row
    "variant_as_coded": "string",  # by what the published code computes
    "granularity": "string",
    "rho": "float64",
    "value": "float64",  # NaN where none was published
    "dataset": "string",
    "source": "string",
}

#: What a publication says of all its numbers.
_ATTRIBUTES = (
    "source", "dataset", "same_images", "protocol", "recipe", "accuracy_column",
    "sharpness_measure", "readings", "caveats",
)  # fmt: skip

_AS_CODED = {"samdirection": "sammagnitude", "sammagnitude": "samdirection"}


def references() -> list[str]:
    """Names of the publications at hand."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_reference(name: str = "empirical_sam") -> pd.DataFrame:
    """The numbers of one publication.

    Args:
        name: One of :func:`references`.

    Returns:
        A row per number, :data:`REFERENCE_COLUMNS`; ``attrs`` has ``source``, ``protocol``,
        ``readings`` (of the hybrids' names, with their evidence) and ``caveats`` for people, and
        for comparisons ``dataset``, ``same_images`` (fingerprints of image folders that hold the
        same images), ``recipe`` (columns of :func:`.load_runs`), ``accuracy_column`` and
        ``sharpness_measure``.

    Raises:
        ValueError: If there is no such publication.
    """
    if name not in references():
        raise ValueError(unknown_name("reference", name, references()))
    published = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    rows = [_row(published, values) for values in _values(published)]
    frame = pd.DataFrame(rows, columns=list(REFERENCE_COLUMNS), dtype="object")
    frame = frame.astype(dict(REFERENCE_COLUMNS))
    frame.attrs.update({key: published[key] for key in _ATTRIBUTES})
    return frame


def about(published: pd.DataFrame) -> tuple[str, ...]:
    """Source, protocol, readings and caveats of a publication, in paragraphs."""
    attrs = published.attrs
    return (attrs["source"], attrs["protocol"], *attrs["readings"].values(), *attrs["caveats"])


def _values(published: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for quantity in ("accuracy", "sharpness"):
        for values in _grid(published[quantity]):
            yield {"table": quantity, "quantity": quantity, **values}
    for row in published["sgdhess"]:
        for quantity in ("accuracy", "sharpness"):
            cell = {key: row[key] for key in ("model", "variant", "rho")}
            yield {"table": "sgdhess", "quantity": quantity, "value": row[quantity], **cell}


def _grid(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The cells of a table that is laid out as it was printed."""
    for model, variants in table.items():
        if model == "rho":
            continue
        for variant, values in variants.items():
            for rho, value in zip(table["rho"], values, strict=True):
                yield {"model": model, "variant": variant, "rho": rho, "value": value}


def _row(published: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    variant = values["variant"]
    return {
        **values,
        "variant_as_coded": _AS_CODED.get(variant, variant),
        "granularity": published["granularity"] if variant in _AS_CODED else None,
        "dataset": published["dataset"],
        "source": published["source"],
    }
