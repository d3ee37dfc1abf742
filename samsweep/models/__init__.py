"""Networks for small images, by the names of :data:`samsweep.config.MODELS`.

* :mod:`samsweep.models.resnet`: ResNets of torchvision's blocks with a CIFAR stem.
* :mod:`samsweep.models.wide_resnet`: pre-activation wide ResNets.
* :mod:`samsweep.models.conv`: what makes either quick on very small images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from samsweep.config import MODELS, ConfigError
from samsweep.config.factory import make, name_of, takes_any
from samsweep.models.conv import use_dense_convolutions


def build_model(
    name: str,
    *,
    factory: str | None = None,
    args: Mapping[str, Any] | None = None,
    **known: Any,
) -> nn.Module:
    """A freshly initialised network; draws from torch's global CPU generator.

    Args:
        name: A key of :data:`samsweep.config.MODELS`, or any name beside a factory.
        factory: Path of the callable that makes it.
        args: Its arguments.
        known: What only the data know, such as ``in_channels`` and ``num_classes``; passed on where
            the factory has a parameter of that name, ``num_classes`` also where it takes anything,
            and ``in_chans`` where timm's does.

    Returns:
        A module from inputs (N, ...) to outputs (N, num_classes).

    Raises:
        ConfigError: If no model has that name, its factory does not take these arguments, or what
            it returns is no module.
    """
    component = MODELS.find(name, factory)
    function = component.load()
    given = component.with_args(args)
    # torch's own initialiser takes anything, to refuse it.
    plain = getattr(function, "__init__", None) is nn.Module.__init__
    if takes_any(function) and not plain:
        is_timms = name_of(function).startswith("timm.")
        passed = ("num_classes", *(["in_chans"] if is_timms else []))
        given = {**{key: known[key] for key in passed if key in known}, **given}
    network = make(f"model={name}", function, given, **known)
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"model={name}: {name_of(function)} returns {type(network).__name__}, "
            "not a torch.nn.Module."
        )
    if component.ours:
        use_dense_convolutions(network)
    return network


__all__ = ["build_model"]
