"""Batch norm and two passes over one mini-batch."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class frozen_batchnorm(AbstractContextManager[None]):  # noqa: N801 - used like a verb
    """Inside the block, batch norm normalises as before but leaves its running statistics alone.

    Given to an optimizer as ``second_pass``, so that running statistics move once per step. It
    can be entered any number of times, one after the other.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self._tracking: list[bool] = []

    def __enter__(self) -> None:
        """Stop the statistics."""
        self._tracking = [layer.track_running_stats for layer in self._layers]
        for layer in self._layers:
            # In eval mode the statistics do not move, and are needed.
            if layer.training:
                layer.track_running_stats = False

    def __exit__(self, *exc_info: object) -> None:
        """Let the statistics move again."""
        for layer, tracking in zip(self._layers, self._tracking, strict=True):
            layer.track_running_stats = tracking
