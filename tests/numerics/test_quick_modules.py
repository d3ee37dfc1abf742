"""Quick convolutions and batch norms: torch's values and derivatives, first and second."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samsweep.numerics.batch_norms import quick_batch_norms
from samsweep.numerics.convolutions import quick_convolutions

F64 = torch.float64

CONVOLUTIONS = {
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
NORMS = {
    "images": ((4, 3, 5, 6), nn.BatchNorm2d(3, eps=0.1)),
    "features": ((8, 3), nn.BatchNorm1d(3)),
    "without statistics": ((4, 3, 2, 2), nn.BatchNorm2d(3, track_running_stats=False)),
    "without a scale": ((4, 3, 2, 2), nn.BatchNorm2d(3, affine=False)),
    "volumes": ((2, 2, 3, 2, 2), nn.BatchNorm3d(2)),
}


def derivatives(module, x, frozen=()):
    """The output, its gradients, and the derivative of a slope along them."""
    tensors = {"x": x, **dict(module.named_parameters())}
    wanted = [t.requires_grad_(name not in frozen) for name, t in tensors.items()]
    wanted = [t for t in wanted if t.requires_grad]
    y = module(x)
    loss = (y.tanh() * torch.linspace(-1, 2, y.numel(), dtype=F64).view(y.shape)).sum()
    grads = torch.autograd.grad(loss, wanted, create_graph=True)
    along = sum((g * g.detach().sin()).sum() for g in grads)
    return [y, *grads, *torch.autograd.grad(along, wanted)]


def assert_as_torch(module, x, quick, **keys):
    """Also what the module keeps of its inputs."""
    before = [b.clone() for b in module.buffers()]
    expected = derivatives(module, x, **keys)
    moved = [b.clone() for b in module.buffers()]
    for buffer, value in zip(module.buffers(), before, strict=True):
        buffer.copy_(value)
    with quick():
        found = derivatives(module, x, **keys)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert all(map(torch.equal, module.buffers(), moved))


@pytest.mark.parametrize("frozen", [(), ("x",), ("weight",), ("x", "weight")])
@pytest.mark.parametrize(("shape", "conv"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_have_torchs_derivatives(shape, conv, frozen):
    if frozen == ("x", "weight") and conv.bias is None:
        pytest.skip("nothing to differentiate")
    torch.manual_seed(0)
    assert_as_torch(conv.double(), torch.randn(shape, dtype=F64), quick_convolutions, frozen=frozen)


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("shape", "norm"), NORMS.values(), ids=NORMS)
def test_batch_norms_have_torchs_derivatives(shape, norm, mode):
    torch.manual_seed(0)
    for param in norm.double().parameters():
        nn.init.normal_(param)
    assert_as_torch(norm.train(mode), torch.randn(shape, dtype=F64), quick_batch_norms)


def test_a_scale_of_zero_is_no_trouble():
    norm = nn.BatchNorm2d(2).double()
    nn.init.zeros_(norm.weight)
    assert_as_torch(norm, torch.randn(3, 2, 4, 4, dtype=F64), quick_batch_norms)


def test_float32_values_and_gradients_of_batch_norms_keep_torchs_bits():
    norm = nn.BatchNorm2d(4)
    x = torch.randn(8, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()

    def first_derivatives():
        y = norm(x)
        return [y, *torch.autograd.grad(y.square().sum(), [x, *norm.parameters()])]

    expected = first_derivatives()
    with quick_batch_norms():
        assert all(map(torch.equal, first_derivatives(), expected))


def test_a_single_value_is_torchs_error():
    with quick_batch_norms(), pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(3)(torch.randn(1, 3))


def test_outside_the_block_nothing_is_changed():
    conv, x = nn.Conv2d(1, 1, 3), torch.randn(1, 1, 4, 4)
    with quick_convolutions():
        assert "Convolution" in conv(x).grad_fn.name()
    assert conv(x).grad_fn.name() == F.conv2d(x, conv.weight).grad_fn.name()


@pytest.mark.parametrize(
    ("quick", "module", "dtype"),
    [
        (quick_convolutions, nn.Conv2d(3, 4, 3), torch.float32),
        (quick_batch_norms, nn.BatchNorm2d(3), torch.bfloat16),
    ],
)
def test_autocast_is_left_to_torch(quick, module, dtype):
    x = torch.randn(2, 3, 6, 6, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = module(x)
        with quick():
            found = module(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert torch.equal(found, expected)
