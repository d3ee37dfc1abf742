"""How g and h compare, from the two gradients that a SAM step has at hand.

The amplified share is the study's Experiment 3. Magnitudes are compared, never divided, since
elements of g may be zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from samsweep.numerics.vectors import Vector, dot, dots, norm, norms, numel
from samsweep.optim import StepResult


@torch.no_grad()
def diagnose(result: StepResult) -> dict[str, Tensor]:
    """Numbers of one step, 0-d but for ``layer_cosines``; those that do not apply are left out.

    * ``grad_norm``: ‖g‖; ``update_norm``: ‖d‖, d the vector handed to the base optimizer
    * ``amplified_share``: share of elements with abs(h) > abs(g), in [0, 1]
    * ``sign_agreement``: share of elements with g · h > 0, in [0, 1]
    * ``cosine``: of g and h; ``layer_cosines``: the same for each weight tensor of two or more
      dimensions, in the network's order
    * ``norm_ratio``: ‖h‖ / ‖g‖
    * ``sam_gap``: loss at w + epsilon minus loss at w
    * ``directional_curvature``: ĝᵀ (h − g) / rho, ĝ = g / ‖g‖
    * ``update_cosine_clean``, ``update_cosine_perturbed``: cosine of d with g and with h
    * ``update_norm_ratio``: ‖d‖ / ‖h‖
    """
    g, d, h = result.grad_clean, result.update, result.grad_perturbed
    g_norm, d_norm = norm(g), norm(d)
    numbers = {"grad_norm": g_norm, "update_norm": d_norm}
    if h is None or result.loss_perturbed is None:
        return numbers
    h_norm, g_dot_h = norm(h), dot(g, h)
    numbers |= {
        "amplified_share": _share([x.abs() > y.abs() for x, y in zip(h, g, strict=True)]),
        "sign_agreement": _share([x * y > 0 for x, y in zip(g, h, strict=True)]),
        "cosine": _quotient(g_dot_h, g_norm * h_norm),
        "norm_ratio": _quotient(h_norm, g_norm),
        "sam_gap": result.loss_perturbed - result.loss,
        "update_cosine_clean": _quotient(dot(d, g), d_norm * g_norm),
        "update_cosine_perturbed": _quotient(dot(d, h), d_norm * h_norm),
        "update_norm_ratio": _quotient(d_norm, h_norm),
    }
    if any(x.ndim > 1 for x in g):
        numbers["layer_cosines"] = _layer_cosines(g, h)
    if result.rho:
        # ĝᵀ(h − g) = (gᵀh − gᵀg) / ‖g‖
        difference = _quotient(g_dot_h, g_norm) - g_norm
        numbers["directional_curvature"] = difference / result.rho
    return numbers


def _layer_cosines(g: Vector, h: Vector) -> Tensor:
    pairs = [(x, y) for x, y in zip(g, h, strict=True) if x.ndim > 1]
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    return _quotient(dots(a, b), norms(a) * norms(b))


def _share(conditions: Vector) -> Tensor:
    """Share of elements that are true."""
    return torch.stack([c.sum() for c in conditions]).sum().double() / numel(conditions)


def _quotient(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, and 0 where the denominator is 0 (a gradient of zero)."""
    return torch.where(denominator > 0, numerator / denominator, 0)
