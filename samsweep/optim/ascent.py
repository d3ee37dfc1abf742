"""The climb from w to w + epsilon, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from samsweep.numerics.vectors import Vector, in_memory_order_of, norm

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


def named_weights(model: nn.Module) -> list[Tensor]:
    """The parameters with ``weight`` in their names, those of norm layers among them.

    What the code of Kwon et al. scales (SamsungLabs/ASAM, ``asam.py``).
    """
    return [param for name, param in model.named_parameters() if "weight" in name]


def adaptive(eta: float = 0.01, scaled: Iterable[Tensor] | None = None) -> Ascent:
    """Epsilon = rho · T² g / (‖T g‖ + 1e-12) with T = abs(w) + eta on some tensors, 1 on others.

    Kwon et al. 2021 (arXiv 2102.11600), equation 7. Their text leaves open what counts as a weight;
    their code scales :func:`named_weights`.

    Args:
        eta: Added to abs(w), so that a weight of zero can move (the paper's default).
        scaled: The parameters with a T of their own; None takes those of two or more dimensions,
            which needs no names and leaves out biases and norm layers.
    """
    kept = None if scaled is None else list(scaled)
    chosen = None if kept is None else {id(param) for param in kept}

    def is_scaled(param: Tensor) -> bool:
        return param.ndim > 1 if chosen is None else id(param) in chosen

    def ascent(params: Vector, grads: Vector, rho: float) -> Vector:
        scales = [
            p.detach().abs().add_(eta) if is_scaled(p) else torch.ones_like(p) for p in params
        ]
        scaled = torch._foreach_mul(scales, grads)
        factor = rho / (norm(scaled) + EPS)
        return torch._foreach_mul(torch._foreach_mul(scales, scaled), factor)

    return ascent


@contextmanager
def perturbed(
    params: Vector, perturbation: Vector, *, keep_strides: bool = False
) -> Iterator[None]:
    """Parameters at w + epsilon inside the block, and at w again after it, bit for bit.

    The tensors that hold w are set aside, not changed: subtracting epsilon again would leave
    rounding errors behind, and copying w back would take time.

    Parameters that share memory with each other do not inside the block.

    Args:
        params: The parameters; their ``data`` is exchanged.
        perturbation: epsilon, same shapes. It is let go of once w + epsilon is there.
        keep_strides: Whether w + epsilon has the strides of w, also where a size is 1, when a sum
            may have others. To a compiler and to cuDNN other strides are other work.
    """
    originals = [p.data for p in params]
    moved = torch._foreach_add(originals, perturbation)
    # The caller's pass needs the memory for its gradients.
    del perturbation
    try:
        for param, there in zip(params, moved, strict=True):
            param.data = in_memory_order_of(param, there) if keep_strides else there
        del moved
        yield
    finally:
        for param, original in zip(params, originals, strict=True):
            param.data = original
