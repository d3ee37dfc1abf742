"""The learning rate, a function of where training stands and of nothing else."""

from __future__ import annotations

import math

from samsweep.config import RecipeConfig


def learning_rate(recipe: RecipeConfig, *, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Learning rate of the step after so many complete epochs and complete steps of this one.

    Cosine annealing from ``recipe.lr`` to 0 without restarts (Loshchilov & Hutter 2017,
    arXiv 1608.03983, equation 5), moved on per step or per epoch.
    """
    if recipe.lr_schedule == "constant":
        return recipe.lr
    done = epoch + (step / steps_per_epoch if recipe.lr_schedule == "cosine_per_step" else 0.0)
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * done / recipe.epochs))
