"""The learning rate, a function of where training stands and of nothing else.

A schedule gives a factor from ``epoch``, the epochs done (in fractions if it moves at each step),
and ``epochs``, all there are.
"""

from __future__ import annotations

import math

from samsweep.config import SCHEDULES, RecipeConfig
from samsweep.config.factory import prepared


class LearningRate:
    """Of each step of a training: warm-up from 0, linear, then the schedule over what is left.

    Args:
        recipe: Peak, schedule and number of epochs.
        steps_per_epoch: Steps of one epoch.

    Raises:
        ConfigError: If the schedule does not take its arguments.
    """

    def __init__(self, recipe: RecipeConfig, *, steps_per_epoch: int) -> None:
        schedule = SCHEDULES.find(recipe.lr_schedule)
        self._peak = recipe.lr
        self._steps_per_epoch = steps_per_epoch
        self._warmup = recipe.warmup_epochs or 0.0
        self._epochs = recipe.epochs - self._warmup
        self._per_step = schedule.per_step
        self._factor = prepared(
            f"lr_schedule={recipe.lr_schedule}",
            schedule.factory,
            schedule.with_args(recipe.lr_schedule_args),
            beside=("epoch", "epochs"),
        )

    def at(self, *, epoch: int, step: int) -> float:
        """The learning rate of one step.

        Args:
            epoch: Complete epochs.
            step: Complete steps of this epoch.
        """
        fine = epoch + step / self._steps_per_epoch
        if fine < self._warmup:
            # The last step reaches the peak, also where warm-up ends between two steps.
            return self._peak * min(1.0, (fine + 1 / self._steps_per_epoch) / self._warmup)
        done = max(0.0, (fine if self._per_step else epoch) - self._warmup)
        return self._peak * float(self._factor(epoch=done, epochs=self._epochs))


def cosine(*, epoch: float, epochs: float) -> float:
    """From 1 to 0 without restarts (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5).

    >>> cosine(epoch=0, epochs=10), round(cosine(epoch=5, epochs=10), 12)
    (1.0, 0.5)
    """
    return 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))


def constant() -> float:
    """1 throughout."""
    return 1.0


def linear(*, epoch: float, epochs: float, end: float = 0.0) -> float:
    """From 1 to ``end``.

    >>> linear(epoch=5, epochs=10)
    0.5
    """
    return 1.0 + (end - 1.0) * epoch / epochs


def step(
    *, epoch: float, epochs: float, at: tuple[float, ...] = (0.5, 0.75), gamma: float = 0.1
) -> float:
    """Times ``gamma`` at each of some moments, by default those of He et al. 2016.

    Args:
        epoch: Epochs done.
        epochs: All there are.
        at: Moments, as shares of all epochs.
        gamma: Factor at each.

    >>> step(epoch=5, epochs=10), step(epoch=4, epochs=10)
    (0.1, 1.0)
    """
    # As a quotient: 0.55 * 100 is more than 55.
    return gamma ** sum(epoch / epochs >= share for share in at)
