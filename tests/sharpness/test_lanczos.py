import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samsweep.sharpness import lanczos

BULK = torch.linspace(-1, 1, 300, dtype=torch.float64).tolist()
SPECTRA = {
    "outliers": [100, 60, 40, 20, 10, *BULK],
    "pair at one percent": [100, 99, 50, 40, 30, *BULK],
    "cluster": [10, 9.9, 9.8, 9.7, 9.6, 9.5, *BULK],
    "indefinite": [10, 8, 6, 5, 4, -12, -11, *BULK],
    "negative end dominates": [10, 8, 6, 5, 4, -1000, -500, *BULK],
    "all negative": [-1, -2, -3, -4, -5, *(10 * x - 30 for x in BULK)],
    "double eigenvalues": [100, 100, 50, 50, 30, *[1.0] * 40, *[0.0] * 40],
    "triple, low rank": [10, 10, 10, 5, 5, *[0.0] * 80],
    "hidden behind converged ones": [10, 10, 5, 5, *[0.0] * 1000],
    "rank one": [7, *[0.0] * 50],
    "rank one, negative": [-7, *[0.0] * 50],
    "zero": [0.0] * 50,
    "identity": [1.0] * 50,
    "small space": [3, 2, 1],
    "one dimension": [-3],
}


def rotated(spectrum, dtype):
    """A dense symmetric matrix with these eigenvalues."""
    values = torch.tensor(spectrum, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    random = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(random)
    return ((basis * values) @ basis.T).to(dtype)


def solve(matrix, **options):
    return lanczos(lambda v: matrix @ v, len(matrix), dtype=matrix.dtype, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("name", SPECTRA)
def test_error_bound_holds(name, k, dtype):
    true = np.array(sorted(SPECTRA[name], reverse=True))
    result = solve(rotated(SPECTRA[name], dtype), k=k)
    rounding = 10 * torch.finfo(dtype).eps * abs(true).max()  # of building the matrix
    to_spectrum = np.abs(result.eigenvalues[:, None] - true).min(axis=1)
    assert (to_spectrum <= result.error_bounds + rounding).all()
    assert (result.error_estimates <= result.error_bounds).all()
    assert len(result.eigenvalues) == min(k, len(true))
    error = np.abs(result.eigenvalues - true[:k])
    assert (error <= 1e-4 * abs(true[0]) + rounding).all()


@pytest.mark.parametrize("name", ["outliers", "cluster", "indefinite", "negative end dominates"])
def test_converges_to_a_tight_tolerance(name):
    result = solve(rotated(SPECTRA[name], torch.float64), k=5, tolerance=1e-9)
    true = sorted(SPECTRA[name], reverse=True)[:5]
    assert result.converged
    np.testing.assert_allclose(result.eigenvalues, true, atol=1e-9 * true[0], rtol=0)


@pytest.mark.parametrize("seed", range(20))
def test_a_close_pair_does_not_pass_for_one(seed):
    """Near its plateau the residual alone, squared over the visible gap, looks converged."""
    spectrum = torch.tensor(SPECTRA["pair at one percent"], dtype=torch.float64)
    result = lanczos(lambda v: spectrum * v, len(spectrum), k=1, dtype=spectrum.dtype, seed=seed)
    assert result.eigenvalues[0] == pytest.approx(100, rel=1e-4)


@given(
    st.lists(st.sampled_from([-5.0, 0.0, 3.0]), min_size=1, max_size=25),
    st.integers(1, 8),
    st.integers(0, 999),
)
def test_multiplicities_are_counted_once_the_space_closes(spectrum, k, seed):
    values = torch.tensor(spectrum, dtype=torch.float64)
    result = lanczos(lambda v: values * v, len(values), k=k, dtype=values.dtype, seed=seed)
    np.testing.assert_allclose(result.eigenvalues, sorted(spectrum, reverse=True)[:k], atol=1e-3)


def test_the_zero_operator_has_zero_error():
    result = lanczos(torch.zeros_like, 20, k=2)
    assert result.converged
    assert result.eigenvalues.tolist() == [0, 0]
    assert result.error_bounds.tolist() == result.error_estimates.tolist() == [0, 0]


def test_few_products_for_separated_eigenvalues():
    matrix = rotated(SPECTRA["outliers"], torch.float32)
    assert solve(matrix, k=1).num_matvecs <= 8
    assert solve(matrix, k=5).num_matvecs <= 12


def test_the_limit_on_products_is_kept_and_reported():
    matrix = rotated(SPECTRA["cluster"], torch.float64)
    calls = []
    result = lanczos(
        lambda v: calls.append(1) or matrix @ v, len(matrix), k=5, max_matvecs=3, dtype=matrix.dtype
    )
    assert len(calls) == result.num_matvecs == 3
    assert len(result.eigenvalues) == 3 and not result.converged
    assert (result.error_estimates > 0).all()


def test_precision_is_not_claimed_beyond_rounding():
    result = solve(rotated(SPECTRA["outliers"], torch.float32), k=1, tolerance=1e-12)
    assert not result.converged and result.num_matvecs < 30
    assert result.error_estimates[0] >= torch.finfo(torch.float32).eps * 100
    assert result.eigenvalues[0] == pytest.approx(100, abs=result.error_estimates[0])


def test_a_seed_decides_everything():
    matrix = rotated(SPECTRA["cluster"], torch.float32)
    first, again, other = (solve(matrix, k=3, seed=seed) for seed in (4, 4, 5))
    assert first.eigenvalues.tolist() == again.eigenvalues.tolist()
    assert first.error_bounds.tolist() == again.error_bounds.tolist()
    assert first.error_bounds.tolist() != other.error_bounds.tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_product_that_is_not_finite_is_an_error(bad):
    with pytest.raises(FloatingPointError, match="product 1 of the operator is not finite"):
        lanczos(lambda v: v * bad, 5, k=1)


@pytest.mark.parametrize("name", ["k", "dim", "tolerance", "max_matvecs"])
def test_says_which_number_is_wrong(name):
    options = {"dim": 5, "k": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name}=0: choose a number above 0"):
        lanczos(torch.zeros_like, **options)


def test_millions_of_dimensions_cost_no_accuracy():
    """torch's own norm of so many float32 numbers is off by 4e-4 on a CPU."""
    dim = 12_000_000
    found = lanczos(lambda v: 3 * v, dim, k=1)
    assert found.eigenvalues.tolist() == pytest.approx([3.0], rel=2e-6)


def test_a_start_that_is_the_first_random_vector_is_left_by_the_next():
    """As where a gradient is 0: the operator's space closes at once, and the same seed draws on."""
    start = torch.randn(6, generator=torch.Generator().manual_seed(0))
    found = lanczos(lambda v: torch.zeros(6), 6, k=2, seed=0, start=start)
    assert found.eigenvalues.tolist() == [0.0, 0.0]
