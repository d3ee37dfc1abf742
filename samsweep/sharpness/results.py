"""What measures give beside their values, and the arguments that they have in common."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Relative error that rounding of the loss may make before a value is said not to have converged.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Where something was measured, and how long that took.

    Args:
        loss: Mean loss over the examples.
        loss_rounding: What its rounding amounts to, relative to the value.
        seconds: Wall time.
        settings: The arguments but model and examples.
    """

    loss: float
    loss_rounding: float
    seconds: float = math.nan
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """Whether the loss rounds by no more than :data:`TOLERANCE`."""
        return self.loss_rounding <= TOLERANCE


@dataclass(frozen=True, kw_only=True)
class Estimate(Measured):
    """A mean over samples.

    Args:
        value: The estimate.
        standard_error: Of the value; None where there is but one sample.
        num_samples: Random draws, or batches, that were averaged.
        num_hvps: Hessian-vector products over all examples.
        num_gradients: Gradients over all examples.
        num_forwards: Forward passes over all examples, beside those of gradients.
    """

    value: float
    standard_error: float | None
    num_samples: int
    num_hvps: int = 0
    num_gradients: int = 0
    num_forwards: int = 0

    def __str__(self) -> str:
        """In one line, for people."""
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2g}"
        counts = {
            "Hessian-vector products": self.num_hvps,
            "gradients": self.num_gradients,
            "forward passes": self.num_forwards,
        }
        costs = [f"{number} {name}" for name, number in counts.items() if number]
        return f"{self.value:.6g}{error} ({told(self, *costs)})"


def told(found: Any, *costs: str) -> str:
    """What stands in brackets behind a measured value: costs, loss, time, and what is wrong."""
    parts = [*costs, f"mean loss {found.loss:.4g}", f"{found.seconds:.2g} s"]
    return ", ".join(parts if found.converged else [*parts, "not converged"])


def standard_error(samples: Sequence[float]) -> float | None:
    """Of the mean of independent samples; None for fewer than two."""
    if len(samples) < 2:
        return None
    return statistics.stdev(samples) / math.sqrt(len(samples))


def check_positive(**numbers: float) -> None:
    """Refuse what is not above zero, by the names of the arguments.

    Raises:
        ValueError: For the first of them.
    """
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: choose a number above 0")


def check_samples(num_samples: int) -> None:
    """Refuse fewer random draws than a standard error needs.

    Raises:
        ValueError: For fewer than two.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples={num_samples}: choose at least 2, for a standard error")
