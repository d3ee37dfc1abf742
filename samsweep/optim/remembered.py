"""A tensor for each parameter that lasts from step to step, and goes into checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samsweep.numerics.vectors import Vector


class Remembered:
    """Tensors by the parameters they belong to; a parameter may be without."""

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._kept)

    def of(self, params: Vector) -> list[Tensor]:
        """Those of these parameters; zeros of a parameter that is without."""
        return [self._kept[id(p)] if self.has(p) else torch.zeros_like(p) for p in params]

    def has(self, param: Tensor) -> bool:
        """Whether there is one of this parameter."""
        return id(param) in self._kept

    def keep(self, params: Vector, values: Vector) -> None:
        """Take these in place of what there was; they are not copied."""
        self._kept.update((id(p), x.detach()) for p, x in zip(params, values, strict=True))

    def state_dict(self, params: Vector) -> list[Tensor | None]:
        """In the order of all parameters; None for one that is without."""
        return [self._kept.get(id(p)) for p in params]

    def load_state_dict(self, state: list[Any], params: Vector) -> None:
        """Take up what :meth:`state_dict` gave."""
        pairs = zip(params, state, strict=True)
        self._kept = {id(p): x.to(p.device).clone() for p, x in pairs if x is not None}
