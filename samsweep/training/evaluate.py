"""Metric and loss on examples without random changes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from samsweep.data.splits import Split, SplitData
from samsweep.training.task import Task

#: Numbers of one forward pass's inputs, of one channel: 1,024 images of 32×32.
_BATCH_PIXELS = 2**20


class Score(NamedTuple):
    """What a network reaches on a split.

    Args:
        accuracy: The task's metric; accuracy in percent.
        loss: Mean loss; cross-entropy in nats.
    """

    accuracy: float
    loss: float


@torch.no_grad()
def evaluate(model: nn.Module, data: SplitData, split: Split, task: Task) -> Score:
    """Metric and loss in eval mode, without autocast; the model's mode is left as it was.

    Args:
        model: A network on the data's device.
        data: Where the normalisation comes from.
        split: The examples, on the model's device.
        task: Loss and metric.
    """
    was_training = model.training
    model.eval()
    outputs = []
    loss = torch.zeros((), dtype=torch.float64, device=split.labels.device)
    per_example = split.inputs[0].numel()
    per_channel = per_example // split.inputs.shape[1] if split.inputs.ndim == 4 else per_example
    batch_size = max(1, _BATCH_PIXELS // per_channel)
    for indices in torch.split(torch.arange(len(split)), batch_size):
        inputs, labels = split.batch(indices)
        outputs.append(model(data.normalize(inputs)))
        loss += task.summed_loss(outputs[-1], labels)
    model.train(was_training)
    score = task.metric(torch.cat(outputs), split.labels)
    return Score(score.item(), loss.item() / len(split))
