"""From a measure's name and settings to plain values for a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Module

from samsweep import vectors
from samsweep.config import MEASURES, ConfigError, SharpnessConfig, unknown_name
from samsweep.sharpness.eigenvalues import top_eigenvalues

#: ``measure(settings, model, inputs, labels)`` gives plain JSON values.
Measure = Callable[[SharpnessConfig, Module, Tensor, Tensor], dict[str, Any]]


def measure(
    name: str, settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor
) -> dict[str, Any]:
    """Take one measure of a model.

    Args:
        name: A key of :data:`samsweep.config.MEASURES`.
        settings: Tolerance, seed and sizes. ``num_examples`` and ``weights`` are the caller's
            to apply: ``inputs`` and ``model`` come as they are measured.
        model: The network.
        inputs: The fixed examples, shape (N, ...).
        labels: Shape (N,).

    Returns:
        Plain JSON values.

    Raises:
        ConfigError: If no measure has this name.
        FloatingPointError: If the loss or a product with the Hessian is not finite.
    """
    if name not in _MEASURES:
        raise ConfigError(unknown_name("measure", name, _MEASURES))
    return _MEASURES[name](settings, model, inputs, labels)


def _eigenvalues(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor, *, k: int
) -> dict[str, Any]:
    """The k largest eigenvalues.

    ``weight_norm`` stands beside them because lambda_max(a w) = lambda_max(w) / a² for weights
    that BatchNorm makes invariant to scale.
    """
    found = top_eigenvalues(
        model,
        inputs,
        labels,
        k=k,
        tolerance=settings.tolerance,
        max_hvps=settings.max_hvps,
        seed=settings.seed,
        physical_batch_size=settings.physical_batch_size,
    )
    return {
        "lambda_max": found.values[0],
        "eigenvalues": list(found.values),
        "errors": list(found.errors),
        "residuals": list(found.residuals),
        "num_hvps": found.num_hvps,
        "converged": found.converged,
        "loss": found.loss,
        "weight_norm": weight_norm(model),
        "seconds": found.seconds,
    }


def _top5(
    settings: SharpnessConfig, model: Module, inputs: Tensor, labels: Tensor, *, k: int
) -> dict[str, Any]:
    """The five largest eigenvalues and the bulk-outlier ratio lambda_1 / lambda_5."""
    values = _eigenvalues(settings, model, inputs, labels, k=k)
    return values | {"bulk_outlier_ratio": bulk_outlier_ratio(values["eigenvalues"])}


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
    return vectors.norm(trainable).item()


_MEASURES: Mapping[str, Measure] = {
    "lambda_max": partial(_eigenvalues, k=MEASURES["lambda_max"]),
    "top5": partial(_top5, k=MEASURES["top5"]),
}
