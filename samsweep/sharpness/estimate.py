"""A number that was estimated from samples, with what it cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Relative error that rounding of the loss may make before a value is said not to have converged.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over samples.

    Args:
        value: The estimate.
        standard_error: Of the value; None where there is but one sample.
        num_samples: Random draws, or batches, that were averaged.
        num_hvps: Hessian-vector products over all examples.
        num_gradients: Gradients over all examples.
        num_forwards: Forward passes over all examples, beside those of gradients.
        loss: Mean loss over the examples.
        loss_rounding: What its rounding amounts to, relative to the value.
        seconds: Wall time.
    """

    value: float
    standard_error: float | None
    num_samples: int
    num_hvps: int = 0
    num_gradients: int = 0
    num_forwards: int = 0
    loss: float
    loss_rounding: float
    seconds: float

    @property
    def converged(self) -> bool:
        """Whether the loss rounds by no more than :data:`TOLERANCE`."""
        return self.loss_rounding <= TOLERANCE


def standard_error(samples: Sequence[float]) -> float | None:
    """Of the mean of independent samples; None for fewer than two."""
    if len(samples) < 2:
        return None
    return statistics.stdev(samples) / math.sqrt(len(samples))
