"""What part a micro-batch's loss has in the loss of all examples.

A mean over examples is the mean over micro-batches, weighted by their sizes. A mean with class
weights or with labels that are ignored has other weights, a sum has ones. All are

    L = sum_k s_k l_k

with l_k the loss of micro-batch k alone and shares s_k that depend on the labels. They are read
off the slopes in the outputs, dL/do_k = s_k dl_k/do_k, without a pass through the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

Shares = list[float]

#: How far the two sides may be apart, relative to the left one: rounding, by a wide margin.
_AGREEMENT = 1e-5

_NO_SUM = (
    "the loss is no sum over micro-batches, since loss_fn takes its examples together: choose a "
    "physical_batch_size of at least the number of examples, so that there is only one"
)


def shares_of(
    loss_of: Callable[[Any, Tensor], Tensor], outputs: Any, labels: Tensor, size: int
) -> Shares:
    """Each micro-batch's share in the loss.

    Args:
        loss_of: The loss of (outputs, labels), 0-d.
        outputs: Of the first few examples, shape (n, ...), or a structure of such tensors. Each
            made a little smaller at random, they stand for those of all examples: shares do not
            depend on them, which is tried with two such draws.
        labels: Of all examples, shape (N, ...), on the device of the outputs.
        size: Examples of a micro-batch.

    Returns:
        One for each micro-batch, 0 where it has no part in the loss. Outputs that do not have one
        row for each example, and those that are not finite, are taken to belong to a mean.

    Raises:
        ValueError: If the loss is no such sum.
    """
    leaves, structure = tree_flatten(outputs)
    if not all(map(_has_rows, leaves)):
        return [len(part) / len(labels) for part in torch.split(labels, size)]
    generator = torch.Generator().manual_seed(0)
    found, again = (
        _shares_at(loss_of, leaves, structure, labels, size, generator) for _ in range(2)
    )
    if any(abs(one - two) > _AGREEMENT for one, two in zip(found, again, strict=True)):
        raise ValueError(_NO_SUM)
    return found


def _shares_at(
    loss_of: Callable[[Any, Tensor], Tensor],
    leaves: list[Tensor],
    structure: Any,
    labels: Tensor,
    size: int,
    generator: torch.Generator,
) -> Shares:
    """The shares at one draw of outputs."""
    parts = torch.split(labels, size)
    equal = [len(part) / len(labels) for part in parts]
    rows = torch.arange(len(labels), device=labels.device)
    drawn = [_smaller(leaf[rows % len(leaf)].detach(), generator) for leaf in leaves]

    def slopes(some: Tensor, first: int = 0) -> tuple[float, Tensor]:
        """The loss of as many examples, and its slope in their outputs, shape (len(some), -1)."""
        taken = [leaf[first : first + len(some)].clone().requires_grad_() for leaf in drawn]
        loss = loss_of(tree_unflatten(taken, structure), some)
        found = torch.autograd.grad(loss, taken, materialize_grads=True)
        return loss.item(), torch.cat([x.flatten(1).double() for x in found], dim=1)

    loss, together = slopes(labels)
    if not math.isfinite(loss):
        return equal
    shares, total = [], 0.0
    for k, (part, slope) in enumerate(zip(parts, torch.split(together, size), strict=True)):
        value, alone = slopes(part, k * size)
        # 0 / 0 is the mean over labels none of which counts.
        unused = math.isnan(value) and not slope.any()
        share = 0.0 if unused else _ratio(slope, alone, otherwise=equal[k])
        shares.append(share)
        total += share * value if share else 0.0
    if not abs(total - loss) <= _AGREEMENT * abs(loss):
        raise ValueError(_NO_SUM)
    return shares


def _smaller(values: Tensor, generator: torch.Generator) -> Tensor:
    """Each number times one between a half and 1: probabilities and their logarithms stay such."""
    factors = 0.5 + 0.5 * torch.rand(values.shape, generator=generator)
    return values * factors.to(values)


def _has_rows(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.ndim > 0


def _ratio(slope: Tensor, alone: Tensor, *, otherwise: float) -> float:
    """The number s with ``slope`` = s ``alone``, or the other number where both are 0.

    Raises:
        ValueError: If there is none.
    """
    if not slope.any() and not alone.any():
        return otherwise
    share = ((slope * alone).sum() / alone.square().sum()).item()
    apart = torch.linalg.vector_norm(slope - share * alone)
    if not share > 0 or not apart <= _AGREEMENT * torch.linalg.vector_norm(slope):
        raise ValueError(_NO_SUM)
    return share
