import copy
import warnings

import pytest
import torch
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.nn.functional import cross_entropy

from samsweep.sharpness import lambda_max, top_eigenvalues


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


def test_eval_mode_is_used_whatever_mode_the_model_is_in(problem):
    model, inputs, labels = problem()
    assert model.training
    in_train_mode = lambda_max(model, inputs, labels)
    assert model.training
    assert lambda_max(model.eval(), inputs, labels) == in_train_mode


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


def test_scale_of_batchnorm_invariant_weights(problem):
    """The trap: lambda_max(a w) = lambda_max(w) / a² where BatchNorm undoes a."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6, eps=1e-12, affine=False, momentum=1.0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), norm, nn.Tanh(), nn.Linear(6, 3)).double()
    model[3].requires_grad_(False)
    inputs, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(3, (30,))

    def sharpness():
        model(inputs)  # running statistics follow the weights
        return lambda_max(model, inputs, labels, tolerance=1e-8)

    before = sharpness()
    with torch.no_grad():
        model[0].weight.mul_(3)
    assert sharpness() == pytest.approx(before / 9, rel=1e-6)


def test_a_seed_decides_everything(problem):
    first, again, other = (
        top_eigenvalues(*problem(dtype=torch.float32), k=2, seed=seed) for seed in (3, 3, 4)
    )
    assert (first.values, first.error_bounds) == (again.values, again.error_bounds)
    assert first.error_bounds != other.error_bounds


def test_reports_what_it_cost(problem):
    model, inputs, labels = problem()
    found = top_eigenvalues(model, inputs, labels, k=3, max_hvps=4)
    assert found.num_hvps == 4 and not found.converged
    assert found.seconds > 0
    assert found.loss == pytest.approx(cross_entropy(model.eval()(inputs), labels).item())


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_diverged_network_is_an_error(problem, weight):
    model, inputs, labels = problem()
    nn.init.constant_(model.head.weight, weight)
    with pytest.raises(FloatingPointError, match="the mean loss is nan"):
        lambda_max(model, inputs, labels)
    assert model.training


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
    for value, vector in zip(found.values, found.eigenvectors, strict=True):
        assert vector.norm().item() == pytest.approx(1)
        torch.testing.assert_close(dense @ vector, value * vector, rtol=0, atol=1e-4)
    assert top_eigenvalues(model, inputs, labels, k=3).eigenvectors is None


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
