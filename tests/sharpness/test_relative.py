import pytest
import torch
from torch import nn

from samsweep.sharpness import relative_flatness


@pytest.mark.parametrize("batchnorm", [True, False])
def test_matches_the_dense_hessian(problem, dense_hessian, batchnorm):
    model, inputs, labels = problem(batchnorm=batchnorm)
    dense = dense_hessian(model, inputs, labels)
    w = torch.cat([p.detach().flatten() for p in model.parameters()])
    found = relative_flatness(model, inputs, labels, tolerance=1e-8)
    scaled = (w @ w * torch.linalg.eigvalsh(dense)[-1]).item()
    adaptive = torch.linalg.eigvalsh(w.abs()[:, None] * dense * w.abs())[-1].item()
    assert (found.scaled, found.adaptive) == pytest.approx((scaled, adaptive), rel=1e-7)
    assert found.weight_norm == pytest.approx(w.norm().item())
    assert found.converged
    assert found.errors[0] <= 1e-8 * scaled and found.errors[1] <= 1e-8 * adaptive


def test_rescaled_weights_before_a_batchnorm_change_neither():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6, eps=1e-12, affine=False, momentum=1.0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), norm, nn.Tanh(), nn.Linear(6, 3)).double()
    model[3].requires_grad_(False)
    inputs, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(3, (30,))

    def measured():
        model(inputs)  # running statistics follow the weights
        found = relative_flatness(model, inputs, labels, tolerance=1e-8)
        return found.scaled, found.adaptive

    before = measured()
    with torch.no_grad():
        model[0].weight.mul_(3)
    assert measured() == pytest.approx(before, rel=1e-6)
