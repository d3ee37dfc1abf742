"""Architectures, by published parameter counts and by what they must keep."""

import pytest
import torch
from torch import nn

from samsweep.config import MODELS, ConfigError
from samsweep.models import build_model

#: Parameters for 100 classes.
PUBLISHED = {
    "resnet18": 11_220_132,
    "resnet34": 21_328_292,
    "resnet50": 23_705_252,
    "wrn28_10": 36_536_884,
}


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    with torch.device("meta"):
        assert count(build_model(name, in_channels=3, num_classes=100)) == PUBLISHED[name]


@pytest.mark.parametrize(("name", "depth"), [("resnet8", 8), ("resnet20", 20)])
def test_small_resnets_have_as_many_layers_as_their_name_says(name, depth):
    model = build_model(name, in_channels=1, num_classes=10)
    layers = [
        m
        for m in model.modules()
        if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3))
    ]
    assert len(layers) == depth


def test_resnet8_is_as_described():
    """3×3 convolution of 16, one block each of 16, 32, 64 with strides 1, 2, 2, pool, linear."""
    model = build_model("resnet8", in_channels=1, num_classes=10)
    assert model.conv1.weight.shape == (16, 1, 3, 3)
    assert [s[0].conv1.out_channels for s in model.stages] == [16, 32, 64]
    assert [s[0].conv1.stride for s in model.stages] == [(1, 1), (2, 2), (2, 2)]
    assert [len(s) for s in model.stages] == [1, 1, 1]
    assert model.fc.weight.shape == (10, 64)


@pytest.mark.parametrize("name", MODELS)
def test_images_become_logits(name):
    model = build_model(name, in_channels=3, num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet18", "wrn28_10"])
def test_the_stem_keeps_the_resolution(name):
    with torch.device("meta"):
        model = build_model(name, in_channels=3, num_classes=10)
        assert model.conv1(torch.empty(1, 3, 32, 32)).shape[-2:] == (32, 32)
        assert not any(isinstance(m, nn.MaxPool2d) for m in model.modules())


def test_wide_resnet_activates_before_its_shortcut():
    """A block that changes width adds the convolved activation, not the raw input."""
    torch.manual_seed(0)
    model = build_model("wrn28_10", in_channels=3, num_classes=10).eval()
    block = model.stages[0][0]
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(block(x), block.shortcut(torch.relu(block.bn1(x))))


def test_unknown_model_is_told():
    with pytest.raises(ConfigError, match="model 'resnet9' is unknown: did you mean 'resnet8'"):
        build_model("resnet9", in_channels=1, num_classes=10)
