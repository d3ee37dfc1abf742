"""BatchNorm folded away: the same function of the same parameters, with the same derivatives."""

from functools import partial

import pytest
import torch
from torch import nn

from samsweep.models.conv import use_dense_convolutions
from samsweep.models.resnet import ResNet
from samsweep.models.wide_resnet import WideResNet
from samsweep.sharpness import Folding, HessianOperator, double_backward, find_folding
from samsweep.sharpness.measuring_mode import evaluation_mode

EXACT = {"rtol": 1e-9, "atol": 1e-11}


def used(model, shape=(6, 2, 5, 5)):
    """In float64, with running statistics and affine parameters that are not at their start."""
    model = model.double()
    with torch.no_grad():
        for _ in range(4):
            model(2 * torch.randn(shape, dtype=torch.float64) + 1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.5, 2)
                module.bias.uniform_(-1, 1)
    return model.eval()


class Net(nn.Module):
    """Convolution and BatchNorm, put together by ``join``."""

    def __init__(self, join, **options):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 3, 3, padding=1, bias=options.pop("bias", False))
        self.norm = nn.BatchNorm2d(3, **options)
        self.head = nn.Linear(3, 4)
        self.join = join

    def forward(self, x):
        return self.head(self.join(self, x).mean(dim=(2, 3)))


FOLDABLE = {
    "plain": Net(lambda net, x: net.norm(net.conv(x)).relu()),
    "with a bias": Net(lambda net, x: net.norm(net.conv(x)).relu(), bias=True),
    "not affine": Net(lambda net, x: net.norm(net.conv(x)).relu(), affine=False),
    "changed in place after it": Net(lambda net, x: net.norm(net.conv(x)).relu_()),
}
NOT_FOLDABLE = {
    "used twice": Net(lambda net, x: (y := net.conv(x)).tanh() + net.norm(y)),
    "changed in place before it": Net(lambda net, x: net.norm(net.conv(x).relu_())),
    "called twice": Net(lambda net, x: net.norm(net.conv(x)) + net.conv(x.flip(2))),
    "norm called twice": Net(lambda net, x: net.norm(net.norm(net.conv(x)))),
    "a view": Net(lambda net, x: net.norm(net.conv(x).flip(3))),
    "before the convolution": nn.Sequential(
        nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 4, 5), nn.Flatten()
    ),
}


def products(model, inputs, folding):
    labels = torch.arange(len(inputs)) % 4
    operator = HessianOperator(model, inputs, labels, hvp=double_backward)
    v = torch.linspace(-1, 1, operator.dim, dtype=torch.float64)
    plain = operator.matvec(v)
    with folding.applied():
        return plain, operator.matvec(v)


@pytest.mark.parametrize("name", [*FOLDABLE, *NOT_FOLDABLE])
def test_outputs_and_curvature_stay(name):
    model = used((FOLDABLE | NOT_FOLDABLE)[name])
    inputs = torch.randn(6, 2, 5, 5, dtype=torch.float64)
    before = model(inputs)
    folding = find_folding(model, inputs[:2])
    assert len(folding.pairs) == (name in FOLDABLE)
    assert len(folding.lone) == (name in NOT_FOLDABLE)
    with folding.applied():
        torch.testing.assert_close(model(inputs), before, **EXACT)
    assert torch.equal(model(inputs), before)
    plain, folded = products(model, inputs, folding)
    torch.testing.assert_close(folded, plain, **EXACT)


@pytest.mark.parametrize("shape, folds", [((6, 5), 1), ((6, 3, 5), 0)])
def test_a_linear_layer_folds_where_its_channels_are_those_of_the_norm(shape, folds):
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(3)
    model = used(nn.Sequential(nn.Linear(5, 3), norm, nn.Flatten(), nn.LazyLinear(4)), shape)
    inputs = torch.randn(shape, dtype=torch.float64)
    folding = find_folding(model, inputs[:2])
    assert (len(folding.pairs), len(folding.lone)) == (folds, 1 - folds)
    plain, folded = products(model, inputs, folding)
    torch.testing.assert_close(folded, plain, **EXACT)


def test_statistics_of_the_batch_are_left_alone():
    model = used(Net(lambda net, x: net.norm(net.conv(x)), track_running_stats=False))
    assert find_folding(model, torch.randn(2, 2, 5, 5, dtype=torch.float64)) == Folding()
    model = used(Net(lambda net, x: net.norm(net.conv(x)))).train()
    assert find_folding(model, torch.randn(2, 2, 5, 5, dtype=torch.float64)) == Folding()


def test_a_model_that_raises_is_found_as_it_was():
    model = used(FOLDABLE["plain"])
    folding = find_folding(model, torch.randn(2, 2, 5, 5, dtype=torch.float64))
    with pytest.raises(RuntimeError), folding.applied():
        model(torch.randn(2, 1, 5, 5, dtype=torch.float64))
    assert not any("forward" in vars(module) for module in model.modules())
    with pytest.raises(RuntimeError):
        find_folding(model, torch.randn(2, 1, 5, 5, dtype=torch.float64))
    assert not any(module._forward_hooks for module in model.modules())


SMALL = {
    "basic": partial(ResNet, block="basic", depths=(1, 2, 1), widths=(4, 6, 8)),
    "bottleneck": partial(ResNet, block="bottleneck", depths=(1, 1), widths=(4, 6)),
    "wide": partial(WideResNet, depth=16, widen_factor=1),
}


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_network_of_ours(name):
    """All layer types: the product of every way that an operator may choose is the plain one."""
    torch.manual_seed(0)
    model = SMALL[name](in_channels=1, num_classes=10).double()
    use_dense_convolutions(model)
    inputs, labels = torch.randn(3, 1, 8, 8, dtype=torch.float64), torch.tensor([1, 5, 7])
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(8, 1, 8, 8, dtype=torch.float64))
    with evaluation_mode(model):
        folding = find_folding(model, inputs[:2])
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(folding.pairs) + len(folding.lone) == len(norms)
    assert bool(folding.lone) == (name == "wide")
    plain = HessianOperator(model, inputs, labels, hvp=double_backward)
    v = torch.linspace(-1, 1, plain.dim, dtype=torch.float64)
    expected = plain.matvec(v)
    for size in (2, 3):
        operator = HessianOperator(model, inputs, labels, physical_batch_size=size)
        assert operator.method.keeps_graph == (size == 3)
        assert operator.method.folding.pairs == folding.pairs
        error = torch.linalg.vector_norm(operator.matvec(v) - expected)
        assert error <= 1e-9 * torch.linalg.vector_norm(expected)


def test_outputs_that_are_no_tensor_fold_nothing(problem):
    """The loss may take any part of them, a convolution's own output as well."""
    model, inputs, labels = problem()

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return {"logits": self.model(x)}

    def loss_fn(outputs, labels):
        return nn.functional.cross_entropy(outputs["logits"], labels)

    named = HessianOperator(Named(), inputs, labels, loss_fn=loss_fn)
    v = torch.randn(named.dim, dtype=named.dtype)
    torch.testing.assert_close(named.matvec(v), HessianOperator(model, inputs, labels).matvec(v))
