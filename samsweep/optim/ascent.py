"""The ascent from w to w + epsilon, and the way back.

An ascent makes epsilon of a direction d, the gradient at w or another
(:mod:`samsweep.optim.directions`), and of the radius rho: how it is normalised is all that differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from samsweep.numerics.vectors import Vector, in_memory_order_of, norm, norms

#: Floor of the denominator in epsilon, the reference implementation's.
EPS = 1e-12


class Ascent(Protocol):
    """How to ascend: parameters and a direction to a perturbation.

    One that has a parameter ``step`` is given the number of steps that were taken before.
    """

    def __call__(self, params: Vector, grads: Vector, rho: float) -> Vector:
        """The perturbation, one tensor per parameter."""
        ...


def plain(params: Vector, grads: Vector, rho: float) -> Vector:
    """Epsilon = rho · g / (‖g‖ + 1e-12), the norm over all parameters together.

    Foret et al. 2021 (arXiv 2010.01412), equation 2 with p = 2.
    """
    return torch._foreach_mul(grads, rho / (norm(grads) + EPS))


def unnormalized(params: Vector, grads: Vector, rho: float) -> Vector:
    """Epsilon = rho · g: USAM (Andriushchenko & Flammarion 2022, arXiv 2206.06232)."""
    return torch._foreach_mul(grads, rho)


def unified(
    params: Vector,
    grads: Vector,
    rho: float,
    *,
    share: float | Literal["1/t", "1-1/t"] = 0.5,
    step: int = 0,
) -> Vector:
    """Epsilon = rho · (1 - lambda + lambda / (‖g‖ + 1e-12)) · g, between USAM and SAM.

    Unified SAM (Oikonomou & Loizou, ICLR 2025, arXiv 2503.02225).

    Args:
        params: The parameters.
        grads: The direction g.
        rho: The radius.
        share: lambda; 0 is :func:`unnormalized`, 1 is :func:`plain`. ``1/t`` and ``1-1/t`` go from
            the one to the other, or back, with t the number of the step from 1 on.
        step: Steps taken before.

    Raises:
        ValueError: If the share is not one of these or outside [0, 1].
    """
    at = {"1/t": 1 / (step + 1), "1-1/t": 1 - 1 / (step + 1)}
    value = at.get(share) if isinstance(share, str) else share
    if value is None or not 0 <= value <= 1:
        raise ValueError(f"share={share}: choose a number between 0 and 1, '1/t' or '1-1/t'")
    return torch._foreach_mul(grads, rho * (1 - value) + value * (rho / (norm(grads) + EPS)))


def per_tensor(params: Vector, grads: Vector, rho: float) -> Vector:
    """Epsilon = rho · g_t / (‖g_t‖ + 1e-12) for each tensor t, so that each moves by rho."""
    return torch._foreach_mul(grads, (rho / (norms(grads) + EPS)).unbind())


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
