"""From a measure's name and settings to plain values for a record: one table of measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import Module

from samsweep.config import ConfigError, SharpnessConfig, unknown_name
from samsweep.sharpness.density import SpectralDensity, spectral_density
from samsweep.sharpness.eigenvalues import Eigenvalues, top_eigenvalues
from samsweep.sharpness.empirical_sam import EmpiricalSam, empirical_sam
from samsweep.sharpness.estimate import Estimate
from samsweep.sharpness.landscape import Landscape, landscape
from samsweep.sharpness.perturbations import average_case, sam_gap, worst_case
from samsweep.sharpness.relative import adaptive_lambda_max, relative_flatness
from samsweep.sharpness.trace import fisher_trace, ggn_trace, hessian_trace

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """How one measure is taken.

    Args:
        function: Takes (model, inputs, labels) and the keywords below.
        keywords: From the settings; ``physical_batch_size`` is added.
        values: What it found, for the record.
    """

    function: Callable[..., Any]
    keywords: Callable[[SharpnessConfig], Values]
    values: Callable[[Any, Values], Values]


def measure(
    name: str,
    settings: SharpnessConfig,
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    known: Mapping[str, Mapping[str, Any]] | None = None,
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

    Returns:
        Plain JSON values.

    Raises:
        ConfigError: If no measure has this name.
        FloatingPointError: If the loss or a product with the Hessian is not finite.
    """
    if name not in _MEASURES:
        raise ConfigError(unknown_name("measure", name, _MEASURES))
    searched = _searched(known or {})
    if searched is not None and name in _FROM_EIGENVALUES:
        return _FROM_EIGENVALUES[name](searched) | {"num_hvps": 0, "seconds": 0.0}
    taken = _MEASURES[name]
    keywords = taken.keywords(settings)
    found = taken.function(
        model, inputs, labels, **keywords, physical_batch_size=settings.physical_batch_size
    )
    return taken.values(found, keywords)


def bulk_outlier_ratio(eigenvalues: list[float]) -> float | None:
    """lambda_1 / lambda_5, or None where lambda_5 is missing or not positive.

    Args:
        eigenvalues: Largest first.
    """
    if len(eigenvalues) < 5 or eigenvalues[4] <= 0:
        return None
    return eigenvalues[0] / eigenvalues[4]


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


# --------------------------------------------------------------------------- the table


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


def _search(settings: SharpnessConfig) -> Values:
    """The keywords of all searches for eigenvalues."""
    return {key: getattr(settings, key) for key in ("tolerance", "max_hvps", "seed")}


def _top(k: int) -> _Measure:
    def values(found: Eigenvalues, keywords: Values) -> Values:
        ratio = {"bulk_outlier_ratio": bulk_outlier_ratio(list(found.values))} if k == 5 else {}
        return {
            "lambda_max": found.values[0],
            "eigenvalues": list(found.values),
            **_fields(found, "error_bounds", "error_estimates", "num_hvps", "weight_norm"),
            **ratio,
        }

    return _Measure(
        function=top_eigenvalues, keywords=lambda s: _search(s) | {"k": k}, values=values
    )


def _relative(name: str, function: Callable[..., Eigenvalues]) -> _Measure:
    def values(found: Eigenvalues, keywords: Values) -> Values:
        names = ("error_bounds", "error_estimates", "weight_norm", "num_hvps")
        return {name: found.values[0], **_fields(found, *names)}

    return _Measure(function=function, keywords=_search, values=values)


def _estimate(
    name: str,
    function: Callable[..., Estimate],
    keywords: Callable[[SharpnessConfig], Values],
    samples: str = "num_samples",
) -> _Measure:
    def values(found: Estimate, given: Values) -> Values:
        costs = ("num_hvps", "num_gradients", "num_forwards")
        return {
            name: found.value,
            "standard_error": found.standard_error,
            samples: found.num_samples,
            **({"rho": given["rho"]} if "rho" in given else {}),
            **_fields(found, *(cost for cost in costs if getattr(found, cost))),
        }

    return _Measure(function=function, keywords=keywords, values=values)


def _trace(name: str, function: Callable[..., Estimate]) -> _Measure:
    return _estimate(name, function, lambda s: {"num_samples": s.trace.num_samples, "seed": s.seed})


def _worst_case(norm: str, *, adaptive: bool) -> _Measure:
    prefix = "adaptive_" if adaptive else ""

    def keywords(settings: SharpnessConfig) -> Values:
        section = settings.worst_case
        return {
            "rho": getattr(section, f"{prefix}rho_{norm}"),
            "norm": norm,
            "adaptive": adaptive,
            "num_steps": section.num_steps,
            "batch_size": section.batch_size,
        }

    return _estimate(f"{prefix}worst_case_{norm}", worst_case, keywords, "num_batches")


def _average_case(*, adaptive: bool) -> _Measure:
    prefix = "adaptive_" if adaptive else ""

    def keywords(settings: SharpnessConfig) -> Values:
        return {
            "rho": getattr(settings.average_case, f"{prefix}rho"),
            "adaptive": adaptive,
            "num_samples": settings.average_case.num_samples,
            "seed": settings.seed,
        }

    return _estimate(f"{prefix}average_case", average_case, keywords)


def _landscape(num_directions: int) -> _Measure:
    def keywords(settings: SharpnessConfig) -> Values:
        return {
            "num_directions": num_directions,
            "radius": settings.landscape.radius,
            "num_points": getattr(settings.landscape, f"num_points_{num_directions}d"),
            "seed": settings.seed,
        }

    def values(found: Landscape, given: Values) -> Values:
        axes = ("alphas", "betas")[:num_directions]
        return {
            **{axis: _plain(found.positions) for axis in axes},
            **_fields(found, "losses", "num_forwards"),
        }

    return _Measure(function=landscape, keywords=keywords, values=values)


def _density_values(found: SpectralDensity, given: Values) -> Values:
    names = "nodes weights largest smallest mean mean_standard_error dim num_hvps"
    return _fields(found, *names.split())


def _empirical_sam_values(found: EmpiricalSam, given: Values) -> Values:
    batches = found.batches
    return {
        "empirical_sam": found.value,
        "standard_error": found.standard_error,
        "batch_eigenvalues": [list(batch.values) for batch in batches],
        "converged": all(batch.converged for batch in batches),
        "num_hvps": sum(batch.num_hvps for batch in batches),
        "loss": fmean(batch.loss for batch in batches),
        "loss_rounding": _plain(max(batch.loss_rounding for batch in batches)),
        "seconds": found.seconds,
    }


_MEASURES: Mapping[str, _Measure] = {
    "lambda_max": _top(1),
    "top5": _top(5),
    "relative_flatness": _relative("relative_flatness", relative_flatness),
    "adaptive_lambda_max": _relative("adaptive_lambda_max", adaptive_lambda_max),
    "trace": _trace("trace", hessian_trace),
    "ggn_trace": _trace("ggn_trace", ggn_trace),
    "fisher_trace": _trace("fisher_trace", fisher_trace),
    "worst_case_l2": _worst_case("l2", adaptive=False),
    "worst_case_linf": _worst_case("linf", adaptive=False),
    "adaptive_worst_case_l2": _worst_case("l2", adaptive=True),
    "adaptive_worst_case_linf": _worst_case("linf", adaptive=True),
    "average_case": _average_case(adaptive=False),
    "adaptive_average_case": _average_case(adaptive=True),
    "sam_gap": _estimate(
        "sam_gap",
        sam_gap,
        lambda s: {"rho": s.sam_gap.rho, "batch_size": s.sam_gap.batch_size},
        "num_batches",
    ),
    "spectral_density": _Measure(
        function=spectral_density,
        keywords=lambda s: {
            "num_vectors": s.spectral_density.num_vectors,
            "num_steps": s.spectral_density.num_steps,
            "seed": s.seed,
        },
        values=_density_values,
    ),
    "landscape_1d": _landscape(1),
    "landscape_2d": _landscape(2),
    "empirical_sam": _Measure(
        function=empirical_sam,
        keywords=lambda s: (
            _search(s)
            | {"batch_size": s.empirical_sam.batch_size, "k": s.empirical_sam.num_eigenvalues}
        ),
        values=_empirical_sam_values,
    ),
}
