"""At which steps SAM ascends, and what takes the place of h at the others."""

import math
from functools import partial

import pytest
import torch
from optim_tools import (
    F64,
    Quadratic,
    assert_close,
    assert_equal,
    flat,
    make_sam,
    network,
    sgd,
    train,
    unit,
    weights,
)

from samsweep.optim import (
    SAM,
    Always,
    AtRandom,
    Epochs,
    Every,
    GradientDescent,
    LargeGradient,
    LastGradient,
    Length,
    RandomDirection,
)
from samsweep.optim.training_step import TrainingStep

LENGTH = Length(steps_per_epoch=2, epochs=4)
RHO, LR = 0.3, 0.1


def trained(num_steps=6, **keys):
    model = network(torch.float32)
    train(model, make_sam(model, length=LENGTH, **keys), num_steps, torch.float32)
    return [*weights(model), *model.buffers()]


def descended(num_steps=6):
    model = network(torch.float32)
    train(model, GradientDescent(sgd(model)), num_steps, torch.float32)
    return [*weights(model), *model.buffers()]


# ------------------------------------------------------------------ reductions, bit for bit


@pytest.mark.parametrize(
    "when",
    [
        Always(),
        Every(1),
        Every(1, reuse=0.7),
        AtRandom(1.0),
        Epochs(0, None),
        Epochs(),
        LargeGradient(start=-1e9, end=-1e9),
    ],
    ids=["always", "every", "looksam", "random", "epochs", "epochs, unsaid", "large"],
)
def test_at_each_step_it_is_sam(when):
    assert_equal(trained(when=when), trained())


@pytest.mark.parametrize("direction", [None, RandomDirection, LastGradient])
@pytest.mark.parametrize(
    "when", [AtRandom(0.0), Epochs(3), Epochs(100)], ids=["random", "late", "never"]
)
def test_at_no_step_it_is_sgd(when, direction):
    made = direction and direction()
    assert_equal(trained(when=when, ascent_direction=made), descended())


def test_until_an_epoch_it_is_sam_and_from_there_on_sgd():
    early, late = trained(2, when=Epochs(0, 1)), trained(2)
    assert_equal(early, late)
    model = network(torch.float32)
    optimizer = make_sam(model, when=Epochs(0, 1), length=LENGTH)
    results = train(model, optimizer, 6, torch.float32)
    assert [r.grad_perturbed is not None for r in results] == [True] * 2 + [False] * 4
    for result in results[2:]:
        assert_equal(result.update, result.grad_clean)
        assert result.loss_perturbed is result.rho is None


# ------------------------------------------------------------------ the rules


@pytest.mark.parametrize(("first", "last"), [(2, 2), (3, 1), (0, 0)])
def test_epochs_that_end_before_they_begin_are_told(first, last):
    with pytest.raises(ValueError, match=f"first={first}, last={last}: the last must be after"):
        Epochs(first, last)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Every(0), "steps=0: choose a whole number of at least 1"),
        (lambda: AtRandom(1.5), "probability=1.5: choose between 0 and 1"),
        (lambda: AtRandom(-0.1), "probability=-0.1: choose between 0 and 1"),
    ],
)
def test_impossible_values_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("when", [Epochs(1), LargeGradient()])
def test_a_rule_without_a_length_is_told(when):
    with pytest.raises(ValueError, match="depends on the training's length"):
        when.ascends([torch.ones(1)], TrainingStep(step=0))


def test_at_random_ascends_with_its_probability_by_step_and_seed():
    def ascends(seed):
        rule = AtRandom(0.3, seed)
        return [rule.ascends((), TrainingStep(step=i)) for i in range(2000)]

    assert ascends(0) == ascends(0) != ascends(1)
    # Four standard deviations of the mean of 2000.
    assert sum(ascends(0)) / 2000 == pytest.approx(0.3, abs=0.041)


@pytest.mark.parametrize("ascent_direction", [None, LastGradient])
@pytest.mark.parametrize("steps", [2, 3, 5])
def test_looksam_uses_the_orthogonal_part_again(steps, ascent_direction):
    """g + alpha ‖g‖ / ‖v‖ v with v the part of the last h that is orthogonal to its g."""
    problem = Quadratic()
    optimizer = SAM(
        torch.optim.SGD(problem.params, lr=LR),
        rho=RHO,
        when=Every(steps, reuse=0.7),
        ascent_direction=ascent_direction and ascent_direction(),
    )
    w, v, last = problem.start, None, torch.zeros(9, dtype=F64)
    for t in range(8):
        b = problem.bs[t]
        g = problem.gradient(w, b)
        if t % steps == 0:
            update = problem.gradient(w + RHO * unit(last if ascent_direction else g), b)
            v = update - (update @ g) / (g @ g) * g
            last = update
        else:
            update = g + 0.7 * g.norm() / v.norm() * v if v.norm() > 1e-12 else g
            last = g
        result = problem.step(optimizer, t)
        assert_close(flat(result.update), update)
        w = w - LR * update
    assert_close(problem.w, w)


@pytest.mark.parametrize(("start", "end"), [(1.0, -1.0), (0.3, 0.3), (-1.0, 1.0)])
@pytest.mark.parametrize("decay", [0.9, 0.5])
def test_a_large_gradient_is_that_of_the_paper(start, end, decay):
    problem = Quadratic()
    rule = LargeGradient(decay, start, end)
    optimizer = SAM(torch.optim.SGD(problem.params, lr=LR), rho=RHO, when=rule, length=Length(4, 2))
    w, mean, variance, ascended = problem.start, 0.0, 0.0, []
    for t in range(8):
        b = problem.bs[t]
        g = problem.gradient(w, b)
        square = float(g @ g)
        mean = decay * mean + (1 - decay) * square
        variance = decay * variance + (1 - decay) * (square - mean) ** 2
        threshold = t / 8 * end + (1 - t / 8) * start
        ascended.append(square >= mean + threshold * math.sqrt(variance))
        update = problem.gradient(w + RHO * unit(g), b) if ascended[-1] else g
        result = problem.step(optimizer, t)
        assert (result.grad_perturbed is not None) == ascended[-1]
        w = w - LR * update
        assert_close(problem.w, w)
    assert 0 < sum(ascended)
    assert rule.state_dict(problem.params) == pytest.approx({"mean": mean, "variance": variance})


@pytest.mark.parametrize("decay", [0.9, 0.5])
@pytest.mark.parametrize(("share", "ascends"), [(0.999, True), (1.001, False)])
def test_the_first_step_ascends_below_a_threshold(decay, share, ascends):
    threshold = share / math.sqrt(1 - decay)
    rule = LargeGradient(decay, threshold, threshold)
    now = TrainingStep(step=0, length=LENGTH)
    assert rule.ascends([torch.tensor([3.0, 4.0], dtype=F64)], now) == ascends


def test_a_rule_sees_the_mean_of_the_parts():
    seen = []

    class Watching(Always):
        needs_gradient = True

        def ascends(self, gradient, now):
            seen.append((flat(gradient), now.step, now.epoch))
            return True

    problem = Quadratic()
    optimizer = SAM(torch.optim.SGD(problem.params, lr=LR), rho=RHO, when=Watching(), length=LENGTH)
    optimizer.step([partial(problem.loss, problem.bs[i]) for i in range(2)])
    expected = problem.gradient(problem.start, problem.bs[:2].mean(0))
    assert_close(seen[0][0], expected)
    assert seen[0][1:] == (0, 0.0)
