"""Batch norms whose second derivatives are as quick as their first.

torch differentiates the gradients of a batch norm in train mode in dozens of passes over images.
With x̂ = (x - mean) / s and y = gamma x̂ + beta, the gradients of a loss with slope g = dL/dy are

    (gamma / s) P g in x,  sum(g x̂) in gamma,  sum(g) in beta,

where P takes away the mean and the part along x̂: P g = g - mean(g) - x̂ mean(g x̂). That P is
symmetric and (1 / s) P is also the derivative of x̂, so that along directions u of x, v of gamma and
t of beta the derivatives are

    (gamma / s) P u + v x̂ + t                                                      in g,
    sum(g P u) / s                                                                 in gamma,
    (v / s - gamma mean(u x̂) / s²) P g - gamma mean(g x̂) / s² P u
        - gamma mean(g P u) / s² x̂                                                 in x,

which one of torch's backward passes and a few products give.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from samsweep.numerics.function_mode import replaced


def quick_batch_norms() -> replaced:
    """Inside the block, batch norms in train mode can be differentiated twice quickly, and no more.

    On a CPU values and first derivatives are torch's to the bit; all else is up to rounding.
    """
    return replaced({F.batch_norm: _normalize})


def _normalize(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """A batch norm by :class:`_BatchNorm`, or by torch where that is not made for it."""
    autocast = torch.is_autocast_enabled(input.device.type)  # it recognises torch's own only
    several = input.numel() > input.shape[1]  # torch refuses a channel with one value
    if not training or weight is None or bias is None or autocast or not several:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    normalized: Tensor = _BatchNorm.apply(
        input, weight, bias, running_mean, running_var, momentum, eps
    )
    return normalized


class _BatchNorm(torch.autograd.Function):
    """y = gamma x̂ + beta."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y, mean, inverse_std = torch.ops.aten.native_batch_norm(
            x, gamma, beta, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(x, gamma, mean, inverse_std)
        ctx.eps = eps
        normalized: Tensor = y
        return normalized

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return *_Gradients.apply(*slopes, *ctx.saved_tensors, ctx.eps), None, None, None, None


class _Gradients(torch.autograd.Function):
    """The gradients in x, gamma and beta, given the slope in y."""

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        gamma: Tensor,
        mean: Tensor,
        inverse_std: Tensor,
        eps: float,
    ) -> tuple[Tensor, ...]:
        gradients = _backward(g, x, gamma, mean, inverse_std, eps)
        ctx.save_for_backward(g, x, gamma, mean, inverse_std, *gradients)
        ctx.eps = eps
        return gradients

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, v: Tensor, t: Tensor) -> tuple[Tensor | None, ...]:
        g, x, gamma, mean, inverse_std, grad_x, grad_gamma, grad_beta = ctx.saved_tensors
        count = x.numel() / x.shape[1]
        # (1 / s) P u, and the sum of u x̂.
        pu, sum_u, _ = _backward(u, x, torch.ones_like(gamma), mean, inverse_std, ctx.eps)
        in_gamma = (pu * g).sum(dim=[d for d in range(x.ndim) if d != 1])

        def channels(values: Tensor) -> Tensor:
            return values.view(-1, *(1,) * (x.ndim - 2))

        along = v * inverse_std
        in_g = torch.addcmul(channels(t - along * mean), x, channels(along))
        in_g.addcmul_(pu, channels(gamma))

        # Of P g, what has a gamma before it is grad_x; the rest is written out in g and x̂.
        slope = inverse_std / count
        in_x = grad_x * channels(-slope * sum_u)
        in_x.addcmul_(pu, channels(-slope * gamma * grad_gamma))
        in_x.addcmul_(g, channels(along))
        of_x = -slope * inverse_std * (v * grad_gamma + gamma * in_gamma)
        in_x.addcmul_(x, channels(of_x))
        in_x.add_(channels(-of_x * mean - along * grad_beta / count))
        return in_g, in_x, in_gamma, None, None, None


def _backward(
    g: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, inverse_std: Tensor, eps: float
) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = torch.ops.aten.native_batch_norm_backward(
        g, x, gamma, None, None, mean, inverse_std, True, eps, [True] * 3
    )
    return gradients
