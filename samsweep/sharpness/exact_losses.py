"""Cross-entropies whose derivatives keep all their digits, however well or badly a network fits.

torch subtracts: of a class with the probability p its slope has p - 1, its curvature p (1 - p), and
where p rounds to 1 nothing is left, in float64 too. Here 1 - p is the sum of the other
probabilities, so that every derivative is known to rounding relative to itself. With k the largest
output, d_j = z_j - z_k and s = sum over j != k of exp(d_j),

    log p_j = d_j - log1p(s).

Binary cross-entropy is that of the outputs 0 and z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def log_softmax(z: Tensor, dim: int | None = None, *args: Any, **kwargs: Any) -> Tensor:
    """``torch.nn.functional.log_softmax``, see the module."""
    # Modules say where a warning would stand.
    if dim is None or args or any(kwargs[key] for key in kwargs if key != "_stacklevel"):
        return F.log_softmax(z, dim, *args, **kwargs)
    largest = z.argmax(dim=dim, keepdim=True)
    differences = z - z.gather(dim, largest)
    others = differences.exp().scatter(dim, largest, 0.0).sum(dim=dim, keepdim=True)
    return differences - others.log1p()


def cross_entropy(
    z: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``torch.nn.functional.cross_entropy``, see the module."""
    reduction = _reduction(size_average, reduce, reduction)
    dim = 0 if z.ndim == 1 else 1
    logs, classes = log_softmax(z, dim), z.shape[dim]
    weights = torch.ones(classes).to(z) if weight is None else weight
    # Of each class, along the dimension of the classes.
    lifted = weights.view(-1, *[1] * (z.ndim - dim - 1))
    if target.is_floating_point():
        shares = target * (1 - label_smoothing) + label_smoothing / classes
        losses = -(logs * shares * lifted).sum(dim=dim)
        return losses.sum() / losses.numel() if reduction == "mean" else _reduced(losses, reduction)
    loss = F.nll_loss(logs, target, weight, ignore_index=ignore_index, reduction=reduction)
    if not label_smoothing:
        return loss
    counted = target != ignore_index
    spread = torch.where(counted, -(logs * lifted).sum(dim=dim), 0.0)
    if reduction == "mean":
        spread = spread.sum() / torch.where(counted, weights[target.clamp(min=0)], 0.0).sum()
    else:
        spread = _reduced(spread, reduction)
    return (1 - label_smoothing) * loss + label_smoothing / classes * spread


def binary_cross_entropy_with_logits(
    z: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """``torch.nn.functional.binary_cross_entropy_with_logits``, see the module."""
    positive = target if pos_weight is None else target * pos_weight
    losses = positive * softplus(-z) + (1 - target) * softplus(z)
    if weight is not None:
        losses = losses * weight
    return _reduced(losses, _reduction(size_average, reduce, reduction))


def _reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """What torch's old arguments mean."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def softplus(z: Tensor) -> Tensor:
    """log(1 + exp(z)), without the threshold beyond which torch's has no curvature."""
    positive = z > 0
    # Of the branch that is not taken no derivative may overflow.
    small = torch.where(positive, -z, z).exp().log1p()
    return torch.where(positive, z, 0.0) + small


def _scaled_softplus(z: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``torch.nn.functional.softplus`` without its threshold, unless that is one of the user's."""
    return F.softplus(z, beta, threshold) if threshold < 20 else softplus(beta * z) / beta


#: In place of torch's functions, where their first argument is in float64.
EXACT: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.cross_entropy: cross_entropy,
    F.binary_cross_entropy_with_logits: binary_cross_entropy_with_logits,
    F.log_softmax: log_softmax,
    torch.log_softmax: log_softmax,
    torch.special.log_softmax: log_softmax,
    Tensor.log_softmax: log_softmax,
    F.softplus: _scaled_softplus,
    F.logsigmoid: lambda z: -softplus(-z),
}
