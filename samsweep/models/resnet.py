"""ResNets of torchvision's blocks with a CIFAR stem: 3×3, stride 1, no max-pool.

He et al. 2016 (arXiv 1512.03385), section 4.2 for the CIFAR stem and the three-stage networks.
Shortcuts that change shape are 1×1 convolutions (the paper's option B), as in torchvision and in
the study's code. Weights start as torch draws them, as in the study's code: torchvision's own He
initialisation starts from a longer weight vector, and batch norm turns that into smaller steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck


class ResNet(nn.Module):
    """A residual network for small images.

    Args:
        block: Residual block, torchvision's ``BasicBlock`` or ``Bottleneck``.
        depths: Number of blocks of each stage.
        widths: Channels of each stage before the block's expansion.
        in_channels: Channels of an image.
        num_classes: Outputs.
    """

    def __init__(
        self,
        *,
        block: Literal["basic", "bottleneck"],
        depths: Sequence[int],
        widths: Sequence[int],
        in_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        kind = BasicBlock if block == "basic" else Bottleneck
        stem, channels = widths[0], widths[0]
        self.conv1 = nn.Conv2d(in_channels, stem, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.stages = nn.Sequential()
        for index, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            self.stages.append(
                _stage(kind, channels, width, depth=depth, stride=1 if index == 0 else 2)
            )
            channels = width * kind.expansion
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes) of images (N, in_channels, H, W)."""
        features = self.stages(self.relu(self.bn1(self.conv1(images))))
        logits: Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits


def _stage(
    block: type[BasicBlock | Bottleneck], channels: int, width: int, *, depth: int, stride: int
) -> nn.Sequential:
    """``depth`` blocks; the first one changes resolution and number of channels."""
    out_channels = width * block.expansion
    shortcut = None
    if stride != 1 or channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(channels, out_channels, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(out_channels),
        )
    first = block(channels, width, stride, shortcut)
    return nn.Sequential(first, *(block(out_channels, width) for _ in range(depth - 1)))
