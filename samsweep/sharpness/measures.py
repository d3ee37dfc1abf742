"""From a measure's name and settings to plain values for a record: one table of measures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.config import MEASURES, ConfigError, MeasureInfo, SharpnessConfig
from samsweep.config.factory import make
from samsweep.sharpness.density import SpectralDensity, spectral_density
from samsweep.sharpness.eigenvalues import (
    Eigenvalues,
    adaptive_lambda_max,
    relative_flatness,
    top_eigenvalues,
)
from samsweep.sharpness.empirical_sam import EmpiricalSam, empirical_sam
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.landscape import Landscape, landscape
from samsweep.sharpness.perturbations import average_case, sam_gap, worst_case
from samsweep.sharpness.results import Estimate
from samsweep.sharpness.trace import fisher_trace, ggn_trace, hessian_trace

Values = dict[str, Any]


@dataclass(frozen=True)
class _Measure:
    """How one measure is taken.

    Args:
        function: Takes (model, inputs, labels) and the keywords below.
        keywords: From the settings; ``physical_batch_size`` is added.
        values: For the record, from the measure's name, what it found, and the keywords.
    """

    function: Callable[..., Any]
    keywords: Callable[[SharpnessConfig], Values]
    values: Callable[[str, Any, Values], Values]


def measure(
    name: str,
    settings: SharpnessConfig,
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    known: Mapping[str, Mapping[str, Any]] | None = None,
    loss_fn: LossFn | None = None,
) -> Values:
    """Take one measure of a model.

    Args:
        name: A key of :data:`samsweep.config.MEASURES`.
        settings: Tolerance, seed and sizes. ``num_examples`` and ``weights`` are the caller's
            to apply: ``inputs`` and ``model`` come as they are measured.
        model: The network.
        inputs: The fixed examples, shape (N, ...); for ``empirical_sam`` its augmented batches,
            one after the other.
        labels: Shape (N,).
        known: By name, what was measured of the same model and examples with the same settings:
            eigenvalues of one Hessian are searched once.
        loss_fn: Mean loss of outputs and labels; None is cross-entropy.

    Returns:
        Plain JSON values.

    Raises:
        ConfigError: If no measure has this name, or it is not one of such a loss.
        FloatingPointError: If the loss or a product with the Hessian is not finite.
        ArithmeticError: If the Hessian as torch computes it is not symmetric.
    """
    component = MEASURES.find(name)
    if not component.ours:
        return _others(name, component, settings, model, inputs, labels, loss_fn)
    searched = _searched(known or {})
    if searched is not None and name in _FROM_EIGENVALUES:
        return _FROM_EIGENVALUES[name](searched) | {"num_hvps": 0, "seconds": 0.0}
    taken = _MEASURES[name]
    keywords = taken.keywords(settings)
    beside: Values = {"physical_batch_size": settings.physical_batch_size}
    if loss_fn is not None:
        if component.of_plain_cross_entropy:
            raise ConfigError(f"sharpness.measures: {name} is of plain cross-entropy only.")
        beside["loss_fn"] = loss_fn
    found = taken.function(model, inputs, labels, **keywords, **beside)
    return taken.values(name, found, keywords)


def _others(
    name: str,
    component: MeasureInfo,
    settings: SharpnessConfig,
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    loss_fn: LossFn | None,
) -> Values:
    """A measure that is not ours: a number, which gets the measure's name, or named values."""
    started = time.perf_counter()
    found = make(
        f"sharpness.args.{name}",
        component.factory,
        {**component.args, **settings.args.get(name, {})},
        model=model,
        inputs=inputs,
        labels=labels,
        loss_fn=loss_fn or cross_entropy,
        seed=settings.seed,
        physical_batch_size=settings.physical_batch_size,
    )
    values = dict(found) if isinstance(found, Mapping) else {name: found}
    plain = {key: v.item() if isinstance(v, Tensor) else v for key, v in values.items()}
    try:
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"measure {name} gives values that JSON does not have ({error}): return a finite "
            "number, or a mapping of names to numbers and lists of them."
        ) from None
    shown = component.headline or (None if isinstance(found, Mapping) else name)
    numbers = [key for key, value in plain.items() if isinstance(value, int | float)]
    if shown is None and numbers:
        raise ConfigError(
            f"measure {name} gives several values ({', '.join(plain)}), of which tables need one: "
            f"return a number, or register it with headline={numbers[0]!r}."
        )
    if shown is not None and not isinstance(plain.get(shown), int | float):
        raise ConfigError(
            f"measure {name} gives {plain.get(shown)!r} as {shown}: return a finite number."
        )
    if component.headline is not None:
        # Under the measure's name too, for tables where nothing else says which entry it is.
        plain = {name: plain[component.headline]} | plain
    return plain | {"seconds": time.perf_counter() - started}


# --------------------------------------------------------------------------- read off eigenvalues


def _searched(known: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The largest eigenvalues, if they are known with error bounds."""
    results = (known.get(name, {}) for name in ("top5", "lambda_max"))
    return next((result for result in results if "error_bounds" in result), None)


def _first(found: Mapping[str, Any]) -> Values:
    """The entry of ``lambda_max``."""
    lists = ("eigenvalues", "error_bounds", "error_estimates")
    others = {key: value for key, value in found.items() if key != "bulk_outlier_ratio"}
    return others | {key: found[key][:1] for key in lists}


def _times_squared_norm(found: Mapping[str, Any]) -> Values:
    """The entry of ``relative_flatness``: ||w||² times the largest eigenvalue."""
    one, squared = _first(found), found["weight_norm"] ** 2
    return {
        "relative_flatness": squared * one.pop("lambda_max"),
        **{key: [squared * one.pop(key)[0]] for key in ("error_bounds", "error_estimates")},
        **{key: value for key, value in one.items() if key != "eigenvalues"},
    }


#: Measures that are read off eigenvalues which another one searched for.
_FROM_EIGENVALUES: Mapping[str, Callable[[Mapping[str, Any]], Values]] = {
    "lambda_max": _first,
    "relative_flatness": _times_squared_norm,
}


# --------------------------------------------------------------------------- values for the record


def _fields(found: Any, *names: str) -> Values:
    """Attributes by their names, then those that every measure has."""
    common = ("converged", "loss", "loss_rounding", "seconds")
    return {name: _plain(getattr(found, name)) for name in (*names, *common)}


def _plain(value: Any) -> Any:
    """Arrays and tuples as lists, with None for numbers that JSON does not have."""
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _eigenvalues(name: str, found: Eigenvalues, given: Values) -> Values:
    values = list(found.values)
    return {
        "lambda_max": values[0],
        "eigenvalues": values,
        **_fields(found, "error_bounds", "error_estimates", "num_hvps", "weight_norm"),
        **({"bulk_outlier_ratio": _bulk_outlier_ratio(values)} if given["k"] == 5 else {}),
    }


def _bulk_outlier_ratio(eigenvalues: list[float]) -> float | None:
    """lambda_1 / lambda_5, or None where lambda_5 is missing or not positive."""
    if len(eigenvalues) < 5 or eigenvalues[4] <= 0:
        return None
    return eigenvalues[0] / eigenvalues[4]


def _largest(name: str, found: Eigenvalues, given: Values) -> Values:
    names = ("error_bounds", "error_estimates", "weight_norm", "num_hvps")
    return {name: found.values[0], **_fields(found, *names)}


def _estimate(name: str, found: Estimate, given: Values) -> Values:
    costs = ("num_hvps", "num_gradients", "num_forwards")
    return {
        name: found.value,
        "standard_error": found.standard_error,
        "num_batches" if "batch_size" in given else "num_samples": found.num_samples,
        **({"rho": given["rho"]} if "rho" in given else {}),
        **_fields(found, *(cost for cost in costs if getattr(found, cost))),
    }


def _slices(name: str, found: Landscape, given: Values) -> Values:
    axes = ("alphas", "betas")[: given["num_directions"]]
    positions = dict.fromkeys(axes, _plain(found.positions))
    return positions | _fields(found, "losses", "num_forwards")


def _density(name: str, found: SpectralDensity, given: Values) -> Values:
    names = "nodes weights largest smallest mean mean_standard_error dim num_hvps"
    return _fields(found, *names.split())


def _empirical_sam(name: str, found: EmpiricalSam, given: Values) -> Values:
    batches = found.batches
    return {
        name: found.value,
        "standard_error": found.standard_error,
        "batch_eigenvalues": [list(batch.values) for batch in batches],
        "converged": all(batch.converged for batch in batches),
        "num_hvps": sum(batch.num_hvps for batch in batches),
        "loss": fmean(batch.loss for batch in batches),
        "loss_rounding": _plain(max(batch.loss_rounding for batch in batches)),
        "seconds": found.seconds,
    }


# --------------------------------------------------------------------------- keywords of settings


def _search(settings: SharpnessConfig) -> Values:
    return {key: getattr(settings, key) for key in ("tolerance", "max_hvps", "seed")}


def _probes(settings: SharpnessConfig) -> Values:
    return {"num_samples": settings.trace.num_samples, "seed": settings.seed}


def _worst(norm: str, settings: SharpnessConfig, *, adaptive: bool = False) -> Values:
    section = settings.worst_case
    return {
        "rho": getattr(section, f"adaptive_rho_{norm}" if adaptive else f"rho_{norm}"),
        "norm": norm,
        "adaptive": adaptive,
        "num_steps": section.num_steps,
        "batch_size": section.batch_size,
    }


def _average(settings: SharpnessConfig, *, adaptive: bool = False) -> Values:
    section = settings.average_case
    return {
        "rho": section.adaptive_rho if adaptive else section.rho,
        "adaptive": adaptive,
        "num_samples": section.num_samples,
        "seed": settings.seed,
    }


def _grid(num_directions: int, settings: SharpnessConfig) -> Values:
    return {
        "num_directions": num_directions,
        "radius": settings.landscape.radius,
        "num_points": getattr(settings.landscape, f"num_points_{num_directions}d"),
        "seed": settings.seed,
    }


def _quadrature(settings: SharpnessConfig) -> Values:
    section = settings.spectral_density
    return {
        "num_vectors": section.num_vectors,
        "num_steps": section.num_steps,
        "seed": settings.seed,
    }


_MEASURES: Mapping[str, _Measure] = {
    "lambda_max": _Measure(top_eigenvalues, lambda s: _search(s) | {"k": 1}, _eigenvalues),
    "top5": _Measure(top_eigenvalues, lambda s: _search(s) | {"k": 5}, _eigenvalues),
    "relative_flatness": _Measure(relative_flatness, _search, _largest),
    "adaptive_lambda_max": _Measure(adaptive_lambda_max, _search, _largest),
    "trace": _Measure(hessian_trace, _probes, _estimate),
    "ggn_trace": _Measure(ggn_trace, _probes, _estimate),
    "fisher_trace": _Measure(fisher_trace, _probes, _estimate),
    "worst_case_l2": _Measure(worst_case, partial(_worst, "l2"), _estimate),
    "worst_case_linf": _Measure(worst_case, partial(_worst, "linf"), _estimate),
    "adaptive_worst_case_l2": _Measure(worst_case, partial(_worst, "l2", adaptive=True), _estimate),
    "adaptive_worst_case_linf": _Measure(
        worst_case, partial(_worst, "linf", adaptive=True), _estimate
    ),
    "average_case": _Measure(average_case, _average, _estimate),
    "adaptive_average_case": _Measure(average_case, partial(_average, adaptive=True), _estimate),
    "sam_gap": _Measure(
        sam_gap, lambda s: {"rho": s.sam_gap.rho, "batch_size": s.sam_gap.batch_size}, _estimate
    ),
    "spectral_density": _Measure(spectral_density, _quadrature, _density),
    "landscape_1d": _Measure(landscape, partial(_grid, 1), _slices),
    "landscape_2d": _Measure(landscape, partial(_grid, 2), _slices),
    "empirical_sam": _Measure(
        empirical_sam,
        lambda s: (
            _search(s)
            | {"batch_size": s.empirical_sam.batch_size, "k": s.empirical_sam.num_eigenvalues}
        ),
        _empirical_sam,
    ),
}
