"""A training that is interrupted goes on bit for bit, for all that remembers its steps."""

import io
from functools import partial

import pytest
import torch
from optim_tools import assert_equal, batches, make_sam, network, sgd, step, train, weights

from samsweep.optim import (
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
    unified,
)
from samsweep.optim.radius import cosine, linear, with_lr

F32 = torch.float32
LENGTH = Length(steps_per_epoch=2, epochs=4)

#: Parts of SAM, made of its base optimizer.
KINDS = {
    "random": lambda base: {"ascent_direction": RandomDirection()},
    "last": lambda base: {"ascent_direction": LastGradient()},
    "momentum": lambda base: {"ascent_direction": MomentumDirection(base)},
    "down the momentum": lambda base: {"ascent_direction": MomentumDirection(base, -1)},
    "friendly": lambda base: {"ascent_direction": FriendlyDirection()},
    "average": lambda base: {"ascent_direction": AverageDirection()},
    "every": lambda base: {"when": Every(3)},
    "looksam": lambda base: {"when": Every(3, reuse=0.7)},
    "at random": lambda base: {"when": AtRandom()},
    "large gradient": lambda base: {"when": LargeGradient(start=0.2, end=0.2)},
    "late": lambda base: {"when": Epochs(2.5)},
    "unified": lambda base: {"ascent": partial(unified, share="1/t")},
    "unified, back": lambda base: {"ascent": partial(unified, share="1-1/t")},
    "with_lr": lambda base: {"radius": with_lr},
    "cosine": lambda base: {"radius": cosine},
    "linear": lambda base: {"radius": partial(linear, end=3.0)},
    "several": lambda base: {
        "ascent_direction": LastGradient(),
        "when": Every(3, reuse=0.7),
        "radius": cosine,
        "ascent": partial(unified, share="1-1/t"),
    },
}
every_kind = pytest.mark.parametrize("parts", KINDS.values(), ids=KINDS)


def made(parts, base_of=sgd):
    model = network(F32)
    base = base_of(model)
    return model, make_sam(model, base, length=LENGTH, **parts(base))


def take(model, optimizer, data, first=0):
    """Steps whose learning rate falls, which is set from outside as a trainer does."""
    for index, batch in enumerate(data, start=first):
        for group in optimizer.base.param_groups:
            group["lr"] = 0.1 * (1 - index / 8)
        step(model, optimizer, batch)


def stored(state):
    """As it comes back from a file that can hold no code."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize("base_of", [sgd, lambda model: torch.optim.Adam(model.parameters())])
@pytest.mark.parametrize("interrupted", [1, 4])
@every_kind
def test_it_goes_on_bit_for_bit(parts, interrupted, base_of):
    data = list(batches(8, F32))
    straight, whole = made(parts, base_of)
    take(straight, whole, data)

    model, optimizer = made(parts, base_of)
    take(model, optimizer, data[:interrupted])
    state = stored({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    # What is saved is what was, also if the training goes on.
    take(model, optimizer, data[interrupted:], interrupted)
    resumed, other = made(parts, base_of)
    resumed.load_state_dict(state["model"])
    other.load_state_dict(state["optimizer"])
    take(resumed, other, data[interrupted:], interrupted)
    for trained in (resumed, model):
        assert_equal(weights(trained), weights(straight))
        assert_equal(list(trained.buffers()), list(straight.buffers()))


STATEFUL = [name for name in KINDS if name not in ("with_lr", "momentum", "down the momentum")]


@pytest.mark.parametrize("name", STATEFUL)
def test_what_it_remembers_is_needed(name):
    """So that the test above would not pass with the base optimizer's state alone."""
    data = list(batches(8, F32))
    straight, whole = made(KINDS[name])
    take(straight, whole, data)
    model, optimizer = made(KINDS[name])
    take(model, optimizer, data[:4])
    resumed, other = made(KINDS[name])
    resumed.load_state_dict(model.state_dict())
    other.load_state_dict(optimizer.base.state_dict())
    take(resumed, other, data[4:], 4)
    pairs = zip(weights(resumed), weights(straight), strict=True)
    assert not all(torch.equal(x, y) for x, y in pairs)


def test_a_state_of_before_there_was_more_is_taken_up():
    data = list(batches(4, F32))
    straight = network(F32)
    train(straight, make_sam(straight), 4, F32)
    model, optimizer = made(lambda base: {})
    for batch in data[:2]:
        step(model, optimizer, batch)
    old = stored({"base": optimizer.base.state_dict()})
    resumed, other = made(lambda base: {})
    resumed.load_state_dict(model.state_dict())
    other.load_state_dict(old)
    for batch in data[2:]:
        step(resumed, other, batch)
    assert_equal(weights(resumed), weights(straight))


def test_what_is_loaded_is_a_copy():
    model, optimizer = made(KINDS["average"])
    data = list(batches(3, F32))
    take(model, optimizer, data[:2])
    state = stored(optimizer.state_dict())
    kept = [x.clone() for x in state["own"]["direction"]["earlier"]]
    other_model, other = made(KINDS["average"])
    other.load_state_dict(state)
    take(other_model, other, data[2:])
    assert_equal(state["own"]["direction"]["earlier"], kept)


# ------------------------------------------------------------------ steps that a graph repeats


@every_kind
def test_what_changes_from_step_to_step_is_not_recorded(parts):
    assert not made(parts)[1].recordable


def test_what_is_the_same_at_each_step_is_recorded():
    model = network()
    assert GradientDescent(sgd(model)).recordable
    assert make_sam(model).recordable
    assert make_sam(model, magnitude="sgd", ascent_steps=2, perturbs=lambda p: True).recordable
