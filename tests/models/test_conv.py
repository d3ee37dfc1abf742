"""The dense form of a convolution is the convolution."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samsweep.config import MODELS
from samsweep.models import build_model
from samsweep.models.conv import Conv2d, use_dense_convolutions

#: Padded, an image must be as large as the kernel.
SHAPES = [
    (size, padding)
    for size in [(1, 1), (2, 2), (1, 2), (2, 4), (3, 3), (5, 4)]
    for padding in (0, 1, 2)
    if min(size) + 2 * padding >= 3
]


@pytest.mark.parametrize(("size", "padding"), SHAPES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_it_equals_torchs_convolution_and_its_gradients(size, stride, padding, memory_format):
    torch.manual_seed(0)
    conv = Conv2d(5, 7, 3, stride=stride, padding=padding, bias=False).double()
    conv = conv.to(memory_format=memory_format)
    x = torch.randn(4, 5, *size, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, conv.weight, stride=stride, padding=padding)
    found = conv(x.to(memory_format=memory_format))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    upstream = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad(found, (x, conv.weight), upstream),
        torch.autograd.grad(expected, (x, conv.weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_second_derivatives_are_right():
    torch.manual_seed(0)
    conv = Conv2d(2, 3, 3, padding=1, bias=False).double()
    x = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda x, w: torch.tanh(_call(conv, x, w)), (x, conv.weight)
    )


def _call(conv, x, weight):
    return torch.func.functional_call(conv, {"weight": weight}, (x,))


@pytest.mark.parametrize(
    "keys",
    [
        {"kernel_size": 1},
        {"bias": True},
        {"groups": 2},
        {"kernel_size": 2, "dilation": 2, "padding": 1},
        {"padding_mode": "reflect"},
        {"padding": "same"},
        {"stride": (1, 2)},
        {"kernel_size": (3, 1), "padding": (1, 0)},
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(keys):
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, **{"kernel_size": 3, "padding": 1, "bias": False, **keys})
    network = nn.Sequential(conv)
    x = torch.randn(1, 2, 2, 2)
    expected = network(x)
    use_dense_convolutions(network)
    assert type(network[0]) is nn.Conv2d
    assert torch.equal(network(x), expected)


def test_names_of_parameters_stay():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False))
    names = list(network.state_dict())
    use_dense_convolutions(network)
    assert type(network[0]) is Conv2d
    assert list(network.state_dict()) == names


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_network_computes_what_it_did(name):
    torch.manual_seed(0)
    network = build_model(name, in_channels=1, num_classes=10).double().eval()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    found = network(x)
    for module in network.modules():
        if type(module) is Conv2d:
            module.__class__ = nn.Conv2d
    torch.testing.assert_close(found, network(x), rtol=1e-10, atol=1e-10)


def test_all_models_use_it():
    for name in MODELS:
        with torch.device("meta"):
            network = build_model(name, in_channels=3, num_classes=10)
        assert any(type(module) is Conv2d for module in network.modules())
