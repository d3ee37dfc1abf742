"""Parts of a mini-batch, each with an epsilon of its own: m-SAM."""

import copy
from functools import partial

import pytest
import torch
from optim_tools import (
    F64,
    assert_close,
    assert_equal,
    batches,
    loss_of,
    make_sam,
    network,
    sgd,
    step,
    train,
    weights,
)
from torch import nn

from samsweep.numerics.vectors import norm
from samsweep.optim import (
    SAM,
    AverageDirection,
    BatchedParts,
    Every,
    FriendlyDirection,
    GradientDescent,
    LastGradient,
    MomentumDirection,
    RandomDirection,
    TrainingStep,
    adaptive,
    gsam,
    perturbed,
)
from samsweep.optim.base import Clipping


def mlp(dtype=F64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 5))
    return model.to(dtype)


def parts_of(model, batch, num):
    images, labels = (x.chunk(num) for x in batch)
    pairs = zip(images, labels, strict=True)
    return [partial(loss_of, model, x, y) for x, y in pairs]


@pytest.mark.parametrize("num", [2, 4, 8])
def test_each_part_has_an_epsilon_of_its_own(num):
    model, reference = mlp(), mlp()
    batch = next(batches(1))
    result = SAM(sgd(model), rho=0.3).step(parts_of(model, batch, num))
    params = list(reference.parameters())
    clean, ascended = [], []
    for loss in parts_of(reference, batch, num):
        g = torch.autograd.grad(loss(), params)
        epsilon = [0.3 * x / (norm(g) + 1e-12) for x in g]
        with perturbed(params, epsilon):
            ascended.append(torch.autograd.grad(loss(), params))
        clean.append(g)
    for mine, parts in ((result.grad_clean, clean), (result.grad_perturbed, ascended)):
        for x, each in zip(mine, zip(*parts, strict=True), strict=True):
            assert_close(x, sum(each) / num)
    assert result.loss.item() == pytest.approx(loss_of(reference, *batch).item(), rel=1e-13)
    assert result.rho is None


def test_one_part_is_sam_bit_for_bit():
    straight, model = network(torch.float32), network(torch.float32)
    optimizer = make_sam(model)
    for batch in batches(4, torch.float32):
        optimizer.step([partial(loss_of, model, *batch)])
    train(straight, make_sam(straight), 4, torch.float32)
    assert_equal(weights(model), weights(straight))


def test_parts_of_the_same_examples_are_sam_bit_for_bit():
    """A mean of two or four equal vectors is exact."""
    straight, model = mlp(torch.float32), mlp(torch.float32)
    ours, other = SAM(sgd(model), rho=0.3), SAM(sgd(straight), rho=0.3)
    for images, labels in batches(4, torch.float32):
        whole = images[:2].repeat(4, 1, 1, 1), labels[:2].repeat(4)
        ours.step(parts_of(model, whole, 4))
        step(straight, other, (images[:2], labels[:2]))
    assert_equal(weights(model), weights(straight))


@pytest.mark.parametrize(
    "direction", [FriendlyDirection, AverageDirection, LastGradient, MomentumDirection]
)
def test_directions_of_the_whole_mini_batch_take_no_parts(direction):
    model = mlp()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    made = direction(base) if direction is MomentumDirection else direction()
    optimizer = SAM(base, rho=0.1, ascent_direction=made)
    before = optimizer.num_steps
    with pytest.raises(ValueError, match=f"{direction.__name__} is one of .*one closure"):
        optimizer.step(parts_of(model, next(batches(1)), 2))
    assert optimizer.num_steps == before


def test_each_part_has_a_random_direction_of_its_own():
    params = list(mlp().parameters())
    direction, now = RandomDirection(seed=3), TrainingStep(step=5)
    first, second = direction(params, (), now), direction(params, (), now)
    assert not torch.equal(first[0], second[0])
    again = RandomDirection(seed=3)
    assert_equal(again(params, (), now), first)
    assert_equal(again(params, (), now), second)
    # The first part's are those of a step without parts.
    assert_equal(RandomDirection(seed=3)(params, (), now), first)


def test_parts_are_for_sam():
    model = mlp()
    with pytest.raises(ValueError, match="2 closures: parts of a mini-batch are for SAM"):
        GradientDescent(sgd(model)).step(parts_of(model, next(batches(1)), 2))


def test_statistics_move_once_for_each_part():
    model, reference = network(), network()
    batch = next(batches(1))
    make_sam(model).step(parts_of(model, batch, 2))
    for images in batch[0].chunk(2):
        reference(images)
    assert_equal(list(model.buffers()), list(reference.buffers()))


# --------------------------------------------------------------------------- several in one pass

LOSS = nn.functional.cross_entropy

ALIKE = {
    "sam": {},
    "direction alone": {"magnitude": "sgd", "granularity": "global"},
    "two steps": {"ascent_steps": 2},
    "adaptive": {"ascent": adaptive()},
    "along a random direction": {"ascent_direction": RandomDirection(seed=3)},
    "of some parameters": {"perturbs": lambda param: param.ndim > 1},
    "every second step": {"when": Every(2)},
    "gsam": {"combination": gsam},
}


@pytest.mark.parametrize("at_once", [1, 2, 3, 8])
@pytest.mark.parametrize("parts", ALIKE.values(), ids=ALIKE)
def test_parts_in_one_pass_are_parts_one_after_the_other(parts, at_once):
    """Weights and the running statistics of batch norm, to rounding; three leave a rest of two."""
    single, model = network(), network()
    # A direction counts the parts of a step: each optimizer has its own.
    one, together = make_sam(single, **copy.deepcopy(parts)), make_sam(model, **parts)
    together.clipping = one.clipping = Clipping(0.5, "gradient")
    for images, labels in batches(4):
        batch = BatchedParts(model, LOSS, images, labels, size=len(labels) // 8, at_once=at_once)
        mine, theirs = together.step(batch), one.step(parts_of(single, (images, labels), 8))
        assert_close(mine.loss, theirs.loss)
    for x, y in zip(
        [*weights(model), *model.buffers()], [*weights(single), *single.buffers()], strict=True
    ):
        assert_close(x, y)


def test_a_batch_of_parts_is_a_sequence_of_closures():
    model = mlp()
    images, labels = next(batches(1))
    seen = []
    batch = BatchedParts(
        model, LOSS, images, labels, size=2, at_once=2, outputs_seen=lambda y, i: seen.append(i)
    )
    assert [batch[i]().item() for i in range(len(batch))] == [
        loss().item() for loss in parts_of(model, (images, labels), len(labels) // 2)
    ]
    assert seen == list(range(len(labels) // 2))


@pytest.mark.parametrize(("size", "at_once"), [(3, 2), (0, 2), (2, 0)])
def test_parts_that_do_not_divide_are_refused(size, at_once):
    images, labels = next(batches(1))
    with pytest.raises(ValueError, match=f"size={size}, at_once={at_once}: choose .*divides"):
        BatchedParts(mlp(), LOSS, images, labels, size=size, at_once=at_once)


def test_a_cumulative_average_cannot_be_taken_side_by_side():
    model = network()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    images, labels = next(batches(1))
    batch = BatchedParts(model, LOSS, images, labels, size=2, at_once=2)
    with pytest.raises(ValueError, match="momentum=None.*one part to a pass"):
        make_sam(model).step(batch)
