"""Wrong training labels on purpose: they make a small data set hard enough for a comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from samsweep.numerics.seeding import generator

#: The noise is part of the data set, not of a cell: every seed trains on the same labels.
NOISE_SEED = 0


def redraw_labels(labels: Tensor, *, num_classes: int, probability: float) -> Tensor:
    """Each label redrawn uniformly over all classes with a probability.

    The old class can be drawn again, so a share of probability * (1 - 1 / num_classes) ends up
    wrong. A larger probability redraws the same labels and more, to the same new classes.

    Args:
        labels: int64 on the CPU, shape (N,).
        num_classes: Number of classes.
        probability: Between 0 and 1.

    Returns:
        New labels, int64, shape (N,).
    """
    draws = generator(NOISE_SEED, "label_noise")
    redrawn = torch.rand(len(labels), generator=draws) < probability
    drawn = torch.randint(num_classes, (len(labels),), generator=draws)
    return torch.where(redrawn, drawn, labels)
