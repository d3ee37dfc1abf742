"""Networks for small images, by the names of :data:`samsweep.config.MODELS`.

* :mod:`samsweep.models.resnet`: ResNets of torchvision's blocks with a CIFAR stem.
* :mod:`samsweep.models.wide_resnet`: pre-activation wide ResNets.
* :mod:`samsweep.models.conv`: what makes either quick on very small images.
"""

from __future__ import annotations

from torch import nn

from samsweep.config import MODELS, ConfigError, ResNetSpec, WideResNetSpec, unknown_name
from samsweep.models.conv import use_dense_convolutions


def build_model(name: str, *, in_channels: int, num_classes: int) -> nn.Module:
    """A freshly initialised network; draws from torch's global CPU generator.

    Args:
        name: A key of :data:`samsweep.config.MODELS`.
        in_channels: Channels of an image.
        num_classes: Outputs.

    Returns:
        A module from images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ConfigError: If no model has that name.
    """
    if name not in MODELS:
        raise ConfigError(unknown_name("model", name, MODELS))
    network = _network(MODELS[name], in_channels=in_channels, num_classes=num_classes)
    use_dense_convolutions(network)
    return network


def _network(spec: ResNetSpec | WideResNetSpec, *, in_channels: int, num_classes: int) -> nn.Module:
    # Late, since torchvision takes a second to import.
    if isinstance(spec, ResNetSpec):
        from samsweep.models.resnet import ResNet

        return ResNet(spec, in_channels=in_channels, num_classes=num_classes)
    from samsweep.models.wide_resnet import WideResNet

    return WideResNet(spec, in_channels=in_channels, num_classes=num_classes)


__all__ = ["build_model"]
