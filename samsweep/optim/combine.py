"""Direction of one gradient, magnitude of another: the 2×2 design in one function.

SGD is (sgd, sgd), SAM (sam, sam), SAMDIRECTION (direction sam, magnitude sgd) and SAMMAGNITUDE
(direction sgd, magnitude sam). What direction and magnitude mean is the granularity.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from samsweep.config import ConfigError, Granularity, Source, unknown_name
from samsweep.numerics.vectors import Vector, norm, norms

_SOURCES = get_args(Source)
_GRANULARITIES = get_args(Granularity)


def combine(
    g: Vector,
    h: Vector,
    *,
    direction: Source,
    magnitude: Source,
    granularity: Granularity = "element",
) -> Vector:
    """Mix two gradients, g at w and h at w + epsilon.

    With a the direction's and b the magnitude's source (``sgd``: g, ``sam``: h):

    * element: sign(a) · abs(b), entry by entry;
    * tensor: a · ‖b_t‖ / ‖a_t‖ for each tensor t;
    * global: a · ‖b‖ / ‖a‖ over all tensors together.

    Where a is zero the result is zero. Where a and b agree in magnitude the result is a, bit for
    bit, since ratios are formed first and are then exactly 1. All have the same shapes.

    Raises:
        ConfigError: If a source or the granularity is unknown.

    >>> g, h = [torch.tensor([3.0, -4.0])], [torch.tensor([-6.0, -8.0])]
    >>> combine(g, h, direction="sam", magnitude="sgd", granularity="element")
    (tensor([-3., -4.]),)
    >>> combine(g, h, direction="sam", magnitude="sgd", granularity="global")
    (tensor([-3., -4.]),)
    """
    check_rule(direction, magnitude, granularity)
    a = g if direction == "sgd" else h
    b = g if magnitude == "sgd" else h
    if direction == magnitude:
        return a
    if granularity == "element":
        update = torch._foreach_sign(a)
        torch._foreach_mul_(update, torch._foreach_abs(b))
        return update
    if granularity == "tensor":
        return torch._foreach_mul(a, _ratio(norms(b), norms(a)).unbind())
    return torch._foreach_mul(a, _ratio(norm(b), norm(a)))


def check_rule(direction: str, magnitude: str, granularity: str) -> None:
    """Raise a ConfigError for a name of :func:`combine` that means nothing."""
    for source in (direction, magnitude):
        if source not in _SOURCES:
            raise ConfigError(unknown_name("source", source, _SOURCES))
    if granularity not in _GRANULARITIES:
        raise ConfigError(unknown_name("granularity", granularity, _GRANULARITIES))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Numerator / denominator, and 0 where the denominator is: its vector is zero anyway.

    Never by adding a small number to the denominator, which would break a ratio of exactly 1.
    """
    safe = torch.where(denominator > 0, denominator, 1)
    return torch.where(denominator > 0, numerator / safe, 0)
