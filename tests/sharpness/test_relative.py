import pytest
import torch
from torch import nn

from samsweep.sharpness import adaptive_lambda_max, relative_flatness


@pytest.mark.parametrize("batchnorm", [True, False])
def test_matches_the_dense_hessian(problem, dense_hessian, batchnorm):
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
    """With a head beside them they are a part of the weights: ||w||² follows the whole."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6, eps=1e-12, affine=False, momentum=1.0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), norm, nn.Tanh(), nn.Linear(6, 3)).double()
    model[3].requires_grad_(head == "trained")
    inputs, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(3, (30,))

    def measured():
        model(inputs)  # running statistics follow the weights
        return [
            measure(model, inputs, labels, tolerance=1e-8).values[0]
            for measure in (relative_flatness, adaptive_lambda_max)
        ]

    scaled, adaptive = measured()
    with torch.no_grad():
        model[0].weight.mul_(3)
    again = measured()
    assert again[1] == pytest.approx(adaptive, rel=1e-6)
    assert (again[0] == pytest.approx(scaled, rel=1e-6)) == (head == "frozen")
