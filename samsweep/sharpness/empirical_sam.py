"""The sharpness of the study that samsweep reproduces (Luong 2024), as far as it is known.

Eigenvalues of the Hessians of single batches of augmented training images, BatchNorm in eval mode,
at the weights of best validation accuracy; the mean of those that are positive. A batch's Hessian
is not that of the whole training set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Unpack

from torch import Tensor
from torch.nn import Module

from samsweep.sharpness.eigenvalues import Eigenvalues, Search, top_eigenvalues
from samsweep.sharpness.entry import measure_of_examples
from samsweep.sharpness.examples import Inputs, collected, number_of, some_of
from samsweep.sharpness.results import standard_error


@dataclass(frozen=True, kw_only=True)
class EmpiricalSam:
    """The mean positive eigenvalue of batches.

    Args:
        value: Mean of the positive eigenvalues of all batches; 0 if there are none.
        standard_error: Of the value, over batches; None for a single one.
        batches: The eigenvalues of each.
        seconds: Wall time.
        settings: The arguments but model and examples.
    """

    value: float
    standard_error: float | None
    batches: tuple[Eigenvalues, ...]
    seconds: float = math.nan
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """In one line, for people."""
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2g}"
        products = sum(batch.num_hvps for batch in self.batches)
        return (
            f"{self.value:.6g}{error} (batches: {len(self.batches)}, "
            f"{products} Hessian-vector products, {self.seconds:.2g} s)"
        )


@measure_of_examples
def empirical_sam(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    batch_size: int = 256,
    k: int = 5,
    **search: Unpack[Search],
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
        search: For each batch, see :func:`~samsweep.sharpness.top_eigenvalues`, also for errors.
    """
    inputs, labels = collected(inputs, labels)
    starts = range(0, number_of(inputs), batch_size)
    parts = (slice(start, start + batch_size) for start in starts)
    batches = tuple(
        top_eigenvalues(model, some_of(inputs, part), labels[part], k=k, **search) for part in parts
    )
    positive = [[value for value in batch.values if value > 0] for batch in batches]
    every = [value for values in positive for value in values]
    return EmpiricalSam(
        value=fmean(every) if every else 0.0,
        standard_error=_of_pooled_mean(positive),
        batches=batches,
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
