"""Lists of tensors as one vector."""

import pytest
import torch

from samsweep.numerics import vectors


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return tuple(
        [
            torch.randn(s, generator=generator, dtype=torch.float64)
            for s in [(2, 3), (4,), (1, 2, 3, 3)]
        ]
        for _ in range(2)
    )


def test_they_equal_the_flat_vectors_own(pair):
    a, b = pair
    flat_a, flat_b = vectors.flatten(a), vectors.flatten(b)
    assert flat_a.shape == (vectors.numel(a),) == (28,)
    torch.testing.assert_close(vectors.norm(a), flat_a.norm())
    torch.testing.assert_close(vectors.dot(a, b), flat_a @ flat_b)
    torch.testing.assert_close(vectors.norms(a), torch.stack([x.norm() for x in a]))
    torch.testing.assert_close(vectors.dots(a, b).sum(), flat_a @ flat_b)


def test_memory_formats_may_differ(pair):
    """A gradient may come in another memory order than its parameter: elements must still meet."""
    a, b = pair
    reordered = [x.to(memory_format=torch.channels_last) if x.ndim == 4 else x for x in a]
    torch.testing.assert_close(vectors.dot(reordered, b), vectors.dot(a, b))
    assert torch.equal(vectors.flatten(reordered), vectors.flatten(a))


def test_unflatten_undoes_flatten(pair):
    a, _ = pair
    for x, y in zip(vectors.unflatten(vectors.flatten(a), a), a, strict=True):
        assert torch.equal(x, y)


def test_sizes_must_fit(pair):
    with pytest.raises(ValueError, match="flat has 3 elements, the list has 28"):
        vectors.unflatten(torch.zeros(3), pair[0])
