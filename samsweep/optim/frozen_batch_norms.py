"""Batch norm and two passes over one mini-batch."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class frozen_batchnorm(AbstractContextManager[None]):  # noqa: N801 - used like a verb
    """Inside the block, batch norm normalises as before; its running statistics outlive it unmoved.

    Given to an optimizer as ``second_pass``, so that running statistics move once per step. It
    can be entered any number of times, one after the other.

    The statistics are put back, not kept from moving: layers in another mode would be another graph
    to a compiler.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self._before: list[Tensor] = []

    def __enter__(self) -> None:
        """Remember the statistics."""
        self._before = [b.clone() for b in self._statistics()]

    def __exit__(self, *exc_info: object) -> None:
        """Put them back."""
        if self._before:
            torch._foreach_copy_(self._statistics(), self._before)
        self._before = []

    def _statistics(self) -> list[Tensor]:
        return [b for layer in self._layers for b in layer.buffers()]
