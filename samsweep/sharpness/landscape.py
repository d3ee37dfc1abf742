"""Slices of the loss along filter-normalised directions (Li et al. 2018, arXiv 1712.09913)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.numerics.vectors import Vector
from samsweep.sharpness.entry import measure_of_examples
from samsweep.sharpness.examples import Inputs
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.lanczos import Array
from samsweep.sharpness.objective import MeanLoss
from samsweep.sharpness.random_vectors import normal
from samsweep.sharpness.results import Measured, check_positive, told


@dataclass(frozen=True, kw_only=True)
class Landscape(Measured):
    """The loss on a line or a plane through the weights.

    Args:
        positions: Along each direction, in filter norms, shape (num_points,).
        losses: L(w + alpha d_1), shape (num_points,), or L(w + alpha d_1 + beta d_2), shape
            (num_points, num_points) with alpha by rows; not finite where the network overflows.
        num_forwards: Forward passes over all examples.
    """

    positions: Array
    losses: Array
    num_forwards: int

    def __str__(self) -> str:
        """In one line, for people."""
        lowest, highest = float(self.losses.min()), float(self.losses.max())
        shape = " x ".join(map(str, self.losses.shape))
        costs = f"{self.num_forwards} forward passes"
        return f"losses from {lowest:.4g} to {highest:.4g} at {shape} points ({told(self, costs)})"


@measure_of_examples
def landscape(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    num_directions: int,
    radius: float = 1.0,
    num_points: int = 41,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> Landscape:
    """The loss along one random direction, or over the plane of two.

    A direction is normal noise, scaled so that each filter of it is as long as the network's own;
    biases and the parameters of norm layers do not move (ibid. section 4). The first direction of a
    plane is that of the line, and those of a seed are the same noise for all networks of one shape.

    Conditions: eval mode, full precision.

    Args:
        model: Any classifier.
        inputs: The fixed examples, shape (N, ...).
        labels: Shape (N,).
        num_directions: 1 for a line, 2 for a plane.
        radius: How far it reaches on both sides, in filter norms.
        num_points: Along each direction; odd, so that the weights themselves are one.
        seed: Of the directions.
        physical_batch_size: Examples per micro-batch; changes memory and speed, not the value.
        loss_fn: Mean loss over examples of (outputs, labels).

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If the loss at the weights is not finite.
    """
    if num_directions not in (1, 2):
        raise ValueError(f"num_directions={num_directions}: choose 1 or 2")
    if num_points < 3 or num_points % 2 == 0:
        raise ValueError(f"num_points={num_points}: choose an odd number from 3 on")
    check_positive(radius=radius)
    objective = MeanLoss(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    loss = objective.finite_value()
    directions = filter_normalized(objective.params, num_directions, seed)
    positions = np.linspace(-radius, radius, num_points)
    grid = np.meshgrid(*[positions] * num_directions, indexing="ij")
    points = np.stack([axis.ravel() for axis in grid], axis=1)
    losses = [objective.value(_at(objective.params, directions, point)) for point in points]
    return Landscape(
        positions=positions,
        losses=np.array(losses).reshape(grid[0].shape),
        loss=loss,
        loss_rounding=objective.rounding(loss),
        num_forwards=len(points) + 1,
    )


def filter_normalized(params: Vector, count: int, seed: int) -> list[list[Tensor]]:
    """Random directions, each filter as long as that of the parameters.

    A filter is a slice of a weight along its first dimension: what makes one output channel. The
    ``count`` directions are shaped like ``params``, and zero for those of one dimension.
    """
    generator = torch.Generator().manual_seed(seed)
    return [
        [_as_long(x, p.detach()) for x, p in zip(normal(params, generator), params, strict=True)]
        for _ in range(count)
    ]


def _as_long(noise: Tensor, weight: Tensor) -> Tensor:
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    dims = tuple(range(1, weight.ndim))
    length = torch.linalg.vector_norm(noise, dim=dims, keepdim=True)
    scaled: Tensor = noise * (torch.linalg.vector_norm(weight, dim=dims, keepdim=True) / length)
    return scaled


def _at(params: Vector, directions: list[list[Tensor]], point: Iterable[float]) -> list[Tensor]:
    """The parameters, moved so far along each direction."""
    moved = [p.detach() for p in params]
    for direction, distance in zip(directions, point, strict=True):
        moved = list(torch._foreach_add(moved, direction, alpha=float(distance)))
    return moved
