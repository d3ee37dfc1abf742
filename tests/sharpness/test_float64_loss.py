"""Networks that fit their data: float32 weights, against float64 throughout."""

import copy
import functools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax, nll_loss

from samsweep.sharpness import (
    HessianOperator,
    MeanLoss,
    adaptive_lambda_max,
    average_case,
    fisher_trace,
    ggn_trace,
    hessian_trace,
    landscape,
    relative_flatness,
    sam_gap,
    spectral_density,
    top_eigenvalues,
    worst_case,
)

LOSSES = [3.0, 6e-4, 1e-5, 2e-7, 3e-8, 3e-9, 1e-10]
WITHIN = 1e-4


def doubled(problem):
    model, inputs, labels = problem
    return copy.deepcopy(model).double(), inputs.double(), labels


@pytest.mark.parametrize("size", [4, 11])
@pytest.mark.parametrize("loss", LOSSES)
def test_eigenvalues_and_trace_are_those_of_the_dense_hessian(fitted, dense_hessian, loss, size):
    problem = fitted(loss)
    dense = dense_hessian(*doubled(problem))
    true = torch.linalg.eigvalsh(dense).flip(0)
    found = top_eigenvalues(*problem, k=5, physical_batch_size=size)
    assert found.converged and found.loss_rounding <= WITHIN
    assert found.loss == pytest.approx(loss, rel=WITHIN)
    assert found.values == pytest.approx(true[:5].tolist(), abs=WITHIN * true[0].item())
    assert found.values[0] == pytest.approx(true[0].item(), rel=2e-5)
    if size == 11:
        trace = hessian_trace(*problem, num_samples=3 * len(dense) + 2)
        assert trace.converged and trace.value == pytest.approx(dense.trace().item(), rel=WITHIN)
    sizes = torch.cat([p.detach().flatten() for p in problem[0].parameters()]).abs().double()
    adaptive = torch.linalg.eigvalsh(sizes[:, None] * dense * sizes)[-1].item()
    assert adaptive_lambda_max(*problem).values[0] == pytest.approx(adaptive, rel=WITHIN)
    relative = (sizes.square().sum() * true[0]).item()
    assert relative_flatness(*problem).values[0] == pytest.approx(relative, rel=WITHIN)


#: With the noise that float32 draws, which float64 has to be given.
MEASURES = {
    "ggn_trace": functools.partial(ggn_trace, num_samples=10),
    "fisher_trace": functools.partial(fisher_trace, num_samples=10),
    "sam_gap": functools.partial(sam_gap, rho=0.1),
    "worst_case": functools.partial(worst_case, rho=0.1),
    "worst_case_linf": functools.partial(worst_case, rho=0.01, norm="linf"),
    "worst_case_adaptive": functools.partial(worst_case, rho=0.5, adaptive=True),
    "average_case": functools.partial(average_case, rho=0.1, num_samples=5),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_that_of_float64(fitted, loss, name, monkeypatch):
    draw = torch.randn
    monkeypatch.setattr(
        torch, "randn", lambda *a, dtype, **k: draw(*a, dtype=torch.float32, **k).to(dtype)
    )
    problem = fitted(loss)
    found, true = MEASURES[name](*problem), MEASURES[name](*doubled(problem))
    assert found.converged and found.loss_rounding <= WITHIN
    assert found.value == pytest.approx(true.value, rel=WITHIN)


def test_a_rise_in_float64_leaves_the_network_as_it_was(fitted):
    model, inputs, labels = fitted(1e-6)
    before = copy.deepcopy(model.state_dict())
    sam_gap(model, inputs, labels, rho=0.1)
    after = model.state_dict()
    assert all(after[name].dtype == value.dtype for name, value in before.items())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_rise_sees_a_penalty_at_the_weights_it_moves_to(fitted):
    """A loss that takes weights from the model: they are those in float64, and moved."""
    model, inputs, labels = fitted(1e-6)

    def loss_at(model, outputs, labels):
        return cross_entropy(outputs, labels) + 1e-8 * sum(
            p.square().sum() for p in model.parameters()
        )

    found = sam_gap(model, inputs, labels, rho=0.1, loss_fn=functools.partial(loss_at, model))
    double, inputs, labels = doubled((model, inputs, labels))
    loss = loss_at(double, double(inputs), labels)
    gradient = torch.autograd.grad(loss, list(double.parameters()))
    length = torch.cat([g.flatten() for g in gradient]).norm()
    with torch.no_grad():
        for p, g in zip(double.parameters(), gradient, strict=True):
            p.add_(0.1 * g / length)
        rise = (loss_at(double, double(inputs), labels) - loss).item()
    assert found.value == pytest.approx(rise, rel=1e-9)


class Float32Inside(nn.Module):
    """A network that cannot be had in float64."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x) @ torch.eye(5, dtype=torch.float32)


@pytest.mark.parametrize("loss, converges", [(3.0, True), (1e-5, False)])
def test_a_rise_that_float32_cannot_give_is_not_converged(fitted, loss, converges):
    model, inputs, labels = fitted(loss)
    found = sam_gap(Float32Inside(model), inputs, labels, rho=0.1)
    assert found.converged == converges
    assert (found.loss_rounding > WITHIN) != converges


def large_logits(problem):
    """The same mean loss to a factor, from logits of about a thousand that nearly cancel."""
    model, inputs, labels = problem
    with torch.no_grad():
        model.head.bias.add_(1000.0)
    return model, inputs, labels


@pytest.mark.parametrize("loss", [3.0, 1e-2, 1e-5, 1e-8])
def test_large_logits_round_and_the_record_says_so(fitted, dense_hessian, loss):
    problem = large_logits(fitted(loss))
    true = torch.linalg.eigvalsh(dense_hessian(*doubled(problem)))
    found = top_eigenvalues(*problem, k=1)
    error = abs(found.values[0] - true[-1].item())
    assert (true - found.values[0]).abs().min() <= found.error_bounds[0]
    assert not found.converged or error <= WITHIN * true[-1].item()
    for name in ("sam_gap", "worst_case"):
        rise, exact = MEASURES[name](*problem), MEASURES[name](*doubled(problem))
        assert rise.converged and rise.value == pytest.approx(exact.value, rel=WITHIN)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
@pytest.mark.parametrize("loss", LOSSES)
def test_some_eigenvalue_lies_within_the_bound_in_float32_too(
    fitted, dense_hessian, loss, tolerance
):
    problem = fitted(loss)
    true = torch.linalg.eigvalsh(dense_hessian(*doubled(problem)))
    found = top_eigenvalues(*problem, k=5, tolerance=tolerance)
    apart = (torch.tensor(found.values, dtype=torch.float64)[:, None] - true).abs().amin(dim=1)
    assert (apart <= torch.tensor(found.error_bounds, dtype=torch.float64)).all()
    assert found.error_bounds[0] >= found.loss_rounding * found.values[0] * 0.5


@pytest.mark.parametrize("loss", LOSSES)
def test_densities_and_slices_are_those_of_float64(fitted, loss):
    problem = fitted(loss)
    found, true = (
        spectral_density(*p, num_vectors=2, num_steps=20) for p in (problem, doubled(problem))
    )
    assert found.converged
    assert found.mean == pytest.approx(true.mean, rel=WITHIN)
    assert found.largest == pytest.approx(true.largest, rel=WITHIN)
    line = landscape(*problem, num_directions=1, num_points=3)
    assert line.loss_rounding <= WITHIN and line.loss == pytest.approx(loss, rel=WITHIN)


@pytest.mark.parametrize("loss", [3.0, 1e-3, 1e-6, 1e-9])
def test_the_fisher_trace_is_the_gauss_newton_trace(fitted, loss):
    """What a network that fits nearly never predicts makes nearly all of it."""
    fisher, ggn = (t(*fitted(loss), num_samples=200) for t in (fisher_trace, ggn_trace))
    spread = math.hypot(fisher.standard_error, ggn.standard_error)
    assert abs(fisher.value - ggn.value) <= 4 * spread
    assert fisher.standard_error < 0.1 * fisher.value


def test_a_loss_below_what_float64_resolves_is_not_converged(fitted):
    def subtracting(outputs, labels):
        return nn.functional.nll_loss(torch.softmax(outputs, dim=1).log(), labels)

    problem = fitted(1e-14)
    for found in (
        top_eigenvalues(*problem, k=1, loss_fn=subtracting),
        hessian_trace(*problem, num_samples=3, loss_fn=subtracting),
    ):
        assert not found.converged and found.loss_rounding > WITHIN


def test_torchs_cross_entropy_is_resolved_below_that(fitted):
    model, inputs, labels = fitted(1e-14)
    found = top_eigenvalues(model, inputs, labels, k=1)
    expected = top_eigenvalues(*doubled((model, inputs, labels)), k=1)
    assert found.converged and found.loss < 1e-13
    assert abs(found.values[0] - expected.values[0]) <= found.error_bounds[0]
    assert ggn_trace(model, inputs, labels, num_samples=3).converged


class LogProbabilities(nn.Sequential):
    """A network that ends in a softmax."""

    def __init__(self, model):
        super().__init__(model, nn.LogSoftmax(dim=1))


def in_float32(outputs, labels):
    return cross_entropy(outputs.float(), labels)


@pytest.mark.parametrize(
    "wrap, loss_fn", [(LogProbabilities, nll_loss), (lambda model: model, in_float32)]
)
def test_a_softmax_in_float32_is_not_converged_where_it_rounds(fitted, wrap, loss_fn):
    for loss, converges in ((0.5, True), (1e-6, False)):
        model, inputs, labels = fitted(loss)
        found = top_eigenvalues(wrap(model), inputs, labels, k=1, loss_fn=loss_fn)
        assert found.converged == converges
        assert (found.loss_rounding > WITHIN) != converges


def hand_written(outputs, labels):
    return -log_softmax(outputs, dim=1)[torch.arange(len(labels)), labels].mean()


@pytest.mark.parametrize(
    "loss_fn",
    [
        hand_written,
        nn.CrossEntropyLoss(weight=torch.ones(5)),
        functools.partial(cross_entropy, weight=torch.ones(5)),
        lambda outputs, labels: torch.nn.functional.kl_div(
            log_softmax(outputs, dim=1), torch.eye(5)[labels], reduction="batchmean"
        ),
    ],
)
def test_losses_of_other_hands_are_in_float64_too(fitted, loss_fn):
    problem = fitted(1e-7)
    expected = top_eigenvalues(*problem, k=1)
    found = top_eigenvalues(*problem, k=1, loss_fn=loss_fn)
    assert found.converged
    assert found.values[0] == pytest.approx(expected.values[0], rel=1e-5)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)


def test_a_loss_that_cannot_take_float64_is_taken_in_float32(fitted):
    class Float32Only(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if x.dtype != torch.float32:
                raise RuntimeError("float32 only")
            return x.clone()

        @staticmethod
        def backward(ctx, slope):
            return slope

    model, inputs, labels = fitted(0.5)
    objective = MeanLoss(
        model, inputs, labels, loss_fn=lambda o, y: cross_entropy(Float32Only.apply(o), y)
    )
    assert objective.epsilon == torch.finfo(torch.float32).eps
    assert objective.value() == pytest.approx(0.5, rel=1e-6)


def test_a_regression_is_left_as_it_is(fitted):
    model, inputs, _ = fitted(0.5)
    targets = torch.randn(11, 5)
    found = top_eigenvalues(model, inputs, targets, k=1, loss_fn=nn.functional.mse_loss)
    expected = top_eigenvalues(
        *doubled((model, inputs, None))[:2], targets.double(), k=1, loss_fn=nn.functional.mse_loss
    )
    assert found.values[0] == pytest.approx(expected.values[0], rel=WITHIN)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_weights_of_any_size(factor):
    """lambda_max(a w) = lambda_max(w) / a², also where its square leaves float32."""
    torch.manual_seed(0)
    inputs, labels = torch.randn(20, 4), torch.randint(3, (20,))

    def at(scale):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 3, bias=False))
        with torch.no_grad():
            model[0].weight.mul_(scale)
        return top_eigenvalues(
            model, inputs, labels, k=2, loss_fn=lambda o, y: cross_entropy(o / scale, y)
        )

    plain, scaled = at(1.0), at(factor)
    assert scaled.converged
    assert [v * factor**2 for v in scaled.values] == pytest.approx(plain.values, rel=1e-4)


def test_one_parameter_and_one_example():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.tensor(0.7))

        def forward(self, x):
            return self.a * x

    found = top_eigenvalues(Scale(), torch.tensor([[1.0, 0.0]]), torch.tensor([0]), k=3)
    p = torch.tensor(0.7).sigmoid().item()
    assert found.converged and found.values == pytest.approx([p * (1 - p)], rel=1e-5)
    assert HessianOperator(Scale(), torch.tensor([[1.0, 0.0]]), torch.tensor([0])).dim == 1
