"""What combine promises, exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samsweep.config import ConfigError
from samsweep.numerics.vectors import dot, norm, norms
from samsweep.optim import combine

CORNERS = [("sgd", "sgd"), ("sam", "sam"), ("sam", "sgd"), ("sgd", "sam")]
HYBRIDS = [("sam", "sgd"), ("sgd", "sam")]
GRANULARITIES = ["element", "tensor", "global"]


def vectors(seed: int, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (5,), (2, 3, 3, 3), (1,)]
    return [
        scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    ]


def sources(g, h, direction, magnitude):
    return (g if direction == "sgd" else h), (g if magnitude == "sgd" else h)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("corner", [("sgd", "sgd"), ("sam", "sam")])
def test_equal_sources_give_that_gradient(corner, granularity):
    g, h = vectors(0), vectors(1)
    direction, magnitude = corner
    mixed = combine(g, h, direction=direction, magnitude=magnitude, granularity=granularity)
    expected = g if direction == "sgd" else h
    assert all(torch.equal(x, y) for x, y in zip(mixed, expected, strict=True))


@pytest.mark.parametrize("corner", HYBRIDS)
def test_element_takes_sign_of_one_and_absolute_value_of_the_other(corner):
    g, h = vectors(0), vectors(1, scale=3.0)
    direction, magnitude = corner
    mixed = combine(g, h, direction=direction, magnitude=magnitude, granularity="element")
    a, b = sources(g, h, direction, magnitude)
    for d, x, y in zip(mixed, a, b, strict=True):
        assert torch.equal(d.sign(), x.sign())
        assert torch.equal(d.abs(), y.abs())


@pytest.mark.parametrize("corner", HYBRIDS)
def test_element_is_zero_where_either_source_is(corner):
    direction, magnitude = corner
    g, h = [torch.tensor([0.0, 2.0, 0.0])], [torch.tensor([3.0, 0.0, 0.0])]
    mixed = combine(g, h, direction=direction, magnitude=magnitude, granularity="element")
    assert torch.equal(mixed[0], torch.zeros(3))


@pytest.mark.parametrize("corner", HYBRIDS)
def test_tensor_has_norm_and_direction_of_each_tensor(corner):
    g, h = vectors(0), vectors(1, scale=3.0)
    direction, magnitude = corner
    mixed = combine(g, h, direction=direction, magnitude=magnitude, granularity="tensor")
    a, b = sources(g, h, direction, magnitude)
    torch.testing.assert_close(norms(mixed), norms(b), rtol=1e-14, atol=0)
    for d, x in zip(mixed, a, strict=True):
        cosine = torch.dot(d.flatten(), x.flatten()) / (d.norm() * x.norm())
        assert cosine.item() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("corner", HYBRIDS)
def test_global_has_norm_and_direction_of_the_whole(corner):
    g, h = vectors(0), vectors(1, scale=3.0)
    direction, magnitude = corner
    mixed = combine(g, h, direction=direction, magnitude=magnitude, granularity="global")
    a, b = sources(g, h, direction, magnitude)
    assert norm(mixed).item() == pytest.approx(norm(b).item(), rel=1e-14)
    assert (dot(mixed, a) / (norm(mixed) * norm(a))).item() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("corner", CORNERS)
def test_equal_gradients_give_themselves_bit_for_bit(corner, granularity):
    g = [x.float() for x in vectors(0)]
    direction, magnitude = corner
    mixed = combine(
        g, [x.clone() for x in g], direction=direction, magnitude=magnitude, granularity=granularity
    )
    assert all(torch.equal(x, y) for x, y in zip(mixed, g, strict=True))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("zero", ["g", "h", "both", "one tensor"])
def test_zero_gradients_give_no_nan(corner, granularity, zero):
    g, h = vectors(0), vectors(1)
    if zero in ("g", "both"):
        g = [torch.zeros_like(x) for x in g]
    if zero in ("h", "both"):
        h = [torch.zeros_like(x) for x in h]
    if zero == "one tensor":
        g[0], h[1] = torch.zeros_like(g[0]), torch.zeros_like(h[1])
    direction, magnitude = corner
    mixed = combine(g, h, direction=direction, magnitude=magnitude, granularity=granularity)
    assert all(x.isfinite().all() for x in mixed)
    if zero != "one tensor" and (zero == "both" or (zero == "g") == (direction == "sgd")):
        assert norm(mixed) == 0


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_hybrids_swap_their_sources(seed, scale):
    """(sam, sgd) of (g, h) is (sgd, sam) of (h, g): one rule, not two."""
    g, h = vectors(seed), vectors(seed + 1, scale=scale)
    for granularity in GRANULARITIES:
        one = combine(g, h, direction="sam", magnitude="sgd", granularity=granularity)
        other = combine(h, g, direction="sgd", magnitude="sam", granularity=granularity)
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


def test_granularities_differ():
    g, h = vectors(0), vectors(1)
    mixed = [combine(g, h, direction="sam", magnitude="sgd", granularity=x) for x in GRANULARITIES]
    assert not torch.allclose(mixed[0][0], mixed[1][0])
    assert not torch.allclose(mixed[1][0], mixed[2][0])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"direction": "sma"}, "source 'sma' is unknown: did you mean 'sam'"),
        ({"magnitude": "adam"}, "source 'adam' is unknown.*sam, sgd"),
        ({"granularity": "globl"}, "granularity 'globl' is unknown: did you mean 'global'"),
    ],
)
def test_unknown_names_are_told(keys, message):
    with pytest.raises(ConfigError, match=message):
        combine([], [], **{"direction": "sam", "magnitude": "sgd", **keys})
