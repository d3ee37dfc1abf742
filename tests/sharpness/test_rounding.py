"""What float32 makes of a Hessian, beside what the record says of it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samsweep.sharpness import top_eigenvalues
from samsweep.sharpness.objective import MeanLoss


class Residual(nn.Module):
    """Residual blocks with or without layer norm."""

    def __init__(self, depth, width=4, *, norm):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if norm else nn.Identity() for _ in range(depth)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + torch.tanh(layer(norm(x)))
        return self.head(x)


def trained(model, x, y, steps=250):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("depth", [1, 4, 8])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_bounds_hold_of_deep_networks_in_float32(depth, norm, seed):
    torch.manual_seed(seed)
    x, y = torch.randn(16, 4), torch.randint(3, (16,))
    model = trained(Residual(depth, norm=norm), x, y)
    # torch's own layer norm has a second derivative in float64 that is off by 1e-6 at times.
    exact = top_eigenvalues(copy.deepcopy(model).double(), x.double(), y, k=1, tolerance=1e-9)
    for tolerance in (1e-4, 1e-6):
        found = top_eigenvalues(model, x, y, k=1, tolerance=tolerance)
        assert abs(found.values[0] - exact.values[0]) <= found.error_bounds[0]
        assert found.loss_rounding >= 1e-5
        assert found.converged == (tolerance == 1e-4)


class LogProbabilities(nn.Module):
    """A network that ends in a softmax, and in what may come after it."""

    AFTER = {
        "nothing": lambda p: p,
        "clone": lambda p: p.clone(),
        "product": lambda p: p * 1.0,
        "sum": lambda p: p + 0.0,
        "cat": lambda p: torch.cat([p[:, :1], p[:, 1:]], 1),
        "mean of an ensemble": lambda p: torch.stack([p, p]).mean(0),
        "slice": lambda p: p[:, :],
    }

    def __init__(self, after):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.after = self.AFTER[after]

    def forward(self, x):
        return self.after(self.layer(x).log_softmax(1))


@pytest.mark.parametrize("after", LogProbabilities.AFTER)
def test_a_softmax_inside_the_network_is_seen_wherever_it_is(after):
    torch.manual_seed(0)
    model, x = LogProbabilities(after), torch.randn(9, 4)
    with torch.no_grad():
        z = model.layer(x)
        top = z.topk(2).values
        factor = 14 / (top[:, 0] - top[:, 1]).min()
        model.layer.weight.mul_(factor)
        model.layer.bias.mul_(factor)
    found = top_eigenvalues(model, x, z.argmax(1), k=1, loss_fn=F.nll_loss)
    assert not found.converged
    assert found.error_bounds[0] > found.values[0] * 1e-2


def test_attention_is_no_softmax_at_the_end():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 3))
    objective = MeanLoss(model, torch.randn(5, 3, 8), torch.randint(3, (5,)))
    assert objective.epsilon == torch.finfo(torch.float64).eps
    assert objective.curvature_rounding < 1e-4


def test_a_regression_that_fits_has_its_curvature_to_rounding():
    """Its loss rounds, its curvature does not."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)), torch.randn(20, 4)
    with torch.no_grad():
        y = model(x) + 1e-4 * torch.randn(20, 1)
    found = top_eigenvalues(model, x, y, k=1, loss_fn=F.mse_loss)
    exact = top_eigenvalues(
        copy.deepcopy(model).double(), x.double(), y.double(), k=1, loss_fn=F.mse_loss
    )
    assert found.loss < 1e-6
    assert found.converged
    assert found.values[0] == pytest.approx(exact.values[0], rel=1e-5)
