"""Passes that know their own gradient, and parameters that stay where they are."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samsweep.optim import SAM, GradientDescent, frozen_batchnorm, perturbed


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


def base_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def sam(model, **options):
    return SAM(base_of(model), rho=0.1, second_pass=frozen_batchnorm(model), **options)


class Recorded:
    """As a recording works: gradients without a graph, of parameters known by address."""

    def __init__(self, model, images, labels):
        self._model, self._images, self._labels = model, images, labels
        self._addresses = [p.data_ptr() for p in model.parameters()]

    def __call__(self):
        return self.value_and_grad(list(self._model.parameters()))[0]

    def value_and_grad(self, params):
        assert [p.data_ptr() for p in self._model.parameters()] == self._addresses
        loss = F.cross_entropy(self._model(self._images), self._labels)
        return loss.detach(), list(torch.autograd.grad(loss, params))


@pytest.mark.parametrize("make", [lambda m, **_: GradientDescent(base_of(m)), sam])
def test_a_step_from_such_passes_is_the_plain_step_bit_for_bit(make):
    plain, other = network(), network()
    ours, theirs = make(plain, in_place=False), make(other, in_place=True)
    torch.manual_seed(1)
    for _ in range(3):
        images, labels = torch.randn(8, 1, 8, 8), torch.randint(3, (8,))
        expected = ours.step(lambda x=images, y=labels: F.cross_entropy(plain(x), y))
        found = theirs.step(Recorded(other, images, labels))
        assert torch.equal(found.loss, expected.loss)
    for a, b in zip(plain.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_without_in_place_such_a_pass_sees_another_address():
    model = network()
    images, labels = torch.randn(8, 1, 8, 8), torch.randint(3, (8,))
    with pytest.raises(AssertionError):
        sam(model).step(Recorded(model, images, labels))


def test_parameters_come_back_bit_for_bit_in_their_own_memory():
    model = network()
    params = list(model.parameters())
    before, addresses = copy.deepcopy(params), [p.data_ptr() for p in params]
    epsilon = [torch.randn_like(p) for p in params]
    with (
        pytest.raises(RuntimeError, match="second pass"),
        perturbed(params, epsilon, in_place=True),
    ):
        for param, old, change in zip(params, before, epsilon, strict=True):
            assert torch.equal(param, old + change)
        raise RuntimeError("second pass")
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    assert [p.data_ptr() for p in params] == addresses


def test_a_parameter_without_a_gradient_is_left_alone():
    model = network()
    unused = nn.Parameter(torch.ones(2))

    class Partial(Recorded):
        def value_and_grad(self, params):
            loss, grads = super().value_and_grad(params[:-1])
            return loss, [*grads, None]

    images, labels = torch.randn(8, 1, 8, 8), torch.randint(3, (8,))
    base = torch.optim.SGD([*model.parameters(), unused], lr=0.1)
    result = GradientDescent(base).step(Partial(model, images, labels))
    assert len(result.params) == len(list(model.parameters()))
    assert torch.equal(unused, torch.ones(2))
