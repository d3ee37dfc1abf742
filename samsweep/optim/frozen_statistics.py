"""Layers that keep count, and two passes over one mini-batch."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn


class frozen_statistics(AbstractContextManager[None]):  # noqa: N801 - used like a verb
    """Inside the block layers compute as before; what they keep count of outlives it unmoved.

    Given to an optimizer as ``second_pass``, so that every buffer of the network moves once per
    step: running statistics of batch norm and of others, the vectors of spectral norm, codebooks.
    It can be entered any number of times, one after the other.

    Buffers are put back, not kept from moving: layers in another mode would be another graph to a
    compiler.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._before: list[tuple[nn.Module, str, Tensor, Tensor]] = []

    def __enter__(self) -> None:
        """Remember the buffers."""
        self._before = [
            (module, name, buffer, buffer.clone())
            for module in self._modules
            for name, buffer in module.named_buffers(recurse=False)
        ]

    def __exit__(self, *exc_info: object) -> None:
        """Put them back, also where a layer has another in their place."""
        for module, name, buffer, _ in self._before:
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)
        if self._before:
            _, _, buffers, values = zip(*self._before, strict=True)
            with torch.no_grad():
                torch._foreach_copy_(buffers, values)
        self._before = []
