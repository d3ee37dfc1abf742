"""Curvature relative to the size of the weights.

Where BatchNorm makes the loss the same for w and a w, lambda_max(a w) = lambda_max(w) / a².
Relative to the weights curvature stays: with ||w||² under one factor for all of them, with
D = diag(abs(w)) under a factor for each.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.numerics import vectors
from samsweep.sharpness.double import LossFn
from samsweep.sharpness.eigenvalues import half_random, search, top_eigenvalues
from samsweep.sharpness.hvp import HessianOperator


@dataclass(frozen=True, kw_only=True)
class RelativeFlatness:
    """A largest eigenvalue, relative to the weights.

    Args:
        value: The eigenvalue, times ||w||² or of D H D.
        error_bound: Some eigenvalue lies within it, times ||w||² likewise.
        error_estimate: What the gap to the others makes of it.
        converged: Whether the tolerance was reached; not where the loss rounds by more than it.
        weight_norm: ||w||, over all trainable parameters.
        num_hvps: Hessian-vector products over all examples.
        loss: Mean loss over the examples.
        loss_rounding: What its rounding amounts to, relative to it and to its curvature.
        seconds: Wall time.
    """

    value: float
    error_bound: float
    error_estimate: float
    converged: bool
    weight_norm: float
    num_hvps: int
    loss: float
    loss_rounding: float
    seconds: float


def relative_flatness(
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    tolerance: float = 1e-4,
    max_hvps: int = 200,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> RelativeFlatness:
    """||w||² lambda_max(H), with all trainable parameters in w.

    It stays where all of them are rescaled alike, and not where a part is: the weights before a
    BatchNorm are a part. :func:`adaptive_lambda_max` stays there too.

    The arguments, conditions and errors are those of :func:`~samsweep.sharpness.top_eigenvalues`.
    """
    found = top_eigenvalues(
        model,
        inputs,
        labels,
        k=1,
        tolerance=tolerance,
        max_hvps=max_hvps,
        seed=seed,
        physical_batch_size=physical_batch_size,
        loss_fn=loss_fn,
    )
    norm = vectors.exact_norm([p.detach() for p in model.parameters() if p.requires_grad])
    return RelativeFlatness(
        value=norm**2 * found.values[0],
        error_bound=norm**2 * found.error_bounds[0],
        error_estimate=norm**2 * found.error_estimates[0],
        converged=found.converged,
        weight_norm=norm,
        num_hvps=found.num_hvps,
        loss=found.loss,
        loss_rounding=found.loss_rounding,
        seconds=found.seconds,
    )


def adaptive_lambda_max(
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    tolerance: float = 1e-4,
    max_hvps: int = 200,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> RelativeFlatness:
    """lambda_max(D H D), D = diag(abs(w)): the curvature in relative changes of single weights.

    It stays where any weights are rescaled so that the network is the same.

    The arguments, conditions and errors are those of :func:`~samsweep.sharpness.top_eigenvalues`.
    """
    started = time.perf_counter()
    hessian = HessianOperator(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    sizes = vectors.flatten([p.detach() for p in hessian.params]).abs()
    loss, gradient = hessian.loss_and_gradient()
    found = search(
        hessian,
        lambda v: sizes * hessian.matvec(sizes * v),
        start=half_random(sizes * gradient, seed),
        k=1,
        tolerance=tolerance,
        max_hvps=max_hvps,
        seed=seed,
    )
    rounding = hessian.objective.rounding(loss)
    return RelativeFlatness(
        value=float(found.eigenvalues[0]),
        error_bound=float(found.error_bounds[0]),
        error_estimate=float(found.error_estimates[0]),
        converged=found.converged and rounding <= tolerance,
        weight_norm=vectors.exact_norm([sizes]),
        num_hvps=hessian.num_hvps,
        loss=loss,
        loss_rounding=rounding,
        seconds=time.perf_counter() - started,
    )
