"""A number of a trained network that samsweep does not have."""

import torch
from torch import nn


@torch.no_grad()
def weight_kurtosis(model: nn.Module) -> float:
    """Fourth moment of all weights over the squared second: 3 for a normal distribution."""
    weights = torch.cat([p.flatten().double() for p in model.parameters() if p.ndim > 1])
    centred = weights - weights.mean()
    return (centred.pow(4).mean() / centred.pow(2).mean().pow(2)).item()
