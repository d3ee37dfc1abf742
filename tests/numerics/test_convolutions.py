"""Quick convolutions: torch's values and derivatives, first and second."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samsweep.numerics.convolutions import quick_convolutions

F64 = torch.float64

CASES = {
    "plain": ((2, 3, 7, 6), nn.Conv2d(3, 4, 3)),
    "strided": ((2, 3, 7, 6), nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)),
    "uneven": ((2, 3, 7, 6), nn.Conv2d(3, 4, (3, 1), stride=(2, 1), padding=(0, 2))),
    "pointwise": ((2, 3, 5, 5), nn.Conv2d(3, 4, 1, bias=False)),
    "grouped": ((2, 4, 6, 6), nn.Conv2d(4, 8, 3, groups=2, padding=1)),
    "dilated": ((2, 3, 9, 9), nn.Conv2d(3, 4, 3, dilation=2)),
    "same": ((2, 3, 7, 6), nn.Conv2d(3, 4, 3, padding="same")),
    "reflected": ((2, 3, 7, 6), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")),
    "one image": ((3, 7, 6), nn.Conv2d(3, 4, 3)),
    "one dimension": ((2, 3, 9), nn.Conv1d(3, 4, 3, padding=1)),
    "three dimensions": ((2, 2, 5, 4, 4), nn.Conv3d(2, 3, 3, padding=1)),
}


def derivatives(conv, x, frozen=()):
    """The output, its gradients, and the derivative of a slope along them."""
    tensors = {"x": x, **dict(conv.named_parameters())}
    wanted = [t.requires_grad_(name not in frozen) for name, t in tensors.items()]
    wanted = [t for t in wanted if t.requires_grad]
    y = conv(x)
    loss = (y.tanh() * torch.linspace(-1, 2, y.numel(), dtype=F64).view(y.shape)).sum()
    grads = torch.autograd.grad(loss, wanted, create_graph=True)
    along = sum((g * g.detach().sin()).sum() for g in grads)
    return [y, *grads, *torch.autograd.grad(along, wanted)]


@pytest.mark.parametrize("frozen", [(), ("x",), ("weight",), ("x", "weight")])
@pytest.mark.parametrize(("shape", "conv"), CASES.values(), ids=CASES)
def test_values_and_derivatives_are_torchs(shape, conv, frozen):
    if frozen == ("x", "weight") and conv.bias is None:
        pytest.skip("nothing to differentiate")
    torch.manual_seed(0)
    conv = conv.double()
    x = torch.randn(shape, dtype=F64)
    expected = derivatives(conv, x, frozen)
    with quick_convolutions():
        found = derivatives(conv, x, frozen)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_outside_the_block_nothing_is_changed():
    conv, x = nn.Conv2d(1, 1, 3), torch.randn(1, 1, 4, 4)
    with quick_convolutions():
        assert "Convolution" in conv(x).grad_fn.name()
    assert conv(x).grad_fn.name() == F.conv2d(x, conv.weight).grad_fn.name()


def test_autocast_is_left_to_torch():
    conv, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = conv(x)
        with quick_convolutions():
            found = conv(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
