"""Small networks for data that are no images, made by their path."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp(*, in_features: int, num_outputs: int, width: int = 8) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(in_features, width), nn.Tanh(), nn.Linear(width, num_outputs)
    )


def cnn(*, in_channels: int, num_classes: int) -> nn.Module:
    """A convolution with batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, num_classes),
    )


class Transformer(nn.Module):
    """One layer of self-attention over token ids, and the mean over positions."""

    def __init__(self, *, num_tokens: int, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        width = 4
        self.tokens = nn.Embedding(num_tokens, width)
        self.positions = nn.Parameter(0.1 * torch.randn(input_shape[0], width))
        self.layer = nn.TransformerEncoderLayer(
            width, nhead=2, dim_feedforward=8, dropout=0.1, activation="gelu", batch_first=True
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits, shape (B, num_classes), of ids of shape (B, L)."""
        out: Tensor = self.head(self.layer(self.tokens(ids) + self.positions).mean(dim=1))
        return out
