"""Accuracy and loss on un-augmented images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from samsweep.data.images import ImageData, Split

#: Pixels of one forward pass: 1,024 images of 32×32.
_BATCH_PIXELS = 2**20


class Score(NamedTuple):
    """What a network reaches on a split.

    Args:
        accuracy: In percent.
        loss: Mean cross-entropy, in nats.
    """

    accuracy: float
    loss: float


@torch.no_grad()
def evaluate(model: nn.Module, data: ImageData, split: Split) -> Score:
    """Accuracy and loss on a split of the data, in eval mode, without autocast.

    Model, data and split are on one device; the model's mode is left as it was.
    """
    was_training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    loss = torch.zeros((), dtype=torch.float64, device=split.labels.device)
    batch_size = max(1, _BATCH_PIXELS // split.images[0, 0].numel())
    for indices in torch.split(torch.arange(len(split)), batch_size):
        images, labels = split.batch(indices)
        logits = model(data.normalize(images))
        correct += (logits.argmax(dim=1) == labels).sum()
        loss += F.cross_entropy(logits, labels, reduction="sum")
    model.train(was_training)
    return Score(100.0 * correct.item() / len(split), loss.item() / len(split))
