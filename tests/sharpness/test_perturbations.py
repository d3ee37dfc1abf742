"""Rises against closed forms, for losses that are linear or quadratic in the weights."""

import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from samsweep.sharpness import average_case, sam_gap, worst_case

SLOPE = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 1.0, -2.0, 0.1], dtype=torch.float64)
CURVATURE = torch.diag(torch.tensor([4.0, 1.0, -1.0, 0.5], dtype=torch.float64))
CURVATURE[0, 1] = CURVATURE[1, 0] = 0.7


class Point(nn.Module):
    """Gives its weights, once per example."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(WEIGHTS.clone())

    def forward(self, x):
        return self.w.expand(len(x), -1)


def linear(outputs, labels):
    return (outputs @ SLOPE).mean()


def quadratic(outputs, labels):
    return linear(outputs, labels) + 0.5 * ((outputs @ CURVATURE) * outputs).sum(dim=1).mean()


def point(loss_fn, measure, **settings):
    empty = torch.zeros(6, 1, dtype=torch.float64), torch.zeros(6, dtype=torch.long)
    model = Point()
    found = measure(model, *empty, loss_fn=loss_fn, **settings)
    assert torch.equal(model.w, WEIGHTS) and model.w.grad is None
    return found


@pytest.mark.parametrize(
    "norm, adaptive, expected",
    [
        ("l2", False, SLOPE.norm()),
        ("linf", False, SLOPE.abs().sum()),
        ("l2", True, (SLOPE * WEIGHTS).norm()),
        ("linf", True, (SLOPE * WEIGHTS).abs().sum()),
    ],
)
def test_a_linear_loss_rises_by_rho_times_the_dual_norm(norm, adaptive, expected):
    found = point(linear, worst_case, rho=0.3, norm=norm, adaptive=adaptive)
    assert found.value == pytest.approx(0.3 * expected.item(), rel=1e-9)
    assert found.num_gradients == 20


@pytest.mark.parametrize("rho, within", [(0.1, 1e-4), (1.0, 2e-3)])
def test_a_quadratic_loss_rises_as_the_trust_region_problem_says(rho, within):
    """max gᵀd + dᵀAd/2 in the ball: (mu I - A) d = g on the sphere, mu above A's eigenvalues."""
    gradient = SLOPE + CURVATURE @ WEIGHTS
    values, vectors = torch.linalg.eigh(CURVATURE)
    parts = vectors.T @ gradient
    top = values[-1].item()
    mu = brentq(lambda m: (parts / (m - values)).norm().item() - rho, top + 1e-9, top + 1e6)
    step = vectors @ (parts / (mu - values))
    expected = (gradient @ step + step @ CURVATURE @ step / 2).item()
    found = point(quadratic, worst_case, rho=rho, num_steps=200)
    assert found.value == pytest.approx(expected, rel=within)
    assert found.value <= expected * (1 + 1e-9)


def test_a_step_of_sam():
    gradient = SLOPE + CURVATURE @ WEIGHTS
    unit = gradient / gradient.norm()
    expected = 0.2 * gradient.norm() + 0.02 * unit @ CURVATURE @ unit
    assert point(quadratic, sam_gap, rho=0.2).value == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("adaptive", [False, True])
def test_noise_raises_a_quadratic_loss_by_its_trace(adaptive):
    scale = WEIGHTS.abs() if adaptive else torch.ones(4, dtype=torch.float64)
    expected = 0.5 * 0.3**2 * (scale.square() * CURVATURE.diag()).sum().item()
    found = point(quadratic, average_case, rho=0.3, adaptive=adaptive, num_samples=1_000)
    assert abs(found.value - expected) <= 4 * found.standard_error
    assert 0 < found.standard_error < 0.08


def test_a_flat_loss_does_not_rise():
    for measure in (worst_case, sam_gap, average_case):
        assert point(lambda outputs, _: 0 * outputs.sum(), measure, rho=0.1).value == 0


def test_batches_have_their_own_worst_case(problem):
    """The mean over batches, of which an incomplete last one is left out."""
    model, inputs, labels = problem()
    both = worst_case(model, inputs, labels, rho=0.5, batch_size=5)
    each = [
        worst_case(model, inputs[i : i + 5], labels[i : i + 5], rho=0.5, batch_size=5)
        for i in (0, 5)
    ]
    assert both.num_samples == 2
    assert both.value == pytest.approx((each[0].value + each[1].value) / 2, rel=1e-9)
    assert both.standard_error == pytest.approx(abs(each[0].value - each[1].value) / 2, rel=1e-6)
    assert each[0].standard_error is None
    together = worst_case(model, inputs[:10], labels[:10], rho=0.5, batch_size=10)
    assert together.value < both.value


def test_more_steps_find_no_less(problem):
    few, many = (worst_case(*problem(), rho=0.5, num_steps=n).value for n in (1, 30))
    assert 0 < few < many
    assert sam_gap(*problem(), rho=0.5, batch_size=11).value <= many


@pytest.mark.parametrize(
    "measure",
    [
        lambda *p, **k: worst_case(*p, rho=1e4, **k),
        lambda *p, **k: sam_gap(*p, rho=1e4, **k),
        lambda *p, **k: average_case(*p, rho=1e4, **k),
    ],
)
def test_a_loss_that_overflows_is_no_rise(measure):
    with pytest.raises(FloatingPointError, match=r"within rho=10000.0 of the weights: choose a sm"):
        measure(Point(), torch.zeros(3, 1), torch.zeros(3), loss_fn=lambda o, _: o.exp().mean())
