"""The learning rate, a function of where training stands and of nothing else.

A schedule gives a factor from ``epoch``, the epochs done (in fractions if it moves at each step),
and ``epochs``, all there are.
"""

from __future__ import annotations

import math

from samsweep.config import SCHEDULES, RecipeConfig
from samsweep.config.factory import make


def learning_rate(recipe: RecipeConfig, *, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Learning rate of one step: warm-up from 0, linear, then the schedule over what is left.

    Args:
        recipe: Peak, schedule and number of epochs.
        epoch: Complete epochs.
        step: Complete steps of this epoch.
        steps_per_epoch: Steps of one epoch.
    """
    schedule = SCHEDULES.find(recipe.lr_schedule)
    warmup = recipe.warmup_epochs or 0.0
    fine = epoch + step / steps_per_epoch
    if fine < warmup:
        # The last step reaches the peak, also where warm-up ends between two steps.
        return recipe.lr * min(1.0, (fine + 1 / steps_per_epoch) / warmup)
    done = max(0.0, (fine if schedule.per_step else epoch) - warmup)
    where = {"epoch": done, "epochs": recipe.epochs - warmup}
    args = schedule.with_args(recipe.lr_schedule_args)
    factor = make(f"lr_schedule={recipe.lr_schedule}", schedule.factory, args, **where)
    return recipe.lr * float(factor)


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
