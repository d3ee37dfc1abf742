"""What combine promises, exactly."""

import pytest
import torch

from samsweep.config import ConfigError
from samsweep.numerics.vectors import dot, dots, norm, norms
from samsweep.optim import combine

CORNERS = [("sgd", "sgd"), ("sam", "sam"), ("sam", "sgd"), ("sgd", "sam")]
GRANULARITIES = ["element", "tensor", "global"]


def vectors(seed: int, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (5,), (2, 3, 3, 3), (1,)]
    return [
        scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    ]


def assert_equal(left, right):
    assert all(torch.equal(x, y) for x, y in zip(left, right, strict=True))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("source", ["sgd", "sam"])
def test_equal_sources_give_that_gradient(source, granularity):
    g, h = vectors(0), vectors(1)
    mixed = combine(g, h, direction=source, magnitude=source, granularity=granularity)
    assert_equal(mixed, g if source == "sgd" else h)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("direction", "magnitude"), [("sam", "sgd"), ("sgd", "sam")])
def test_hybrids_have_one_gradients_direction_and_the_others_magnitude(
    direction, magnitude, granularity
):
    g, h = vectors(0), vectors(1, scale=3.0)
    mixed = combine(g, h, direction=direction, magnitude=magnitude, granularity=granularity)
    a, b = (g, h) if direction == "sgd" else (h, g)
    if granularity == "element":
        assert_equal([d.sign() for d in mixed], [x.sign() for x in a])
        assert_equal([d.abs() for d in mixed], [y.abs() for y in b])
    elif granularity == "tensor":
        torch.testing.assert_close(norms(mixed), norms(b), rtol=1e-14, atol=0)
        cosines = dots(mixed, a) / (norms(mixed) * norms(a))
        torch.testing.assert_close(cosines, torch.ones_like(cosines), rtol=0, atol=1e-14)
    else:
        assert norm(mixed).item() == pytest.approx(norm(b).item(), rel=1e-14)
        cosine = dot(mixed, a) / (norm(mixed) * norm(a))
        assert cosine.item() == pytest.approx(1.0, abs=1e-14)
    # Bit for bit, whichever of two equal gradients is which.
    equal = [x.float() for x in g]
    mixed = combine(
        equal, list(equal), direction=direction, magnitude=magnitude, granularity=granularity
    )
    assert_equal(mixed, equal)


@pytest.mark.parametrize(("direction", "magnitude"), [("sam", "sgd"), ("sgd", "sam")])
def test_element_is_zero_where_either_source_is(direction, magnitude):
    g, h = [torch.tensor([0.0, 2.0, 0.0])], [torch.tensor([3.0, 0.0, 0.0])]
    mixed = combine(g, h, direction=direction, magnitude=magnitude, granularity="element")
    assert torch.equal(mixed[0], torch.zeros(3))


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
