"""Along what SAM ascends, and the steps of one pass that this saves."""

from functools import partial

import pytest
import torch
from optim_tools import (
    F64,
    Quadratic,
    assert_close,
    assert_equal,
    batches,
    flat,
    loss_of,
    make_sam,
    network,
    sgd,
    step,
    train,
    unit,
    weights,
)
from torch import nn

from samsweep.optim import (
    SAM,
    AscentDirection,
    AtRandom,
    AverageDirection,
    Epochs,
    Every,
    FriendlyDirection,
    GradientDescent,
    LargeGradient,
    LastGradient,
    Length,
    MomentumDirection,
    RandomDirection,
    adaptive,
    gsam,
    unnormalized,
)
from samsweep.optim.training_step import TrainingStep

LENGTH = Length(steps_per_epoch=2, epochs=4)


def trained(num_steps=4, optimizer=make_sam, **keys):
    model = network(torch.float32)
    train(model, optimizer(model, **keys), num_steps, torch.float32)
    return weights(model)


# ------------------------------------------------------------------ reductions


@pytest.mark.parametrize(
    "direction",
    [FriendlyDirection(sigma=0), FriendlyDirection(sigma=0, decay=0.1), AverageDirection(theta=1)],
    ids=["friendly", "friendly, quick", "average"],
)
def test_without_an_average_it_is_sam_bit_for_bit(direction):
    assert_equal(trained(ascent_direction=direction), trained())
    assert_equal(trained(ascent_direction=AscentDirection()), trained())


def test_friendly_with_g_in_the_average_is_the_same_direction_at_sigma_1():
    """The paper's m_t = lambda m_{t-1} + (1 - lambda) g_t: g - m_t = lambda (g - m_{t-1})."""
    problem = Quadratic()
    optimizer = SAM(
        torch.optim.SGD(problem.params, lr=0.1), rho=0.3, ascent_direction=FriendlyDirection()
    )
    w = problem.start
    m = problem.gradient(w, problem.bs[0])
    for t in range(5):
        b = problem.bs[t]
        g = problem.gradient(w, b)
        m_next = 0.9 * m + 0.1 * g
        d = g - m_next if t else g
        problem.step(optimizer, t)
        w = w - 0.1 * problem.gradient(w + 0.3 * unit(d), b)
        m = m_next if t else g
        torch.testing.assert_close(problem.w, w, rtol=1e-10, atol=1e-12)


def test_the_first_step_of_what_looks_back_does_not_ascend():
    for direction in (lambda _: LastGradient(), MomentumDirection):
        model, reference = network(torch.float32), network(torch.float32)
        base = sgd(model)
        train(model, make_sam(model, base, ascent_direction=direction(base)), 1, torch.float32)
        train(reference, GradientDescent(sgd(reference)), 1, torch.float32)
        assert_equal(weights(model), weights(reference))


# ------------------------------------------------------------------ what is remembered


def test_the_last_gradient_is_not_what_the_base_made_of_it():
    """SGD with Nesterov momentum and no weight decay adds to the tensor that it is handed.

    Tensors together, as it does on a GPU by itself.
    """
    problem = Quadratic()
    base = torch.optim.SGD(problem.params, lr=0.1, momentum=0.9, nesterov=True, foreach=True)
    optimizer = SAM(base, rho=0.3, ascent=unnormalized, ascent_direction=LastGradient())
    w, last, buffer = problem.start, torch.zeros(9, dtype=F64), torch.zeros(9, dtype=F64)
    for t in range(4):
        h = problem.gradient(w + 0.3 * last, problem.bs[t])
        buffer = 0.9 * buffer + h
        w = w - 0.1 * (h + 0.9 * buffer)
        last = h
        problem.step(optimizer, t)
        assert_close(problem.w, w)


def test_the_last_gradient_is_g_where_the_step_before_did_not_ascend():
    problem = Quadratic()
    optimizer = SAM(
        torch.optim.SGD(problem.params, lr=0.1),
        rho=0.3,
        ascent_direction=LastGradient(),
        when=Every(2),
    )
    w, last = problem.start, torch.zeros(9, dtype=F64)
    for t in range(6):
        there = w + 0.3 * unit(last) if t % 2 == 0 and t else w
        last = problem.gradient(there, problem.bs[t])
        w = w - 0.1 * last
        problem.step(optimizer, t)
        assert_close(problem.w, w)


def test_adams_momentum_is_its_first_moment():
    problem = Quadratic()
    base = torch.optim.Adam(problem.params, lr=0.1)
    optimizer = SAM(base, rho=0.3, ascent_direction=MomentumDirection(base))
    first = problem.step(optimizer)
    assert_close(flat(first.update), problem.gradient(problem.start, problem.bs[0]))
    w, now = problem.w, 0.1 * flat(first.update)
    second = problem.step(optimizer, 1)
    assert_close(flat(second.update), problem.gradient(w + 0.3 * unit(now), problem.bs[1]))


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad])
def test_a_base_without_momentum_is_told(base):
    optimizer = base(network().parameters(), lr=0.1)
    with pytest.raises(ValueError, match=f"{base.__name__} has no momentum to ascend along"):
        MomentumDirection(optimizer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MomentumDirection(sgd(network()), 2), "sign=2: choose 1 or -1"),
        (lambda: AverageDirection(1.5), "theta=1.5: choose between 0 and 1"),
    ],
)
def test_impossible_values_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_unused_parameter_is_remembered_as_nothing():
    """And a parameter that is used now and then has the average of the steps that used it."""
    a, b = (nn.Parameter(torch.ones(2, dtype=F64)) for _ in range(2))
    direction = AverageDirection(theta=0.5)
    optimizer = SAM(torch.optim.SGD([a, b], lr=0.0), rho=0.1, ascent_direction=direction)
    optimizer.step(lambda: 3 * a.sum())
    assert direction.state_dict([a, b])["earlier"][1] is None
    optimizer.step(lambda: a.sum() + 5 * b.sum())
    kept = direction.state_dict([a, b])["earlier"]
    assert_close(kept[0], torch.full((2,), 2.0, dtype=F64))
    assert_close(kept[1], torch.full((2,), 5.0, dtype=F64))


# ------------------------------------------------------------------ random directions


def test_random_directions_are_normal_new_at_each_step_and_the_seeds():
    params = [torch.zeros(200, 100), torch.zeros(100)]
    draw = [
        flat(RandomDirection(seed)(params, (), TrainingStep(step=step)))
        for seed, step in [(0, 0), (0, 0), (0, 1), (1, 0)]
    ]
    assert torch.equal(draw[0], draw[1])
    for other in draw[2:]:
        assert abs(torch.nn.functional.cosine_similarity(draw[0], other, dim=0)) < 0.03
    assert draw[0].mean().abs() < 0.03
    assert draw[0].std().item() == pytest.approx(1, rel=0.03)


def test_random_directions_do_not_depend_on_the_type():
    params = [torch.zeros(4, 3), torch.zeros(3)]
    single = RandomDirection()(params, (), TrainingStep(step=2))
    double = RandomDirection()([p.double() for p in params], (), TrainingStep(step=2))
    assert_equal([x.double() for x in single], double)


def test_an_adaptive_ascent_along_a_random_direction_has_its_own_length():
    model = network()
    optimizer = make_sam(model, ascent=adaptive(0.01), ascent_direction=RandomDirection())
    before, moved = weights(model), []

    def closure():
        moved.extend(p.detach() - b for p, b in zip(model.parameters(), before, strict=True))
        return loss_of(model, *next(batches(1)))

    optimizer.step(closure)
    scales = [b.abs() + 0.01 if b.ndim > 1 else torch.ones_like(b) for b in before]
    length = flat([m / t for m, t in zip(moved, scales, strict=True)]).norm()
    assert length.item() == pytest.approx(0.3, rel=1e-9)


# ------------------------------------------------------------------ steps of one pass


def counted(model, batch, calls):
    def closure():
        calls.append(weights(model))
        return loss_of(model, *batch)

    return closure


DIRECTIONS = {
    "random": lambda base: RandomDirection(),
    "last": lambda base: LastGradient(),
    "momentum": MomentumDirection,
}
every_direction = pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)


def passes(num_steps, along=None, **keys):
    """How often each step calls its closure."""
    model = network()
    base = sgd(model)
    made = None if along is None else along(base)
    optimizer = make_sam(model, base, ascent_direction=made, length=LENGTH, **keys)
    counts = []
    for batch in batches(num_steps):
        calls = []
        optimizer.step(counted(model, batch, calls))
        counts.append(len(calls))
    return counts


@every_direction
def test_a_direction_without_the_gradient_takes_one_pass(direction):
    assert passes(3, direction) == [1, 1, 1]


@every_direction
@pytest.mark.parametrize(
    "keys",
    [
        {"magnitude": "sgd"},
        {"direction": "sgd"},
        {"combination": gsam},
        {"combination": partial(gsam, alpha=0.0)},
        {"when": LargeGradient(start=-9, end=-9)},
        {"when": Every(1, reuse=0.5)},
    ],
    ids=["magnitude", "direction", "gsam", "gsam 0", "ae_sam", "looksam"],
)
def test_it_takes_two_where_something_else_needs_the_gradient(direction, keys):
    assert passes(3, direction, **keys) == [2, 2, 2]


@pytest.mark.parametrize("direction", [FriendlyDirection, AverageDirection, AscentDirection])
def test_directions_made_of_the_gradient_take_two(direction):
    assert passes(3, lambda _: direction()) == [2, 2, 2]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (Every(5), [2, 1, 1, 1, 1, 2, 1, 1, 1, 1]),
        (Every(5, reuse=0.7), [2, 1, 1, 1, 1, 2, 1, 1, 1, 1]),
        (Every(2), [2, 1, 2, 1, 2, 1]),
        (Epochs(1, 2), [1, 1, 2, 2, 1, 1]),
        (Epochs(2.5), [1, 1, 1, 1, 1, 2, 2, 2]),
        (AtRandom(0.0), [1, 1, 1]),
        (AtRandom(1.0), [2, 2, 2]),
        (LargeGradient(start=99, end=99), [1, 1, 1, 1]),
    ],
)
def test_a_step_that_does_not_ascend_costs_one_pass(when, expected):
    assert passes(len(expected), when=when) == expected


@every_direction
def test_the_only_pass_is_at_w_plus_epsilon(direction):
    """Its loss, its gradient and its statistics; the weights return and go against that one."""
    model, reference = network(), network()
    base = sgd(model, momentum=0.5, weight_decay=0.0)
    optimizer = make_sam(model, base, ascent_direction=direction(base))
    first, second = batches(2)
    step(model, optimizer, first)
    before, calls = weights(model), []
    reference.load_state_dict(model.state_dict())
    result = optimizer.step(counted(model, second, calls))
    (there,) = calls
    moved = flat(there) - flat(before)
    assert moved.norm().item() == pytest.approx(0.3, rel=1e-9)
    with torch.no_grad():
        for p, value in zip(reference.parameters(), there, strict=True):
            p.copy_(value)
    loss = loss_of(reference, *second)
    assert torch.equal(result.loss, loss.detach())
    assert_equal(result.update, torch.autograd.grad(loss, list(reference.parameters())))
    assert_equal(list(model.buffers()), list(reference.buffers()))
    assert result.loss_perturbed is result.grad_perturbed is result.rho is None


@every_direction
def test_weights_return_when_the_only_pass_fails(direction):
    model = network()
    base = sgd(model)
    optimizer = make_sam(model, base, ascent_direction=direction(base))
    first, second = batches(2)
    step(model, optimizer, first)
    before = weights(model)

    def closure():
        loss_of(model, *second)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(closure)
    assert_equal(weights(model), before)


@every_direction
def test_one_and_two_passes_train_alike(direction):
    """The second pass of the one is the only one of the other, batch norm's statistics aside."""
    trained = []
    for combination in (None, lambda g, h: h):
        model = network(torch.float32)
        base = sgd(model)
        optimizer = make_sam(model, base, ascent_direction=direction(base), combination=combination)
        train(model, optimizer, 4, torch.float32)
        trained.append(weights(model))
    assert_equal(*trained)


def test_parts_ascend_along_random_directions_of_their_own_in_one_pass_each():
    model = nn.Linear(3, 2).double()
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    optimizer = SAM(base, rho=0.3, ascent_direction=RandomDirection())
    x = torch.arange(12, dtype=F64).reshape(4, 3) / 10
    for _ in range(2):
        there = []

        def closure(part, there=there):
            there.append(flat(model.parameters()).detach())
            return model(part).square().mean()

        parts = [partial(closure, part) for part in x.chunk(2)]
        optimizer.step(parts)
        assert len(there) == 2
        assert not torch.equal(*there)
