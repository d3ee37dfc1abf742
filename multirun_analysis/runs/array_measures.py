"""Spectra and landscapes: the results of measures that only a figure can show.

They are lists of numbers, too long for a frame of all measurements. For the figures the records
that have some are read once more, a recipe's at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from multirun_analysis.runs.measurements import settings_key
from multirun_analysis.runs.reading import Skipped, read_record, skip

Array = npt.NDArray[np.float64]

#: Numbers beyond this, either way, are none: no axis could show them.
_LARGEST = 1e30
#: How much longer one side of a plane may be than the other.
_MOST_OBLONG = 10
#: Weights of a quadrature sum to one within this.
_ROUNDING = 1e-3
#: What of the measurements' frame goes with each array.
_COLUMNS = (
    "cell_id", "seed", "recipe_key", "model", "optimizer", "variant", "granularity", "rho",
    "name", "settings_key", "settings_label",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A Gaussian quadrature of the density of the Hessian's eigenvalues."""

    nodes: Array  # of shape (nodes of all starting vectors,)
    weights: Array  # of the same shape; they sum to one
    dim: int  # number of eigenvalues, that is of parameters


@dataclass(frozen=True, eq=False)
class Line:
    """The loss along a line through the weights."""

    alphas: Array  # of shape (points,), rising; the weights are at 0
    losses: Array  # of the same shape, NaN where there is none


@dataclass(frozen=True, eq=False)
class Plane:
    """The loss over a plane through the weights."""

    alphas: Array  # of shape (rows,), rising
    betas: Array  # of shape (columns,), rising
    losses: Array  # of shape (rows, columns), NaN where there is none


def load_arrays(study_folder: Path | str, measurements: pd.DataFrame) -> pd.DataFrame:
    """The spectra and landscapes of complete cells.

    Returns:
        A row per cell and measurement that can be read: which cell and measurement it is, and
        ``array``, a :class:`Spectrum`, :class:`Line` or :class:`Plane`. What cannot be read is
        skipped with a warning, and listed in ``attrs["skipped"]``.
    """
    wanted = measurements[
        measurements["name"].isin(list(_READERS)) & (measurements["status"] == "complete")
    ].drop_duplicates(["cell_id", "settings_key"])
    skipped: list[Skipped] = []
    folder = str(Path(study_folder, "cells"))
    arrays = {
        (cell, key): array
        for cell in wanted["cell_id"].unique()
        for key, array in _arrays(folder, str(cell), skipped)
    }
    pairs = zip(wanted["cell_id"], wanted["settings_key"], strict=True)
    found = wanted[list(_COLUMNS)].assign(
        array=pd.Series([arrays.get(pair) for pair in pairs], index=wanted.index, dtype="object")
    )
    found = _at_equal_places(found[found["array"].notna()], folder, skipped).reset_index(drop=True)
    found.attrs["skipped"] = skipped
    return found


def _at_equal_places(found: pd.DataFrame, cells: str, skipped: list[Skipped]) -> pd.DataFrame:
    """Without the lines that have other places than most of their measurement, to be averaged."""
    places = pd.Series(
        [one.alphas.tobytes() if isinstance(one, Line) else b"" for one in found["array"]],
        index=found.index,
        dtype="object",
    )
    usual = places.groupby(found["settings_key"]).agg(lambda several: several.mode().iloc[0])
    differing = places != found["settings_key"].map(usual)
    for cell in found.loc[differing, "cell_id"]:
        file = Path(cells, cell, "record.json")
        skip(skipped, file, "alphas are others than those of most cells")
    return found[~differing]


def _arrays(
    cells: str, name: str, skipped: list[Skipped]
) -> Iterator[tuple[str, Spectrum | Line | Plane]]:
    """The arrays of a cell by their settings' keys."""
    file = Path(cells, name, "record.json")
    try:
        record = read_record(cells, name)
    except (ValueError, OSError) as error:
        skip(skipped, file, str(error))
        return
    for measurement in record.measurements.values() if record is not None else ():
        if measurement.name not in _READERS:
            continue
        try:
            key = settings_key(measurement)
            yield key, _READERS[measurement.name](measurement.result)
        except ValueError as error:
            skip(skipped, file, f"measurement {measurement.name}: {error}")


# --------------------------------------------------------------------------- results to arrays


def _spectrum(result: Mapping[str, Any]) -> Spectrum:
    nodes, weights = _rows(result, "nodes"), _rows(result, "weights")
    if [len(row) for row in nodes] != [len(row) for row in weights]:
        raise ValueError("nodes and weights are not of one shape")
    if not all(np.isfinite(row).all() for row in (*nodes, *weights)):
        raise ValueError("a node or a weight is no number")
    if any((row < 0).any() or abs(row.sum() - 1) > _ROUNDING for row in weights):
        raise ValueError("the weights of a starting vector are no shares of one")
    return Spectrum(np.concatenate(nodes), np.concatenate(weights) / len(weights), _dim(result))


def _dim(result: Mapping[str, Any]) -> int:
    dim = result.get("dim")
    if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= _LARGEST:
        raise ValueError("dim is no number of parameters")
    return dim


def _line(result: Mapping[str, Any]) -> Line:
    alphas, losses = _places(result, "alphas"), _numbers(result.get("losses"), "losses")
    if losses.shape != alphas.shape:
        raise ValueError("alphas and losses are not of one length")
    return Line(alphas, _losses(losses))


def _plane(result: Mapping[str, Any]) -> Plane:
    alphas, betas = _places(result, "alphas"), _places(result, "betas")
    if not 1 / _MOST_OBLONG < np.ptp(alphas) / np.ptp(betas) < _MOST_OBLONG:
        raise ValueError("alphas and betas reach too unlike distances to be drawn to one scale")
    rows = _rows(result, "losses")
    if len(rows) != len(alphas) or any(len(row) != len(betas) for row in rows):
        raise ValueError("losses are not a row per alpha and a column per beta")
    return Plane(alphas, betas, _losses(np.stack(rows)))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Spectrum | Line | Plane]] = {
    "spectral_density": _spectrum,
    "landscape_1d": _line,
    "landscape_2d": _plane,
}


def _places(result: Mapping[str, Any], name: str) -> Array:
    """Coordinates: at least three, rising, the weights inside."""
    places = _numbers(result.get(name), name)
    if len(places) < 3 or not np.isfinite(places).all() or not (np.diff(places) > 0).all():
        raise ValueError(f"{name} are no rising numbers")
    if not places[0] < 0 < places[-1]:
        raise ValueError(f"{name} do not have the weights, 0, between them")
    if places[-1] - places[0] < 1 / _LARGEST:
        raise ValueError(f"{name} are too close to each other")
    return places


def _losses(losses: Array) -> Array:
    if not np.isfinite(losses).any():
        raise ValueError("no loss is a number")
    return losses


def _rows(result: Mapping[str, Any], name: str) -> list[Array]:
    """Rows of numbers, of at least one each."""
    rows = result.get(name)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{name} is no list of rows")
    numbers = [_numbers(row, name) for row in rows]
    if not all(len(row) for row in numbers):
        raise ValueError(f"{name} has a row without numbers")
    return numbers


def _numbers(values: Any, name: str) -> Array:
    """A list of numbers; NaN for null, and for those that no axis can show."""
    if not isinstance(values, list):
        raise ValueError(f"{name} is no list")
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name} has an entry that is no number")
    shown = [np.nan if value is None or abs(value) > _LARGEST else value for value in values]
    return np.array(shown, dtype=np.float64)
