"""Curvature relative to the size of the weights.

Where BatchNorm makes the loss the same for w and a w, lambda_max(a w) = lambda_max(w) / a².
Relative to the weights curvature stays: with ||w||² under one factor for all of them, with
D = diag(abs(w)) under a factor for each.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep import vectors
from samsweep.sharpness.eigenvalues import half_random, search
from samsweep.sharpness.hvp import HessianOperator
from samsweep.sharpness.objective import LossFn


@dataclass(frozen=True, kw_only=True)
class RelativeFlatness:
    """A largest eigenvalue, relative to the weights.

    Args:
        value: The eigenvalue, times ||w||² or of D H D.
        error: Bound on its error.
        residual: Of the Ritz pair, times ||w||² likewise.
        converged: Whether the bound is within the tolerance.
        weight_norm: ||w||, over all trainable parameters.
        num_hvps: Hessian-vector products over all examples.
        loss: Mean loss over the examples.
        seconds: Wall time.
    """

    value: float
    error: float
    residual: float
    converged: bool
    weight_norm: float
    num_hvps: int
    loss: float
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
    started = time.perf_counter()
    hessian = HessianOperator(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    return _relative(
        hessian, started, by_weight=False, tolerance=tolerance, max_hvps=max_hvps, seed=seed
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
    return _relative(
        hessian, started, by_weight=True, tolerance=tolerance, max_hvps=max_hvps, seed=seed
    )


def _relative(
    hessian: HessianOperator,
    started: float,
    *,
    by_weight: bool,
    tolerance: float,
    max_hvps: int,
    seed: int,
) -> RelativeFlatness:
    sizes = vectors.flatten([p.detach() for p in hessian.params]).abs()
    squared = sizes.double().square().sum().item()

    def scaled_product(v: Tensor) -> Tensor:
        return sizes * hessian.matvec(sizes * v)

    loss, gradient = hessian.loss_and_gradient()
    found = search(
        hessian,
        scaled_product if by_weight else hessian.matvec,
        start=half_random(sizes * gradient if by_weight else gradient, seed),
        k=1,
        tolerance=tolerance,
        max_hvps=max_hvps,
        seed=seed,
    )
    factor = 1.0 if by_weight else squared
    return RelativeFlatness(
        value=factor * float(found.eigenvalues[0]),
        error=factor * float(found.errors[0]),
        residual=factor * float(found.residuals[0]),
        converged=found.converged,
        weight_norm=math.sqrt(squared),
        num_hvps=hessian.num_hvps,
        loss=loss,
        seconds=time.perf_counter() - started,
    )
