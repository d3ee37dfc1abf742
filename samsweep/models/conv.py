"""Convolutions on images that have shrunk to fewer pixels than the kernel has taps.

On 8×8 images the last stages of a ResNet work on 2×2 pixels and on single ones, where most taps of
a 3×3 kernel meet nothing but padding. Libraries multiply those zeros too, and their weight
gradients for such shapes are slow. Written as a dense linear map from all input pixels to all
output pixels, the convolution is the same sum without its zeros, and both passes become plain
matrix products: on two CPU cores a step of ResNet-18 on 8×8 images takes half the time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conv2d(nn.Conv2d):
    """``nn.Conv2d``, as a dense linear map where the image has fewer pixels than the kernel taps.

    For square kernels, strides and zero paddings without groups or dilation, which is what
    :func:`use_dense_convolutions` gives it.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What ``nn.Conv2d.forward`` calls with its parameters."""
        height, width = input.shape[-2:]
        if height * width >= self.kernel_size[0] * self.kernel_size[1]:
            plain: Tensor = super()._conv_forward(input, weight, bias)
            return plain
        rows, columns = self._num_outputs(height), self._num_outputs(width)
        taps = [
            self._taps(weight, r, c, height, width) for r in range(rows) for c in range(columns)
        ]
        matrix = torch.stack(taps, dim=1).flatten(2).flatten(0, 1)
        biases = None if bias is None else bias.repeat_interleave(rows * columns)
        outputs = F.linear(input.flatten(1), matrix, biases)
        return outputs.view(-1, self.out_channels, rows, columns)

    def _num_outputs(self, size: int) -> int:
        return (size + 2 * int(self.padding[0]) - self.kernel_size[0]) // self.stride[0] + 1

    def _taps(self, weight: Tensor, row: int, column: int, height: int, width: int) -> Tensor:
        """The kernel as one output pixel lays it over the image, (out, in, height, width)."""
        top = row * self.stride[0] - int(self.padding[0])
        left = column * self.stride[0] - int(self.padding[0])
        size = self.kernel_size[0]
        # A negative padding crops the taps that lie outside the image.
        return F.pad(weight, (left, width - left - size, top, height - top - size))


def use_dense_convolutions(network: nn.Module) -> None:
    """Have every convolution of a network that can be a :class:`Conv2d` be one, in place.

    Parameters and their names stay as they are.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _fits(module):
            module.__class__ = Conv2d


def _fits(conv: nn.Conv2d) -> bool:
    """Whether a convolution has the properties that :class:`Conv2d` relies on."""
    return (
        conv.kernel_size[0] == conv.kernel_size[1] > 1
        and conv.stride[0] == conv.stride[1]
        and isinstance(conv.padding, tuple)
        and conv.padding[0] == conv.padding[1]
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.bias is None
    )
