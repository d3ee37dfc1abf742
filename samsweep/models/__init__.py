"""Networks for small images, by the names of :data:`samsweep.config.MODELS`.

* :mod:`samsweep.models.resnet`: ResNets of torchvision's blocks with a CIFAR stem.
* :mod:`samsweep.models.wide_resnet`: pre-activation wide ResNets.
"""

from __future__ import annotations

from torch import nn

from samsweep.config import MODELS, ConfigError, ResNetSpec, unknown_name


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
    spec = MODELS[name]
    if isinstance(spec, ResNetSpec):
        from samsweep.models.resnet import ResNet

        return ResNet(spec, in_channels=in_channels, num_classes=num_classes)
    from samsweep.models.wide_resnet import WideResNet

    return WideResNet(spec, in_channels=in_channels, num_classes=num_classes)


__all__ = ["build_model"]
