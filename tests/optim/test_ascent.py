"""The ascent and the way back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samsweep.numerics.vectors import dot, norm
from samsweep.optim import adaptive, perturbed, plain


def pair(seed: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (4,), (2, 3, 3, 3)]
    return tuple(
        [torch.randn(s, generator=generator, dtype=dtype) for s in shapes] for _ in range(2)
    )


@given(seed=st.integers(0, 10_000), rho=st.floats(1e-4, 10))
def test_plain_perturbation_has_length_rho_along_the_gradient(seed, rho):
    params, grads = pair(seed)
    epsilon = plain(params, grads, rho)
    assert norm(epsilon).item() == pytest.approx(rho, rel=1e-10)
    assert dot(epsilon, grads).item() == pytest.approx(rho * norm(grads).item(), rel=1e-10)


@given(seed=st.integers(0, 10_000), rho=st.floats(1e-4, 10), eta=st.floats(0, 1))
def test_adaptive_perturbation_solves_its_problem(seed, rho, eta):
    """It maximises gᵀε over ‖T⁻¹ε‖ = rho (Kwon et al. 2021, equation 7)."""
    params, grads = pair(seed)
    scales = [p.abs() + eta if p.ndim > 1 else torch.ones_like(p) for p in params]
    epsilon = adaptive(eta)(params, grads, rho)
    normalised = [e / t for e, t in zip(epsilon, scales, strict=True)]
    scaled = [g * t for g, t in zip(grads, scales, strict=True)]
    assert norm(normalised).item() == pytest.approx(rho, rel=1e-9)
    assert dot(epsilon, grads).item() == pytest.approx(rho * norm(scaled).item(), rel=1e-9)


@pytest.mark.parametrize("ascent", [plain, adaptive(0.01)])
def test_zero_gradient_gives_zero(ascent):
    params, grads = pair(0)
    epsilon = ascent(params, [torch.zeros_like(g) for g in grads], 0.5)
    assert all(torch.equal(e, torch.zeros_like(e)) for e in epsilon)


def test_parameters_return_bit_for_bit():
    params, epsilon = pair(0, dtype=torch.float32)
    before = [p.clone() for p in params]
    subtracted = [(p + e) - e for p, e in zip(params, epsilon, strict=True)]
    with perturbed(params, epsilon):
        assert all(torch.equal(p, b + e) for p, b, e in zip(params, before, epsilon, strict=True))
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))
    # The obvious way back would not have passed this test.
    assert not all(torch.equal(s, b) for s, b in zip(subtracted, before, strict=True))


def test_parameters_return_after_an_exception():
    params, epsilon = pair(0)
    before = [p.clone() for p in params]
    with pytest.raises(RuntimeError, match="second pass"), perturbed(params, epsilon):
        raise RuntimeError("second pass")
    assert all(torch.equal(p, b) for p, b in zip(params, before, strict=True))


def test_strides_are_kept_on_request():
    """Where a size is 1 the sum of tensors in channels_last is not."""
    weight = torch.randn(16, 1, 3, 3).to(memory_format=torch.channels_last)
    before, epsilon = weight.clone(), torch.randn(16, 1, 3, 3)
    assert weight.stride() != epsilon.stride()
    with perturbed([weight], [epsilon]):
        plain, strides = weight.clone(), weight.stride()
    with perturbed([weight], [epsilon], keep_strides=True):
        assert weight.stride() == before.stride() != strides
        assert torch.equal(weight, plain)
    assert torch.equal(weight, before)
    assert weight.stride() == before.stride()
