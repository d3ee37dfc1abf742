"""Traces against dense matrices: exact where they can be, else unbiased with honest errors."""

import copy
import math
import statistics
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.functional import softmax

from samsweep.sharpness import fisher_trace, ggn_trace, hessian_trace


def dense_ggn_trace(model, inputs):
    """tr 1/N sum J_iᵀ (diag(p_i) - p_i p_iᵀ) J_i, from the outputs' Jacobians."""
    model.eval()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    weights = {name: dict(model.named_parameters())[name].detach() for name in names}
    jacobians = jacrev(lambda w: functional_call(model, w, (inputs,)))(weights)
    flat = torch.cat([j.flatten(2) for j in jacobians.values()], dim=2)
    p = softmax(model(inputs).detach(), dim=1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("ncd,nce,ned->", flat, inner, flat).item() / len(inputs)


def dense_hessian_trace(dense_hessian, problem):
    return dense_hessian(*problem).trace().item()


def assert_unbiased(true, estimates):
    """Mean within four standard errors, and errors that are as large as they say."""
    values = [estimate.value for estimate in estimates]
    spread = statistics.stdev(values)
    assert abs(statistics.fmean(values) - true) <= 4 * spread / math.sqrt(len(values))
    claimed = math.sqrt(statistics.fmean(e.standard_error**2 for e in estimates))
    assert claimed == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize("batchnorm", [True, False])
def test_trace_is_unbiased_with_an_honest_error(problem, dense_hessian, batchnorm):
    true = dense_hessian_trace(dense_hessian, problem(batchnorm=batchnorm))
    estimates = [
        hessian_trace(*problem(batchnorm=batchnorm), num_samples=12, seed=seed)
        for seed in range(60)
    ]
    assert_unbiased(true, estimates)


def test_trace_is_exact_once_the_basis_holds_everything(problem, dense_hessian):
    model, inputs, labels = problem()
    found = hessian_trace(model, inputs, labels, num_samples=3 * 143 + 2)
    true = dense_hessian_trace(dense_hessian, problem())
    assert found.value == pytest.approx(true, rel=1e-9)
    assert found.standard_error == pytest.approx(0, abs=1e-9 * true)
    assert (found.num_hvps, found.num_samples) == (3 * 143 + 2, 143 + 2)


def test_a_basis_of_the_largest_eigenvalues_helps(problem):
    """A third of the products spent on it leaves less to chance than plain Hutchinson."""
    many = hessian_trace(*problem(), num_samples=60)
    plain = [hessian_trace(*problem(), num_samples=2, seed=seed).value for seed in range(30)]
    hutchinson = statistics.stdev(plain) * math.sqrt(2) / math.sqrt(60)
    assert many.standard_error < hutchinson / 1.5


@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize("measure", [ggn_trace, fisher_trace])
def test_gauss_newton_and_fisher_are_unbiased(problem, batchnorm, measure):
    """For cross-entropy they are the same matrix, reached in two ways."""
    model, inputs, labels = problem(batchnorm=batchnorm)
    true = dense_ggn_trace(model, inputs)
    estimates = [measure(model, inputs, labels, num_samples=20, seed=seed) for seed in range(20)]
    assert_unbiased(true, estimates)


def test_fisher_does_not_look_at_the_labels(problem):
    model, inputs, labels = problem()
    other = fisher_trace(model, inputs, (labels + 1) % 5, num_samples=3)
    assert other.value == fisher_trace(model, inputs, labels, num_samples=3).value


def test_agrees_with_curvlinops(problem):
    curvlinops = pytest.importorskip("curvlinops")
    model, inputs, labels = problem()
    params = list(model.parameters())
    operator = curvlinops.GGNLinearOperator(
        model.eval(), nn.CrossEntropyLoss(), params, [(inputs, labels)]
    )
    dense = operator @ torch.eye(operator.shape[1], dtype=torch.float64)
    assert dense_ggn_trace(model, inputs) == pytest.approx(dense.trace().item(), rel=1e-9)


@pytest.mark.slow
def test_agrees_with_the_libraries_on_a_trained_resnet(trained):
    """Both estimates within four standard errors of ours and theirs."""
    curvlinops = pytest.importorskip("curvlinops")
    model, inputs, labels = trained
    model = copy.deepcopy(model).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyhessian import hessian

        torch.manual_seed(0)
        theirs = hessian(copy.deepcopy(model), nn.CrossEntropyLoss(), (inputs, labels), cuda=False)
        samples = theirs.trace(maxIter=40, tol=0.0)
    ours = hessian_trace(model, inputs, labels, num_samples=60)
    apart = abs(ours.value - statistics.fmean(samples))
    spread = statistics.stdev(samples) / math.sqrt(len(samples))
    assert apart <= 4 * math.hypot(ours.standard_error, spread)

    operator = curvlinops.GGNLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [(inputs, labels)]
    )
    probes = [
        2.0 * torch.randint(2, (operator.shape[1],), generator=torch.Generator().manual_seed(i)) - 1
        for i in range(40)
    ]
    samples = [torch.dot(z, operator @ z).item() for z in probes]
    spread = statistics.stdev(samples) / math.sqrt(len(samples))
    for measure in (ggn_trace, fisher_trace):
        ours = measure(model, inputs, labels, num_samples=100)
        apart = abs(ours.value - statistics.fmean(samples))
        assert apart <= 4 * math.hypot(ours.standard_error, spread)
