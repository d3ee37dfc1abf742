"""The sharpness of the study that samsweep reproduces (Luong 2024), as far as it is known.

Eigenvalues of the Hessians of single batches of augmented training images, BatchNorm in eval mode,
at the weights of best validation accuracy; the mean of those that are positive. A batch's Hessian
is not that of the whole training set.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.sharpness.eigenvalues import Eigenvalues, top_eigenvalues
from samsweep.sharpness.estimate import standard_error
from samsweep.sharpness.float64_loss import LossFn


@dataclass(frozen=True, kw_only=True)
class EmpiricalSam:
    """The mean positive eigenvalue of batches.

    Args:
        value: Mean of the positive eigenvalues of all batches; 0 if there are none.
        standard_error: Of the value, over batches; None for a single one.
        batches: The eigenvalues of each.
        seconds: Wall time.
    """

    value: float
    standard_error: float | None
    batches: tuple[Eigenvalues, ...]
    seconds: float


def empirical_sam(
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 256,
    k: int = 5,
    tolerance: float = 1e-4,
    max_hvps: int = 200,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> EmpiricalSam:
    """The k largest eigenvalues of each batch's Hessian, and the mean of the positive ones.

    The largest are the algebraic ones. A power iteration as PyHessian's takes those largest in
    modulus, which differ where a negative eigenvalue is larger than the k-th positive one.

    Args:
        model: At the weights to be measured.
        inputs: The batches one after the other, shape (num_batches * batch_size, ...).
        labels: Shape (num_batches * batch_size,).
        batch_size: Examples of a batch.
        k: Eigenvalues of each.
        tolerance: See :func:`~samsweep.sharpness.top_eigenvalues`, also for the others.
        max_hvps: For each batch.
        seed: Of the starting vectors.
        physical_batch_size: Examples per micro-batch; changes memory and speed, not the value.
        loss_fn: Mean loss over examples of (outputs, labels).

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If a loss or a product is not finite.
    """
    started = time.perf_counter()
    batches = tuple(
        top_eigenvalues(
            model,
            x,
            y,
            k=k,
            tolerance=tolerance,
            max_hvps=max_hvps,
            seed=seed,
            physical_batch_size=physical_batch_size,
            loss_fn=loss_fn,
        )
        for x, y in zip(
            torch.split(inputs, batch_size), torch.split(labels, batch_size), strict=True
        )
    )
    positive = [[value for value in batch.values if value > 0] for batch in batches]
    every = [value for values in positive for value in values]
    return EmpiricalSam(
        value=fmean(every) if every else 0.0,
        standard_error=_of_pooled_mean(positive),
        batches=batches,
        seconds=time.perf_counter() - started,
    )


def _of_pooled_mean(batches: Sequence[Sequence[float]]) -> float | None:
    """Standard error of the mean of all numbers, over batches with a different number of them.

    That of a ratio of sums (Cochran 1977, section 2.11); None for fewer than two batches.
    """
    count = sum(map(len, batches))
    if count == 0:
        return None
    mean = sum(map(sum, batches)) / count
    one = standard_error([sum(values) - mean * len(values) for values in batches])
    return None if one is None else one * len(batches) / count
