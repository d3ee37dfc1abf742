"""From g and h to the vector for the base optimizer.

:func:`combine` is the 2×2 design, the direction of one gradient with the magnitude of another. SGD
is (sgd, sgd), SAM (sam, sam), SAMDIRECTION (direction sam, magnitude sgd) and SAMMAGNITUDE
(direction sgd, magnitude sam). What direction and magnitude mean is the granularity. The others are
published rules of their own.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from samsweep.config import ConfigError, Granularity, Source, unknown_name
from samsweep.numerics.vectors import Vector, dot, norm, norms

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


def gsam(g: Vector, h: Vector, *, alpha: float = 0.4) -> Vector:
    """H - alpha · g⊥, with g⊥ the part of g that is orthogonal to h.

    GSAM (Zhuang et al. 2022, arXiv 2203.08065); 0 is SAM.
    """
    along = _ratio(dot(g, h), dot(h, h))
    orthogonal = torch._foreach_sub(g, torch._foreach_mul(h, along))
    return torch._foreach_add(h, orthogonal, alpha=-alpha)


def wsam(g: Vector, h: Vector, *, gamma: float = 0.9) -> Vector:
    """G + gamma / (1 - gamma) · (h - g).

    WSAM (Yue et al. 2023, arXiv 2305.15817), whose gradient goes through the base
    optimizer as a whole; the authors' decoupled form keeps h - g out of its momentum. 0 is SGD, 1/2
    is SAM but for the rounding of g + (h - g).

    Raises:
        ValueError: If gamma is outside [0, 1).
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma={gamma}: choose at least 0 and less than 1")
    return torch._foreach_add(g, torch._foreach_sub(h, g), alpha=gamma / (1 - gamma))


def saner(g: Vector, h: Vector, *, alpha: float = 0.5) -> Vector:
    """H, but alpha · h where 0 < h / g < 1: elements that SAM makes smaller become smaller still.

    SANER (Luong et al. 2024, arXiv 2411.17132). As in the authors' code 1 is SAM and 0 drops those
    elements; the formula that they give beside it, (1 - alpha) · h, counts the other way, and is
    the same at their 1/2. They warm alpha up over 50 epochs, from 1, and divide by g + 1e-8; here
    alpha is constant and nothing is divided.
    """
    return [_shrunk(x, y, alpha) for x, y in zip(g, h, strict=True)]


def _shrunk(g: Tensor, h: Tensor, alpha: float) -> Tensor:
    smaller = (g.sign() * h.sign() > 0) & (h.abs() < g.abs())
    return torch.where(smaller, alpha * h, h)


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
