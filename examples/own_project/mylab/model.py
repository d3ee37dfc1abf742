"""A small network for tables of numbers."""

from torch import Tensor, nn


class TabularNet(nn.Module):
    """Fully connected layers with dropout.

    Args:
        in_features: Numbers of an example; samsweep fills it in from the data.
        num_classes: Classes, likewise.
        width: Units of the hidden layers.
        dropout: Probability of dropping a unit.
    """

    def __init__(
        self, *, in_features: int, num_classes: int, width: int = 32, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of examples (N, in_features)."""
        logits: Tensor = self.layers(x)
        return logits
