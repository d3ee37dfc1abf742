"""Convolutions whose second derivatives are as quick as their first.

torch differentiates a convolution's gradients by convolutions with kernels as large as the
images, for which libraries have no quick routine. What a training step needs is enough, though.
With y = x * w, the gradients of a loss with slope s = dL/dy are s * wᵀ (in x) and x ⋆ s (in w),
both linear in s, x and w, so that along directions u of x and v of w their derivatives are

* in s: u * w + x * v, two forward passes;
* in x and in w: s * vᵀ and u ⋆ s, one backward pass with u and v in place of x and w.

On a CPU images are also put in channels-last order, in which these passes are quicker still.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from samsweep.numerics.function_mode import replaced


def quick_convolutions() -> replaced:
    """Inside the block, convolutions can be differentiated twice quickly, and no more than twice.

    Values and derivatives are torch's, up to rounding.
    """
    return replaced({func: partial(_convolve, func) for func in (F.conv1d, F.conv2d, F.conv3d)})


class _Geometry(NamedTuple):
    """Arguments of ``aten::convolution`` after its three tensors."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


def _convolve(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | str | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution by :class:`_Convolution`, or by torch where that is not made for it."""
    dims = weight.ndim - 2
    autocast = torch.is_autocast_enabled(input.device.type)  # it recognises torch's own only
    if isinstance(padding, str) or input.ndim != weight.ndim or autocast:
        return func(input, weight, bias, stride, padding, dilation, groups)
    if dims == 2 and input.device.type == "cpu":
        input = input.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
    sizes = (_each(stride, dims), _each(padding, dims), _each(dilation, dims))
    geometry = _Geometry(*sizes, False, [0] * dims, groups)
    convolved: Tensor = _Convolution.apply(input, weight, bias, geometry)
    return convolved


def _each(size: int | tuple[int, ...], dims: int) -> list[int]:
    """A size for every dimension of the images."""
    sizes = [size] if isinstance(size, int) else list(size)
    return sizes * dims if len(sizes) == 1 else sizes


class _Convolution(torch.autograd.Function):
    """y = x * w + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        y: Tensor = torch.ops.aten.convolution(x, w, b, *geometry)
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[:3]
        return *_Gradients.apply(*slopes, *ctx.saved_tensors, wanted, ctx.geometry), None


class _Gradients(torch.autograd.Function):
    """The gradients in x, w and b, given the slope in y."""

    @staticmethod
    def forward(
        ctx: Any, slope: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, ...], geometry: _Geometry
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(slope, x, w)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return tuple(_backward(slope, x, w, wanted, geometry))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, u: Tensor | None, v: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        slope, x, w = ctx.saved_tensors
        in_slope = None if bias is None else bias.view(-1, *(1,) * (w.ndim - 2)).expand_as(slope)
        if u is not None:
            in_slope, bias = torch.ops.aten.convolution(u, w, bias, *ctx.geometry), None
        if v is not None:
            along = torch.ops.aten.convolution(x, v, bias, *ctx.geometry)
            in_slope = along if u is None else in_slope + along
        in_x, in_w, _ = _backward(
            slope,
            x if u is None else u,
            w if v is None else v,
            (v is not None, u is not None, False),
            ctx.geometry,
        )
        return in_slope, in_x, in_w, None, None


def _backward(
    slope: Tensor, x: Tensor, w: Tensor, wanted: tuple[bool, ...], geometry: _Geometry
) -> list[Tensor | None]:
    gradients: list[Tensor | None] = torch.ops.aten.convolution_backward(
        slope, x, w, [len(w)], *geometry, list(wanted)
    )
    return gradients
