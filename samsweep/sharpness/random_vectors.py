"""Random numbers, drawn on the CPU: the same on every device, for every size of micro-batch."""

from __future__ import annotations

import torch
from torch import Tensor

from samsweep.numerics.vectors import Vector


def rademacher(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent signs, +1 or -1 (Rademacher), of the type and device of ``like``."""
    return (2.0 * torch.randint(2, shape, generator=generator) - 1.0).to(like)


def normal(like: Vector, generator: torch.Generator) -> list[Tensor]:
    """Independent standard normal numbers, shaped like the tensors of a list."""
    return [torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device) for x in like]
