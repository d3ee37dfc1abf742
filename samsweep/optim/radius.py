"""The radius over a training, as a factor of the configured one.

Each takes the :class:`~samsweep.optim.moment.Moment` of a step and ``end``, the factor that the
training would end with, and returns a factor.
"""

from __future__ import annotations

import math

from samsweep.optim.moment import Moment


def constant(moment: Moment) -> float:
    """The radius as it is."""
    return 1.0


def with_lr(moment: Moment, end: float = 0.0) -> float:
    """Linear in the learning rate: ``end`` where that is 0, 1 at its peak.

    GSAM (Zhuang et al. 2022, arXiv 2203.08065) with a smallest learning rate of 0.
    """
    return end + (1 - end) * moment.lr_share


def cosine(moment: Moment, end: float = 0.0) -> float:
    """Half a cosine from 1 to ``end``."""
    return end + (1 - end) * (1 + math.cos(math.pi * moment.progress)) / 2


def linear(moment: Moment, end: float = 0.0) -> float:
    """A line from 1 to ``end``; an ``end`` above 1 grows."""
    return 1 + (end - 1) * moment.progress
