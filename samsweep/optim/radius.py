"""The radius over a training, as a factor of the configured one.

Each takes a :class:`~samsweep.optim.TrainingStep` and ``end``, the factor that training would end
with, and returns a factor.
"""

from __future__ import annotations

import math

from samsweep.optim.training_step import TrainingStep


def constant(now: TrainingStep) -> float:
    """The radius as it is."""
    return 1.0


def with_lr(now: TrainingStep, end: float = 0.0) -> float:
    """Linear in the learning rate: ``end`` where that is 0, 1 at its peak.

    GSAM (Zhuang et al. 2022, arXiv 2203.08065) with a smallest learning rate of 0.
    """
    return end + (1 - end) * now.lr_share


def cosine(now: TrainingStep, end: float = 0.0) -> float:
    """Half a cosine from 1 to ``end``."""
    return end + (1 - end) * (1 + math.cos(math.pi * now.progress)) / 2


def linear(now: TrainingStep, end: float = 0.0) -> float:
    """A line from 1 to ``end``; an ``end`` above 1 grows."""
    return 1 + (end - 1) * now.progress
