"""A vector between the gradient and SAM's."""

from collections.abc import Sequence

import torch
from torch import Tensor


def blend(g: Sequence[Tensor], h: Sequence[Tensor], alpha: float = 0.5) -> Sequence[Tensor]:
    """(1 - alpha) g + alpha h: the gradient for alpha = 0, SAM's for alpha = 1.

    Args:
        g: Gradient at w.
        h: Gradient at w + epsilon.
        alpha: Weight of h.
    """
    return torch._foreach_lerp(g, h, alpha)
