"""Curvature relative to the size of the weights.

Where BatchNorm makes the loss the same for w and a w, lambda_max(a w) = lambda_max(w) / a².
Relative to the weights curvature stays: with ||w||² under one factor for all of them, with
D = diag(abs(w)) under a factor for each.
"""

from __future__ import annotations

import time

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.numerics import vectors
from samsweep.sharpness.eigenvalues import Eigenvalues, search, top_eigenvalues
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.hvp import HessianOperator


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
) -> Eigenvalues:
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
    return found.times(found.weight_norm**2)


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
) -> Eigenvalues:
    """lambda_max(D H D), D = diag(abs(w)): the curvature in relative changes of single weights.

    It stays where any weights are rescaled so that the network is the same.

    The arguments, conditions and errors are those of :func:`~samsweep.sharpness.top_eigenvalues`.
    """
    started = time.perf_counter()
    hessian = HessianOperator(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    sizes = vectors.flatten([p.detach() for p in hessian.params]).abs()
    return search(
        hessian, sizes, k=1, tolerance=tolerance, max_hvps=max_hvps, seed=seed, started=started
    )
