"""What measures give beside their values, and the arguments that they have in common."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result", bound="DataclassInstance")

#: Relative error that rounding of the loss may make before a value is said not to have converged.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Where something was measured, and how long that took.

    Args:
        loss: Mean loss over the examples.
        loss_rounding: What its rounding amounts to, relative to the value.
        seconds: Wall time.
    """

    loss: float
    loss_rounding: float
    seconds: float = math.nan

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


def standard_error(samples: Sequence[float]) -> float | None:
    """Of the mean of independent samples; None for fewer than two."""
    if len(samples) < 2:
        return None
    return statistics.stdev(samples) / math.sqrt(len(samples))


def timed(measure: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Have a measure's result say how many ``seconds`` it took."""

    @wraps(measure)
    def measured(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        started = time.perf_counter()
        found = measure(*args, **kwargs)
        return replace(found, seconds=time.perf_counter() - started)

    return measured


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
