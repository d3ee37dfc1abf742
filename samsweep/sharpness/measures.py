"""From a measure's name and settings to plain values for a record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

from torch import Tensor
from torch.nn import Module

from samsweep.config import ConfigError, SharpnessConfig, unknown_name
from samsweep.numerics import vectors
from samsweep.sharpness.density import spectral_density
from samsweep.sharpness.eigenvalues import top_eigenvalues
from samsweep.sharpness.empirical_sam import empirical_sam
from samsweep.sharpness.estimate import TOLERANCE, Estimate
from samsweep.sharpness.landscape import landscape
from samsweep.sharpness.perturbations import Norm, average_case, sam_gap, worst_case
from samsweep.sharpness.relative import (
    RelativeFlatness,
    adaptive_lambda_max,
    relative_flatness,
)
from samsweep.sharpness.trace import fisher_trace, ggn_trace, hessian_trace

#: ``measure(settings, model, inputs, labels)`` gives plain JSON values.
Measure = Callable[[SharpnessConfig, Module, Tensor, Tensor], dict[str, Any]]


def measure(
    name: str,
    settings: SharpnessConfig,
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
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
    return _MEASURES[name](settings, model, inputs, labels)


def _searched(known: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The largest eigenvalues, if they are known with error bounds."""
    results = (known.get(name, {}) for name in ("top5", "lambda_max"))
    return next((result for result in results if "error_bounds" in result), None)


def _first(found: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of ``lambda_max``."""
    lists = ("eigenvalues", "error_bounds", "error_estimates")
    others = {key: value for key, value in found.items() if key != "bulk_outlier_ratio"}
    return others | {key: found[key][:1] for key in lists}


def _times_squared_norm(found: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of ``relative_flatness``: ||w||² times the largest eigenvalue."""
    one, squared = _first(found), found["weight_norm"] ** 2
    return {
        "relative_flatness": squared * one.pop("lambda_max"),
        **{key: [squared * one.pop(key)[0]] for key in ("error_bounds", "error_estimates")},
        **{key: value for key, value in one.items() if key != "eigenvalues"},
    }


def _eigenvalues(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor, *, k: int
) -> dict[str, Any]:
    """The k largest eigenvalues.

    ``weight_norm`` stands beside them because lambda_max(a w) = lambda_max(w) / a² for weights
    that BatchNorm makes invariant to scale.
    """
    found = top_eigenvalues(model, inputs, labels, k=k, **_search(settings))
    return {
        "lambda_max": found.values[0],
        "eigenvalues": list(found.values),
        "error_bounds": list(found.error_bounds),
        "error_estimates": list(found.error_estimates),
        "num_hvps": found.num_hvps,
        "converged": found.converged,
        "loss": found.loss,
        "loss_rounding": _finite(found.loss_rounding),
        "weight_norm": weight_norm(model),
        "seconds": found.seconds,
    }


def _top5(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor
) -> dict[str, Any]:
    """The five largest eigenvalues and the bulk-outlier ratio lambda_1 / lambda_5."""
    values = _eigenvalues(settings, model, inputs, labels, k=5)
    return values | {"bulk_outlier_ratio": bulk_outlier_ratio(values["eigenvalues"])}


def _relative(
    settings: SharpnessConfig,
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    name: str,
    measured: Callable[..., RelativeFlatness],
) -> dict[str, Any]:
    found = measured(model, inputs, labels, **_search(settings))
    return {
        name: found.value,
        "error_bounds": [found.error_bound],
        "error_estimates": [found.error_estimate],
        "converged": found.converged,
        "weight_norm": found.weight_norm,
        "num_hvps": found.num_hvps,
        "loss": found.loss,
        "loss_rounding": _finite(found.loss_rounding),
        "seconds": found.seconds,
    }


def _trace(
    settings: SharpnessConfig,
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    name: str,
    estimate: Callable[..., Estimate],
) -> dict[str, Any]:
    found = estimate(
        model,
        inputs,
        labels,
        num_samples=settings.trace.num_samples,
        seed=settings.seed,
        physical_batch_size=settings.physical_batch_size,
    )
    return _estimated(name, found)


def _worst_case(
    settings: SharpnessConfig,
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    norm: Norm,
    adaptive: bool,
) -> dict[str, Any]:
    prefix = "adaptive_" if adaptive else ""
    rho = getattr(settings.worst_case, f"{prefix}rho_{norm}")
    found = worst_case(
        model,
        inputs,
        labels,
        rho=rho,
        norm=norm,
        adaptive=adaptive,
        num_steps=settings.worst_case.num_steps,
        batch_size=settings.worst_case.batch_size,
        physical_batch_size=settings.physical_batch_size,
    )
    return _estimated(f"{prefix}worst_case_{norm}", found, samples="num_batches", rho=rho)


def _average_case(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor, *, adaptive: bool
) -> dict[str, Any]:
    prefix = "adaptive_" if adaptive else ""
    rho = getattr(settings.average_case, f"{prefix}rho")
    found = average_case(
        model,
        inputs,
        labels,
        rho=rho,
        adaptive=adaptive,
        num_samples=settings.average_case.num_samples,
        seed=settings.seed,
        physical_batch_size=settings.physical_batch_size,
    )
    return _estimated(f"{prefix}average_case", found, rho=rho)


def _sam_gap(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor
) -> dict[str, Any]:
    rho = settings.sam_gap.rho
    found = sam_gap(
        model,
        inputs,
        labels,
        rho=rho,
        batch_size=settings.sam_gap.batch_size,
        physical_batch_size=settings.physical_batch_size,
    )
    return _estimated("sam_gap", found, samples="num_batches", rho=rho)


def _spectral_density(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor
) -> dict[str, Any]:
    found = spectral_density(
        model,
        inputs,
        labels,
        num_vectors=settings.spectral_density.num_vectors,
        num_steps=settings.spectral_density.num_steps,
        seed=settings.seed,
        physical_batch_size=settings.physical_batch_size,
    )
    return {
        "nodes": [nodes.tolist() for nodes in found.nodes],
        "weights": [weights.tolist() for weights in found.weights],
        "largest": found.largest,
        "smallest": found.smallest,
        "mean": found.mean,
        "mean_standard_error": found.mean_standard_error,
        "dim": found.dim,
        "num_hvps": found.num_hvps,
        "converged": found.converged,
        "loss": found.loss,
        "loss_rounding": _finite(found.loss_rounding),
        "seconds": found.seconds,
    }


def _landscape(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor, *, num_directions: int
) -> dict[str, Any]:
    found = landscape(
        model,
        inputs,
        labels,
        num_directions=num_directions,
        radius=settings.landscape.radius,
        num_points=getattr(settings.landscape, f"num_points_{num_directions}d"),
        seed=settings.seed,
        physical_batch_size=settings.physical_batch_size,
    )
    positions = found.positions.tolist()
    return {
        **dict(zip(("alphas", "betas"), [positions] * num_directions, strict=False)),
        "losses": _finite(found.losses.tolist()),
        "num_forwards": found.num_forwards,
        "converged": found.loss_rounding <= TOLERANCE,
        "loss": found.loss,
        "loss_rounding": _finite(found.loss_rounding),
        "seconds": found.seconds,
    }


def _empirical_sam(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor
) -> dict[str, Any]:
    found = empirical_sam(
        model,
        inputs,
        labels,
        batch_size=settings.empirical_sam.batch_size,
        k=settings.empirical_sam.num_eigenvalues,
        **_search(settings),
    )
    return {
        "empirical_sam": found.value,
        "standard_error": found.standard_error,
        "batch_eigenvalues": [list(batch.values) for batch in found.batches],
        "converged": all(batch.converged for batch in found.batches),
        "num_hvps": sum(batch.num_hvps for batch in found.batches),
        "loss": fmean(batch.loss for batch in found.batches),
        "loss_rounding": _finite(max(batch.loss_rounding for batch in found.batches)),
        "seconds": found.seconds,
    }


def _search(settings: SharpnessConfig) -> dict[str, Any]:
    """What all searches for eigenvalues are told."""
    return {
        "tolerance": settings.tolerance,
        "max_hvps": settings.max_hvps,
        "seed": settings.seed,
        "physical_batch_size": settings.physical_batch_size,
    }


def _estimated(
    name: str, found: Estimate, samples: str = "num_samples", **extra: float
) -> dict[str, Any]:
    """An estimate by the names of the record; costs that are zero are left out."""
    costs = {
        key: getattr(found, key)
        for key in ("num_hvps", "num_gradients", "num_forwards")
        if getattr(found, key)
    }
    return {
        name: found.value,
        "standard_error": found.standard_error,
        samples: found.num_samples,
        **extra,
        **costs,
        "converged": found.converged,
        "loss": found.loss,
        "loss_rounding": _finite(found.loss_rounding),
        "seconds": found.seconds,
    }


def _finite(values: Any) -> Any:
    """Nested lists of numbers, with None for what JSON does not have."""
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return values if math.isfinite(values) else None


def bulk_outlier_ratio(eigenvalues: list[float]) -> float | None:
    """lambda_1 / lambda_5, or None where lambda_5 is missing or not positive.

    Args:
        eigenvalues: Largest first.
    """
    if len(eigenvalues) < 5 or eigenvalues[4] <= 0:
        return None
    return eigenvalues[0] / eigenvalues[4]


def weight_norm(model: Module) -> float:
    """Euclidean norm of all trainable parameters together."""
    trainable = [p.detach() for p in model.parameters() if p.requires_grad]
    return vectors.exact_norm(trainable)


#: Measures that are read off eigenvalues which another one searched for.
_FROM_EIGENVALUES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "lambda_max": _first,
    "relative_flatness": _times_squared_norm,
}

_MEASURES: Mapping[str, Measure] = {
    "lambda_max": partial(_eigenvalues, k=1),
    "top5": _top5,
    "relative_flatness": partial(_relative, name="relative_flatness", measured=relative_flatness),
    "adaptive_lambda_max": partial(
        _relative, name="adaptive_lambda_max", measured=adaptive_lambda_max
    ),
    "trace": partial(_trace, name="trace", estimate=hessian_trace),
    "ggn_trace": partial(_trace, name="ggn_trace", estimate=ggn_trace),
    "fisher_trace": partial(_trace, name="fisher_trace", estimate=fisher_trace),
    "worst_case_l2": partial(_worst_case, norm="l2", adaptive=False),
    "worst_case_linf": partial(_worst_case, norm="linf", adaptive=False),
    "adaptive_worst_case_l2": partial(_worst_case, norm="l2", adaptive=True),
    "adaptive_worst_case_linf": partial(_worst_case, norm="linf", adaptive=True),
    "average_case": partial(_average_case, adaptive=False),
    "adaptive_average_case": partial(_average_case, adaptive=True),
    "sam_gap": _sam_gap,
    "spectral_density": _spectral_density,
    "landscape_1d": partial(_landscape, num_directions=1),
    "landscape_2d": partial(_landscape, num_directions=2),
    "empirical_sam": _empirical_sam,
}
