import statistics

import pytest
import torch
from torch import nn

from samsweep.sharpness import empirical_sam


def test_mean_of_the_eigenvalues_of_each_batch(problem, dense_hessian):
    model, inputs, labels = problem()
    dense = [dense_hessian(model, inputs[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)]
    top = [torch.linalg.eigvalsh(hessian).flip(0)[:5] for hessian in dense]
    found = empirical_sam(
        model, inputs, labels, batch_size=4, k=5, tolerance=1e-10, physical_batch_size=3
    )
    assert found.value == pytest.approx(torch.cat(top).mean().item(), rel=1e-8)
    means = [values.mean().item() for values in top]
    assert found.standard_error == pytest.approx(statistics.stdev(means) / 3**0.5, rel=1e-6)
    assert [len(batch.values) for batch in found.batches] == [5] * 3


class Scaled(nn.Module):
    """Three weights; the loss below has the curvatures 4 x, x and -x in them."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x):
        return x * self.w.square() * torch.tensor([4.0, 1.0, -1.0]) / 2


@pytest.mark.parametrize(
    ("scales", "expected", "error"), [([1.0, 2.0], 15 / 4, 5 / 4), ([1.0, -2.0], 7 / 3, 2 / 9)]
)
def test_only_positive_eigenvalues_count(scales, expected, error):
    inputs = torch.tensor(scales, dtype=torch.float64)[:, None]
    found = empirical_sam(
        Scaled(), inputs, inputs, batch_size=1, k=3, loss_fn=lambda outputs, _: outputs.sum()
    )
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.standard_error == pytest.approx(error, rel=1e-9)


def test_no_positive_eigenvalue_is_zero():
    inputs = torch.full((2, 1), -1.0, dtype=torch.float64)
    concave = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    found = empirical_sam(
        Scaled(), inputs, inputs, batch_size=1, k=1, loss_fn=lambda o, _: (o * concave).sum()
    )
    assert found.value == 0 and found.standard_error is None
