"""Layers that keep count, and two passes over one mini-batch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class frozen_statistics(AbstractContextManager[None]):  # noqa: N801 - used like a verb
    """Inside the block layers compute as before; what they keep count of outlives it unmoved.

    Given to an optimizer as ``second_pass``, so that every buffer of the network moves once per
    step: running statistics of batch norm and of others, the vectors of spectral norm, codebooks.
    It can be entered any number of times, one after the other.

    Buffers are put back, not kept from moving: layers in another mode would be another graph to a
    compiler. Those that nothing has moved are left alone.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._held: list[_Held] = []
        #: Buffers that stayed when they were last looked at, and their versions then.
        self._still: dict[tuple[int, str], tuple[int, int]] = {}

    def __enter__(self) -> None:
        """Remember the buffers."""
        self._held = [
            _Held(module, name, buffer, buffer._version, buffer.clone())
            for module in self._modules
            for name, buffer in module.named_buffers(recurse=False)
            if _counts(module)
            or self._still.get((id(module), name)) != (id(buffer), buffer._version)
        ]

    def __exit__(self, *exc_info: object) -> None:
        """Put them back, also where a layer has another in their place."""
        moved = [held for held in self._held if held.has_moved]
        for held in moved:
            if getattr(held.module, held.name) is not held.buffer:
                setattr(held.module, held.name, held.buffer)
        if moved:
            with torch.no_grad():
                torch._foreach_copy_([x.buffer for x in moved], [x.value for x in moved])
        for held in self._held:
            if held not in moved:
                self._still[id(held.module), held.name] = (id(held.buffer), held.version)
        self._held = []


@dataclass(frozen=True, eq=False)
class _Held:
    """A buffer, and what it was when the block began."""

    module: nn.Module
    name: str
    buffer: Tensor
    version: int
    value: Tensor

    @property
    def has_moved(self) -> bool:
        """Whether it may have."""
        if _counts(self.module):
            return True
        exchanged = getattr(self.module, self.name) is not self.buffer
        return exchanged or self.buffer._version != self.version


def _counts(module: nn.Module) -> bool:
    """Whether a layer moves its buffers, also where it is compiled, which no version tells of."""
    return isinstance(module, _NormBase) and module.training
