"""lambda_max and its followers: the largest eigenvalues of the loss's Hessian."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.sharpness.conditions import measuring
from samsweep.sharpness.hvp import HessianOperator, LossFn
from samsweep.sharpness.lanczos import lanczos


@dataclass(frozen=True)
class Eigenvalues:
    """The largest eigenvalues of a Hessian, and how well they are known.

    Args:
        values: Largest algebraic first.
        errors: Bound on each value's error (:func:`~samsweep.sharpness.lanczos`).
        residuals: ||H x - theta x|| of each Ritz pair.
        num_hvps: Hessian-vector products over all examples.
        converged: Whether every error is within the tolerance.
        loss: Mean loss over the same examples: cross-entropy's curvature vanishes with it.
        seconds: Wall time.
    """

    values: tuple[float, ...]
    errors: tuple[float, ...]
    residuals: tuple[float, ...]
    num_hvps: int
    converged: bool
    loss: float
    seconds: float


def top_eigenvalues(
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    k: int,
    tolerance: float = 1e-4,
    max_hvps: int = 200,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> Eigenvalues:
    """The k largest (algebraic) eigenvalues of the Hessian of the mean loss.

    Conditions: eval mode (BatchNorm's running statistics), the examples as they are given, full
    precision, all trainable parameters, no weight decay unless ``loss_fn`` adds it. The model is
    left as it was found.

    PyHessian's power iteration finds the eigenvalues largest in modulus instead.

    Args:
        model: Any classifier; ``model(inputs)`` gives the outputs.
        inputs: The fixed examples, shape (N, ...).
        labels: Shape (N,).
        k: Number of eigenvalues.
        tolerance: Error bound to reach, relative to the largest eigenvalue's absolute value.
        max_hvps: Products after which the bounds reached are reported as they are.
        seed: Of the starting vector.
        physical_batch_size: Examples per micro-batch; changes memory and speed, not the value.
        loss_fn: Mean loss over examples of (outputs, labels).

    Returns:
        Eigenvalues with their error bounds.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If the loss or a product is not finite.
    """
    start = time.perf_counter()
    hessian = HessianOperator(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    loss = hessian.loss()
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the mean loss is {loss}: the Hessian of a diverged network cannot be measured"
        )
    with measuring(model):  # for Lanczos' own products with its basis
        result = lanczos(
            hessian.matvec,
            hessian.dim,
            k=k,
            tolerance=tolerance,
            max_matvecs=max_hvps,
            seed=seed,
            dtype=hessian.dtype,
            device=hessian.device,
        )
    return Eigenvalues(
        values=tuple(result.eigenvalues.tolist()),
        errors=tuple(result.errors.tolist()),
        residuals=tuple(result.residuals.tolist()),
        num_hvps=hessian.num_hvps,
        converged=result.converged,
        loss=loss,
        seconds=time.perf_counter() - start,
    )


def lambda_max(
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    tolerance: float = 1e-4,
    max_hvps: int = 200,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> float:
    """The largest eigenvalue of the Hessian of the mean loss.

    See :func:`top_eigenvalues` for the conditions, the arguments and the errors, and for the
    error bound that this shortcut leaves out.
    """
    return top_eigenvalues(
        model,
        inputs,
        labels,
        k=1,
        tolerance=tolerance,
        max_hvps=max_hvps,
        seed=seed,
        physical_batch_size=physical_batch_size,
        loss_fn=loss_fn,
    ).values[0]
