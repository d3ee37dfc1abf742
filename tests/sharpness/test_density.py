"""Stochastic Lanczos quadrature against the moments of dense matrices."""

import numpy as np
import pytest
import torch

from samsweep.sharpness import quadrature, spectral_density


def symmetric(dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return matrix + matrix.T


def test_moments_are_exact_up_to_twice_the_steps():
    matrix, start = symmetric(30), torch.linspace(-1, 2, 30, dtype=torch.float64)
    nodes, weights = quadrature(lambda v: matrix @ v, start, num_steps=5)
    assert len(nodes) == 5 and weights.sum() == pytest.approx(1)
    power = start
    for degree in range(1, 10):
        power = matrix @ power
        expected = (start @ power / (start @ start)).item()
        assert weights @ nodes**degree == pytest.approx(expected, rel=1e-9), degree


def test_all_steps_give_all_eigenvalues():
    matrix = symmetric(12)
    start = torch.linspace(1, 2, 12, dtype=torch.float64)
    nodes, weights = quadrature(lambda v: matrix @ v, start, num_steps=50)
    values, vectors = torch.linalg.eigh(matrix)
    assert nodes[::-1] == pytest.approx(values.numpy(), rel=1e-9)
    parts = (vectors.T @ start).square() / (start @ start)
    assert weights[::-1] == pytest.approx(parts.numpy(), rel=1e-6)


def test_stops_where_the_krylov_space_closes():
    diagonal = torch.tensor([3.0, 3.0, -1.0, -1.0], dtype=torch.float64)
    start = torch.ones(4, dtype=torch.float64)
    nodes, weights = quadrature(lambda v: diagonal * v, start, num_steps=4)
    assert nodes == pytest.approx([3, -1]) and weights == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("batchnorm", [True, False])
def test_density_has_the_moments_of_the_dense_hessian(problem, dense_hessian, batchnorm):
    dense = dense_hessian(*problem(batchnorm=batchnorm))
    values = torch.linalg.eigvalsh(dense).numpy()
    found = spectral_density(*problem(batchnorm=batchnorm), num_vectors=100, num_steps=3)
    assert found.dim == len(values) and found.num_hvps == 300
    assert abs(found.mean - values.mean()) <= 4 * found.mean_standard_error
    assert 0 < found.mean_standard_error < abs(values).max() / 50
    second = [w @ t**2 for t, w in zip(found.nodes, found.weights, strict=True)]
    error = np.std(second) / np.sqrt(len(second))
    assert abs(np.mean(second) - (values**2).mean()) <= 4 * error


def test_ends_of_the_spectrum(problem, dense_hessian):
    values = torch.linalg.eigvalsh(dense_hessian(*problem()))
    found = spectral_density(*problem(), num_vectors=2, num_steps=40)
    assert found.largest == pytest.approx(values[-1].item(), rel=1e-6)
    assert found.smallest == pytest.approx(values[0].item(), rel=1e-3)
