"""What networks are scored by: numbers from the outputs and labels of a split, 0-d."""

from __future__ import annotations

import torch
from torch import Tensor


def accuracy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of examples whose largest output is the label's, in percent.

    Args:
        outputs: Shape (N, C).
        labels: Classes of shape (N,).
    """
    return 100.0 * num_correct(outputs, labels).double() / len(outputs)


def num_correct(outputs: Tensor, labels: Tensor) -> Tensor:
    """Number of examples whose largest output is the label's, int64."""
    return (outputs.argmax(dim=1) == labels).sum()


def r2(outputs: Tensor, labels: Tensor) -> Tensor:
    """Share of the labels' variance that is explained, at most 1; shapes (N, ...)."""
    outputs, labels = outputs.double(), labels.double()
    spread = (labels - labels.mean(dim=0)).square().sum()
    return 1.0 - (outputs - labels).square().sum() / spread.clamp(min=torch.finfo().tiny)


def mae(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean absolute error; shapes (N, ...)."""
    return (outputs.double() - labels.double()).abs().mean()
