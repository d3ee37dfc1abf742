import copy
import warnings

import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.nn.functional import cross_entropy

from samsweep.sharpness import (
    adaptive_lambda_max,
    lambda_max,
    relative_flatness,
    top_eigenvalues,
)


def dense_top(dense_hessian, problem, k):
    return torch.linalg.eigvalsh(dense_hessian(*problem)).flip(0)[:k].tolist()


@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize(
    "dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-4), (torch.float64, 1e-10)]
)
def test_matches_the_dense_hessian(problem, dense_hessian, batchnorm, dtype, tolerance):
    true = dense_top(dense_hessian, problem(batchnorm=batchnorm), 5)
    model, inputs, labels = problem(batchnorm=batchnorm)
    found = top_eigenvalues(
        model.to(dtype), inputs.to(dtype), labels, k=5, tolerance=tolerance, physical_batch_size=4
    )
    assert found.converged
    assert found.values == pytest.approx(true, abs=tolerance * true[0])
    assert max(found.error_estimates) <= tolerance * true[0]
    largest = lambda_max(model, inputs.to(dtype), labels, tolerance=tolerance)
    assert largest == pytest.approx(true[0], rel=tolerance)


@pytest.mark.parametrize("weight_decay", [0.1, 25.0])
def test_weight_decay_shifts_lambda_max_by_itself(problem, weight_decay):
    model, inputs, labels = problem()

    def decayed(outputs, labels):
        penalty = sum(p.square().sum() for p in model.parameters())
        return cross_entropy(outputs, labels) + weight_decay / 2 * penalty

    plain = lambda_max(model, inputs, labels, tolerance=1e-10)
    shifted = lambda_max(
        model, inputs, labels, tolerance=1e-10, loss_fn=decayed, physical_batch_size=4
    )
    assert shifted - plain == pytest.approx(weight_decay, abs=1e-6)


@pytest.mark.parametrize("batchnorm", [True, False])
def test_relative_curvature_matches_the_dense_hessian(problem, dense_hessian, batchnorm):
    model, inputs, labels = problem(batchnorm=batchnorm)
    dense = dense_hessian(model, inputs, labels)
    w = torch.cat([p.detach().flatten() for p in model.parameters()])
    scaled = (w @ w * torch.linalg.eigvalsh(dense)[-1]).item()
    adaptive = torch.linalg.eigvalsh(w.abs()[:, None] * dense * w.abs())[-1].item()
    for measure, true in ((relative_flatness, scaled), (adaptive_lambda_max, adaptive)):
        found = measure(model, inputs, labels, tolerance=1e-8)
        assert found.values[0] == pytest.approx(true, rel=1e-7)
        assert found.error_estimates[0] <= 1e-8 * true
        assert found.converged
        assert found.weight_norm == pytest.approx(w.norm().item())


@pytest.mark.parametrize("head", ["frozen", "trained"])
def test_rescaled_weights_before_a_batchnorm(head):
    """The trap: lambda_max(a w) = lambda_max(w) / a² where BatchNorm undoes a.

    With a head beside them they are a part of the weights: ||w||² follows the whole.
    """
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6, eps=1e-12, affine=False, momentum=1.0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), norm, nn.Tanh(), nn.Linear(6, 3)).double()
    model[3].requires_grad_(head == "trained")
    inputs, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(3, (30,))

    def measured():
        model(inputs)  # running statistics follow the weights
        plain = lambda_max(model, inputs, labels, tolerance=1e-8)
        return plain, *(
            measure(model, inputs, labels, tolerance=1e-8).values[0]
            for measure in (relative_flatness, adaptive_lambda_max)
        )

    plain, scaled, adaptive = measured()
    with torch.no_grad():
        model[0].weight.mul_(3)
    again = measured()
    assert again[2] == pytest.approx(adaptive, rel=1e-6)
    assert (again[1] == pytest.approx(scaled, rel=1e-6)) == (head == "frozen")
    assert (again[0] == pytest.approx(plain / 9, rel=1e-6)) == (head == "frozen")


def test_a_curvature_that_is_not_finite_is_an_error():
    model = nn.Linear(2, 2)

    def sharp(outputs, labels):
        return (outputs - outputs.detach()).abs().pow(1.5).mean()  # finite, with a cusp

    with pytest.raises(FloatingPointError, match="product 1 of the operator is not finite"):
        lambda_max(model, torch.ones(3, 2), torch.zeros(3), loss_fn=sharp)


@pytest.mark.slow
def test_agrees_with_pyhessian_on_a_trained_resnet(trained):
    model, inputs, labels = trained
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyhessian import hessian

        torch.manual_seed(0)
        reference = hessian(
            copy.deepcopy(model), nn.CrossEntropyLoss(), data=(inputs, labels), cuda=False
        )
        # Its power iteration stops when an estimate barely moves, before that is right.
        expected, _ = reference.eigenvalues(maxIter=500, tol=1e-7, top_n=2)
    found = top_eigenvalues(model, inputs, labels, k=2, physical_batch_size=50)
    assert found.values == pytest.approx(expected, rel=1e-4)


def test_few_products_on_a_trained_network(trained):
    one, five = (top_eigenvalues(*trained, k=k) for k in (1, 5))
    assert one.converged and five.converged
    assert one.num_hvps <= 12 and five.num_hvps <= 30
    assert one.values[0] == pytest.approx(five.values[0], rel=1e-4)


def test_five_at_a_loose_tolerance_are_the_five_largest(trained):
    true = top_eigenvalues(*trained, k=5, tolerance=1e-5).values
    for seed, tolerance in enumerate([0.1, 0.1, 0.03, 0.01]):
        found = top_eigenvalues(*trained, k=5, tolerance=tolerance, seed=seed)
        assert found.converged and found.values == pytest.approx(true, rel=2e-2)


def test_eigenvectors_on_request(problem, dense_hessian):
    model, inputs, labels = problem()
    dense = dense_hessian(model, inputs, labels)
    found = top_eigenvalues(model, inputs, labels, k=3, tolerance=1e-10, eigenvectors=True)
    values, vectors = torch.tensor(found.values, dtype=torch.float64), found.eigenvectors
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(vectors @ dense, values[:, None] * vectors, rtol=0, atol=1e-4)
    assert top_eigenvalues(model, inputs, labels, k=3).eigenvectors is None


@pytest.mark.slow
def test_agrees_with_curvlinops_and_scipy_on_a_trained_resnet(trained):
    curvlinops = pytest.importorskip("curvlinops")
    model, inputs, labels = trained
    model = copy.deepcopy(model).eval()
    operator = curvlinops.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [(inputs, labels)]
    )
    expected = eigsh(operator.to_scipy(), k=3, which="LA", tol=1e-4, return_eigenvectors=False)[
        ::-1
    ]
    found = top_eigenvalues(model, inputs, labels, k=3)
    assert found.values == pytest.approx(expected, rel=2e-4)


@pytest.mark.gpu
def test_a_gpu_that_may_use_tf32_gives_the_same(trained):
    model, inputs, labels = trained
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        on_gpu = lambda_max(copy.deepcopy(model).cuda(), inputs, labels)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert on_gpu == pytest.approx(lambda_max(model, inputs, labels), rel=2e-4)
