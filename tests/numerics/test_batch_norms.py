"""Quick batch norms: torch's values and derivatives, first and second."""

import pytest
import torch
from torch import nn

from samsweep.numerics.batch_norms import quick_batch_norms

F64 = torch.float64

CASES = {
    "images": (nn.BatchNorm2d(3, eps=0.1), (4, 3, 5, 6)),
    "features": (nn.BatchNorm1d(3), (8, 3)),
    "without statistics": (nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 2, 2)),
    "without a scale": (nn.BatchNorm2d(3, affine=False), (4, 3, 2, 2)),
    "volumes": (nn.BatchNorm3d(2), (2, 2, 3, 2, 2)),
}


def derivatives(norm, x):
    """The output, its gradients, and the derivative of a slope along them."""
    wanted = [x, *norm.parameters()]
    y = norm(x)
    loss = (y.tanh() * torch.linspace(-1, 2, y.numel(), dtype=F64).view(y.shape)).sum()
    grads = torch.autograd.grad(loss, wanted, create_graph=True)
    along = sum((g * g.detach().sin()).sum() for g in grads)
    return [y, *grads, *torch.autograd.grad(along, wanted)]


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("norm", "shape"), CASES.values(), ids=CASES)
def test_derivatives_are_torchs(norm, shape, mode):
    torch.manual_seed(0)
    norm = norm.double().train(mode)
    for param in norm.parameters():
        nn.init.normal_(param)
    x = torch.randn(shape, dtype=F64, requires_grad=True)
    before = [b.clone() for b in norm.buffers()]
    expected = derivatives(norm, x)
    moved = [b.clone() for b in norm.buffers()]
    for buffer, value in zip(norm.buffers(), before, strict=True):
        buffer.copy_(value)
    with quick_batch_norms():
        found = derivatives(norm, x)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    for ours, theirs in zip(norm.buffers(), moved, strict=True):
        assert torch.equal(ours, theirs)


def test_a_scale_of_zero_is_no_trouble():
    norm, x = nn.BatchNorm2d(2).double(), torch.randn(3, 2, 4, 4, dtype=F64, requires_grad=True)
    nn.init.zeros_(norm.weight)
    expected = derivatives(norm, x)
    with quick_batch_norms():
        found = derivatives(norm, x)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_float32_values_and_gradients_keep_torchs_bits():
    norm = nn.BatchNorm2d(4)
    x = torch.randn(8, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()

    def first_derivatives():
        y = norm(x)
        return [y, *torch.autograd.grad(y.square().sum(), [x, *norm.parameters()])]

    expected = first_derivatives()
    with quick_batch_norms():
        found = first_derivatives()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_a_single_value_is_torchs_error():
    with quick_batch_norms(), pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(3)(torch.randn(1, 3))


def test_autocast_is_left_to_torch():
    norm, x = nn.BatchNorm2d(3), torch.randn(2, 3, 4, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = norm(x)
        with quick_batch_norms():
            found = norm(x)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
