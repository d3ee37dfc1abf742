"""The climb from w to w + epsilon, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

from samsweep.vectors import Vector, copies, norm

#: Floor of the denominator in epsilon, the reference implementation's.
EPS = 1e-12


class Ascent(Protocol):
    """How to climb: parameters and their gradients to a perturbation of length rho."""

    def __call__(self, params: Vector, grads: Vector, rho: float) -> Vector:
        """The perturbation, one tensor per parameter."""
        ...


def plain(params: Vector, grads: Vector, rho: float) -> Vector:
    """Epsilon = rho · g / (‖g‖ + 1e-12), the norm over all parameters together.

    Foret et al. 2021 (arXiv 2010.01412), equation 2 with p = 2.
    """
    return torch._foreach_mul(grads, rho / (norm(grads) + EPS))


def adaptive(eta: float = 0.01) -> Ascent:
    """Epsilon = rho · T² g / (‖T g‖ + 1e-12) with T = abs(w) + eta on weights.

    Kwon et al. 2021 (arXiv 2102.11600), equation 7. T is 1 on biases and norm layers, that is on
    every tensor of fewer than two dimensions.

    Args:
        eta: Added to abs(w), so that a weight of zero can move (the paper's default).
    """

    def ascent(params: Vector, grads: Vector, rho: float) -> Vector:
        scales = [p.detach().abs().add_(eta) if p.ndim > 1 else torch.ones_like(p) for p in params]
        scaled = torch._foreach_mul(scales, grads)
        factor = rho / (norm(scaled) + EPS)
        return torch._foreach_mul(torch._foreach_mul(scales, scaled), factor)

    return ascent


def perturbed(
    params: Vector, perturbation: Vector, *, in_place: bool = False
) -> AbstractContextManager[None]:
    """Parameters at w + epsilon inside the block, and at w again after it, bit for bit.

    w is set aside and put back: subtracting epsilon again would leave rounding errors behind.

    Args:
        params: The parameters.
        perturbation: epsilon, same shapes. It is let go of once w + epsilon is there.
        in_place: Whether the parameters keep their memory, and w is copied. Otherwise their
            ``data`` is exchanged, which takes no time; but parameters that share memory with each
            other do not inside the block, and what was recorded with their addresses (a CUDA
            graph) does not see it.
    """
    return (_changed if in_place else _exchanged)(params, perturbation)


@contextmanager
def _exchanged(params: Vector, perturbation: Vector) -> Iterator[None]:
    originals = [p.data for p in params]
    moved = torch._foreach_add(originals, perturbation)
    # The caller's pass needs the memory for its gradients.
    del perturbation
    try:
        for param, there in zip(params, moved, strict=True):
            param.data = there
        del moved
        yield
    finally:
        for param, original in zip(params, originals, strict=True):
            param.data = original


@contextmanager
def _changed(params: Vector, perturbation: Vector) -> Iterator[None]:
    values = [p.data for p in params]
    originals = copies(values)
    torch._foreach_add_(values, perturbation)
    del perturbation
    try:
        yield
    finally:
        torch._foreach_copy_(values, originals)
