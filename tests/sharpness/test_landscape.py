import pytest
import torch
from torch.nn.functional import cross_entropy

from samsweep.sharpness import filter_normalized, landscape


def lengths(tensors):
    return torch.cat([t.flatten(1).norm(dim=1) for t in tensors if t.ndim > 1])


def test_filters_of_a_direction_are_as_long_as_the_networks(problem):
    model = problem()[0]
    params = [p.detach() for p in model.parameters()]
    first, second = filter_normalized(params, 2, seed=0)
    for direction in (first, second):
        torch.testing.assert_close(lengths(direction), lengths(params), rtol=1e-12, atol=0)
        assert not any(d.any() for d in direction if d.ndim < 2)
    assert not torch.equal(first[0], second[0])
    assert torch.equal(filter_normalized(params, 1, seed=0)[0][0], first[0])
    assert not torch.equal(filter_normalized(params, 1, seed=1)[0][0], first[0])


def test_directions_are_the_same_noise_for_every_network(problem):
    """Up to the filters' lengths: cosines of filters of two networks' directions are 1."""
    one, other = (
        filter_normalized([p.detach() for p in problem(seed=s)[0].parameters()], 1, seed=0)[0]
        for s in (0, 1)
    )
    cosines = torch.nn.functional.cosine_similarity(one[0].flatten(1), other[0].flatten(1))
    torch.testing.assert_close(cosines, torch.ones_like(cosines))
    assert not torch.equal(one[0], other[0])


def moved_loss(problem, steps):
    model, inputs, labels = problem()
    params = list(model.parameters())
    directions = filter_normalized(params, len(steps), seed=3)
    with torch.no_grad():
        for direction, step in zip(directions, steps, strict=True):
            for p, d in zip(params, direction, strict=True):
                # Both directions are of the weights as they were.
                p.add_(d, alpha=step)
        return cross_entropy(model.eval()(inputs), labels).item()


def test_losses_are_those_of_the_moved_network(problem):
    model, inputs, labels = problem()
    line = landscape(model, inputs, labels, num_directions=1, radius=0.5, num_points=5, seed=3)
    assert line.positions == pytest.approx([-0.5, -0.25, 0, 0.25, 0.5])
    for alpha, loss in zip(line.positions, line.losses, strict=True):
        assert loss == pytest.approx(moved_loss(problem, [alpha]), rel=1e-9)
    plane = landscape(model, inputs, labels, num_directions=2, radius=0.5, num_points=5, seed=3)
    assert plane.losses.shape == (5, 5) and plane.num_forwards == 26
    assert plane.losses[0, 3] == pytest.approx(moved_loss(problem, [-0.5, 0.25]), rel=1e-9)
    assert plane.losses[:, 2] == pytest.approx(line.losses)
    assert line.losses[2] == pytest.approx(line.loss) == plane.losses[2, 2]
