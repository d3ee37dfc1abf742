"""Initialisation shared by all networks."""

from __future__ import annotations

from torch import nn


def initialize(network: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852) for convolutions, by fan-out, as torchvision does.

    Batch norm starts at scale 1 and shift 0 and linear layers at torch's default, both as built.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
