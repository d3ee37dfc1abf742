"""Cross-entropies without subtractions: torch's numbers, and digits where torch's have none."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samsweep.sharpness import ggn_trace, hessian_trace, top_eigenvalues
from samsweep.sharpness.exact_losses import (
    EXACT,
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
)
from samsweep.sharpness.float64_loss import loss_in_float64

F64 = torch.float64


def drawn(*shape):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(0)) * 2


def assert_same_curvature(ours, theirs, z):
    torch.testing.assert_close(ours(z), theirs(z), rtol=1e-12, atol=0)
    hessians = [torch.autograd.functional.hessian(f, z) for f in (ours, theirs)]
    torch.testing.assert_close(*hessians, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_cross_entropy_is_torchs(soft, reduction, smoothing, weighted, ignored):
    labels = torch.softmax(drawn(6, 4), 1) if soft else torch.tensor([0, 1, 2, 3, 2, 0])
    keys = {
        "weight": drawn(4).abs() if weighted else None,
        "label_smoothing": smoothing,
        "reduction": reduction,
        **({} if soft else {"ignore_index": ignored}),
    }
    torch.testing.assert_close(
        cross_entropy(drawn(6, 4), labels, **keys), F.cross_entropy(drawn(6, 4), labels, **keys)
    )
    if reduction != "none":
        assert_same_curvature(
            lambda z: cross_entropy(z, labels, **keys),
            lambda z: F.cross_entropy(z, labels, **keys),
            drawn(6, 4),
        )


def test_cross_entropy_of_other_shapes_is_torchs():
    z, labels = drawn(2, 4, 3, 5), torch.randint(0, 4, (2, 3, 5))
    keys = {"label_smoothing": 0.1, "weight": drawn(4).abs()}
    torch.testing.assert_close(cross_entropy(z, labels, **keys), F.cross_entropy(z, labels, **keys))
    one = z[0, :, 0, 0], labels[0, 0, 0]
    torch.testing.assert_close(cross_entropy(*one, **keys), F.cross_entropy(*one, **keys))
    torch.testing.assert_close(log_softmax(z, -1), F.log_softmax(z, -1))
    summed = {"size_average": False}
    torch.testing.assert_close(
        cross_entropy(z, labels, **summed), F.cross_entropy(z, labels, reduction="sum")
    )


@pytest.mark.parametrize(("weighted", "positive"), [*itertools.product([False, True], repeat=2)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_binary_cross_entropy_is_torchs(weighted, positive, reduction):
    target, row = torch.rand(6, 4, dtype=F64), drawn(4).abs()
    keys = {
        "weight": row if weighted else None,
        "pos_weight": row if positive else None,
        "reduction": reduction,
    }
    assert_same_curvature(
        lambda z: binary_cross_entropy_with_logits(z, target, **keys),
        lambda z: F.binary_cross_entropy_with_logits(z, target, **keys),
        drawn(6, 4),
    )
    zero = torch.zeros(3, dtype=F64)
    curvature = torch.autograd.functional.hessian(
        lambda z: binary_cross_entropy_with_logits(z, zero + 1, reduction="sum"), zero
    )
    assert curvature.diag().tolist() == [0.25] * 3


@pytest.mark.parametrize("margin", [1.0, 30.0, 80.0, 300.0])
@pytest.mark.parametrize("label", [0, 1])
def test_every_derivative_keeps_its_digits(margin, label):
    """Of a class that is all but certain, fitted or mistaken: in closed form."""
    z, target = torch.tensor([[0.0, margin]], dtype=F64), torch.tensor([label])
    probability = math.exp(-margin) / (1 + math.exp(-margin))
    for loss in (
        lambda z: cross_entropy(z, target),
        lambda z: binary_cross_entropy_with_logits(z[:, 1] - z[:, 0], target.double()),
    ):
        at = z.clone().requires_grad_()
        value = loss(at)
        (slope,) = torch.autograd.grad(value, at)
        other = probability if label == 1 else 1 / (1 + math.exp(-margin))
        assert slope[0, label].item() == pytest.approx(-other, rel=1e-12)
        hessian = torch.autograd.functional.hessian(loss, z)[0, :, 0]
        curvature = probability / (1 + math.exp(-margin))
        assert hessian.diagonal().tolist() == pytest.approx([curvature] * 2, rel=1e-12)


@pytest.mark.parametrize(
    "loss_fn",
    [
        F.cross_entropy,
        nn.CrossEntropyLoss(),
        lambda z, y: F.nll_loss(z.log_softmax(dim=1), y),
        lambda z, y: F.nll_loss(torch.log_softmax(z, 1), y),
        lambda z, y: F.nll_loss(nn.LogSoftmax(dim=1)(z), y),
    ],
)
def test_a_loss_of_float32_outputs_is_computed_so(loss_fn):
    z = torch.tensor([[0.0, 80.0]])
    assert loss_in_float64(loss_fn, z, torch.tensor([1])).item() == pytest.approx(math.exp(-80))
    assert F.cross_entropy in EXACT


def probe(scale, wrong):
    """A linear model of 200 examples, some mislabelled, and its Hessian in closed form."""
    torch.manual_seed(0)
    centres = torch.eye(3) * 3
    labels = torch.randint(3, (200,))
    x = centres[labels] + 0.3 * torch.randn(200, 3)
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight.copy_(scale * centres)
        model.bias.zero_()
    labels[wrong] = (labels[wrong] + 1) % 3
    inputs = torch.cat([x.double(), torch.ones(200, 1, dtype=F64)], 1)
    p = torch.softmax(x.double() @ model.weight.detach().double().T, 1)
    hessian = torch.zeros(12, 12, dtype=F64)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        e = torch.zeros(3, dtype=F64)
        e[i], e[j] = 1, -1
        rows = torch.einsum("c,nd->ncd", e, inputs).flatten(1)
        hessian += (rows * (p[:, i] * p[:, j])[:, None]).T @ rows / 200
    return model, x, labels, hessian


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("wrong", [slice(-8, None), slice(0, 8)], ids=["last", "first"])
def test_mislabelled_examples_hide_no_curvature(scale, wrong):
    """The loss is up to 2.8, the curvature down to 1e-19."""
    model, x, labels, hessian = probe(scale, wrong)
    found = top_eigenvalues(model, x, labels, k=1)
    true = torch.linalg.eigvalsh(hessian)[-1].item()
    assert found.converged
    assert found.values[0] == pytest.approx(true, rel=1e-4)
    assert abs(found.values[0] - true) <= found.error_bounds[0]
    for trace in (hessian_trace, ggn_trace):
        value = trace(model, x, labels)
        assert value.converged
        assert value.value == pytest.approx(
            hessian.trace().item(), rel=1e-4, abs=5 * value.standard_error
        )


@pytest.mark.parametrize("scale", [1, 4, 8])
@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda z, y: (z.logsumexp(1) - z.gather(1, y[:, None])[:, 0]).mean(),
        lambda z, y: F.nll_loss(z.softmax(1).log(), y),
        lambda z, y: F.nll_loss(nn.LogSoftmax(1)(z), y),
        lambda z, y: F.nll_loss(torch.special.log_softmax(z, 1), y),
        partial(F.cross_entropy, label_smoothing=0.0),
        lambda z, y: F.binary_cross_entropy(z.softmax(1), F.one_hot(y, 3).to(z)),
    ],
)
def test_other_losses_of_confident_mistakes_are_right_or_not_converged(loss_fn, scale):
    model, x, labels, hessian = probe(scale, slice(-8, None))
    found = top_eigenvalues(model, x, labels, k=1, loss_fn=loss_fn)
    if scale == 1 or found.converged:
        assert found.converged
        of_loss = torch.autograd.functional.hessian(
            lambda w: loss_fn(x.double() @ w[:9].view(3, 3).T + w[9:], labels),
            torch.cat([p.detach().double().flatten() for p in model.parameters()]),
        )
        # In float64 the loss has its digits at the smallest scale; the others have cross-entropy's.
        dense = of_loss if scale == 1 else hessian
        assert found.values[0] == pytest.approx(torch.linalg.eigvalsh(dense)[-1].item(), rel=1e-4)


@pytest.mark.parametrize("margin", [2.0, 60.0])
def test_other_binary_losses_are_right_or_not_converged(margin):
    torch.manual_seed(0)
    x = torch.randn(50, 2)
    target = (x[:, 0] > 0).float()
    target[:4] = 1 - target[:4]
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Flatten(0))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[margin, 0.0]]))
    expected = top_eigenvalues(model, x, target, k=1, loss_fn=F.binary_cross_entropy_with_logits)
    assert expected.converged
    for loss_fn in (
        lambda z, y: F.binary_cross_entropy(z.sigmoid(), y),
        lambda z, y: F.softplus((1 - 2 * y) * z).mean(),
        lambda z, y: -F.logsigmoid((2 * y - 1) * z).mean(),
        lambda z, y: F.soft_margin_loss(z, 2 * y - 1),
    ):
        found = top_eigenvalues(model, x, target, k=1, loss_fn=loss_fn)
        assert found.converged or margin > 2
        if found.converged:
            assert found.values[0] == pytest.approx(expected.values[0], rel=1e-4)


def test_curvature_below_the_smallest_float32_is_not_converged():
    model, x, labels, _ = probe(1e4, slice(0, 0))
    found = top_eigenvalues(model, x, labels, k=1)
    assert (found.values[0], found.error_bounds[0], found.converged) == (0.0, math.inf, False)
    assert not ggn_trace(model, x, labels).converged
