"""Pre-activation wide ResNets without dropout.

Zagoruyko & Komodakis 2016 (arXiv 1605.07146), section 2 and table 1. Convolutions start as in
their code and the study's: He et al. 2015 (arXiv 1502.01852), by fan-in. One deviation: batch
norm's scale starts at 1; the study's code draws it from [0, 1).
"""

from __future__ import annotations

from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """Two times batch norm, ReLU, 3×3 convolution, added to a shortcut.

    A shortcut that changes shape is a 1×1 convolution of the activated input.
    """

    def __init__(self, channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(
            channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = (
            nn.Conv2d(channels, out_channels, kernel_size=1, stride=stride, bias=False)
            if stride != 1 or channels != out_channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of the block's output width."""
        activated = self.relu(self.bn1(x))
        residual: Tensor = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """A wide residual network for small images.

    Args:
        depth: Number of convolutions, 6n + 4.
        widen_factor: Multiple of the widths 16, 32, 64.
        in_channels: Channels of an image.
        num_classes: Outputs.
    """

    def __init__(
        self, *, depth: int, widen_factor: int, in_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        num_blocks, channels = (depth - 4) // 6, 16
        self.conv1 = nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False)
        self.stages = nn.Sequential()
        for index, width in enumerate((16, 32, 64)):
            width *= widen_factor
            first = PreActivationBlock(channels, width, stride=1 if index == 0 else 2)
            rest = (PreActivationBlock(width, width, stride=1) for _ in range(num_blocks - 1))
            self.stages.append(nn.Sequential(first, *rest))
            channels = width
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(channels, num_classes)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_channels, H, W)."""
        features = self.relu(self.bn(self.stages(self.conv1(images))))
        logits: Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
