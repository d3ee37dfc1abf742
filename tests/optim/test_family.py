"""How an ascent is normalised, what is perturbed, how far and in how many steps: closed forms."""

import math
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
    step,
    train,
    unit,
    weights,
)
from torch import nn

from samsweep.numerics.vectors import norm
from samsweep.optim import (
    SAM,
    AverageDirection,
    FriendlyDirection,
    LastGradient,
    Length,
    MomentumDirection,
    RandomDirection,
    adaptive,
    per_tensor,
    plain,
    select,
    unified,
    unnormalized,
)
from samsweep.optim.radius import constant, cosine, linear, with_lr

RHO, LR = 0.3, 0.1


def adaptive_by_hand(g, w):
    """T² g / ‖T g‖ with T = abs(w) + 0.01 on the matrix, 1 on the vector."""
    t = torch.cat([w[:6].abs() + 0.01, torch.ones(3, dtype=F64)])
    return t * t * g / (t * g).norm()


#: epsilon over rho, of the direction and of w, at the first step.
BY_HAND = {
    "plain": (plain, lambda g, w: unit(g)),
    "unnormalized": (unnormalized, lambda g, w: g),
    "unified-0": (partial(unified, share=0), lambda g, w: g),
    "unified-1": (partial(unified, share=1), lambda g, w: unit(g)),
    "unified-half": (partial(unified, share=0.5), lambda g, w: g / 2 + unit(g) / 2),
    "per_tensor": (per_tensor, lambda g, w: torch.cat([unit(g[:6]), unit(g[6:])])),
    "adaptive": (adaptive(0.01), adaptive_by_hand),
}

every_ascent = pytest.mark.parametrize(("ascent", "by_hand"), BY_HAND.values(), ids=BY_HAND)


def sgd_of(problem, **keys):
    return torch.optim.SGD(problem.params, lr=LR, **keys)


@every_ascent
def test_a_step_is_its_closed_form(ascent, by_hand):
    problem = Quadratic()
    g = problem.gradient(problem.start, problem.bs[0])
    epsilon = RHO * by_hand(g, problem.start)
    h = problem.gradient(problem.start + epsilon, problem.bs[0])
    result = problem.step(SAM(sgd_of(problem), rho=RHO, ascent=ascent))
    assert_close(flat(result.grad_clean), g)
    assert_close(flat(result.grad_perturbed), h)
    assert_close(problem.w, problem.start - LR * h)


@pytest.mark.parametrize(
    ("share", "at"), [("1/t", lambda t: 1 / t), ("1-1/t", lambda t: 1 - 1 / t)]
)
def test_unified_goes_from_one_to_the_other(share, at):
    problem = Quadratic()
    optimizer = SAM(sgd_of(problem), rho=RHO, ascent=partial(unified, share=share))
    w = problem.start
    for t in range(1, 6):
        b = problem.bs[t]
        g = problem.gradient(w, b)
        epsilon = RHO * ((1 - at(t)) * g + at(t) * unit(g))
        problem.step(optimizer, t)
        w = w - LR * problem.gradient(w + epsilon, b)
        assert_close(problem.w, w)


@pytest.mark.parametrize("share", ["t", "", -0.1, 1.5])
def test_an_impossible_share_is_told(share):
    with pytest.raises(ValueError, match="choose a number between 0 and 1, '1/t' or '1-1/t'"):
        unified([], [torch.ones(2)], 0.1, share=share)


# ------------------------------------------------------------------ crossed with directions


@every_ascent
@pytest.mark.parametrize("name", ["random", "last", "momentum", "down", "friendly", "average"])
def test_every_ascent_takes_every_direction(ascent, by_hand, name):
    """Three steps; what each ascends along is followed by hand, from the gradients that it saw."""
    problem = Quadratic()
    base = sgd_of(problem, momentum=0.9)
    directions = {
        "random": RandomDirection(seed=4),
        "last": LastGradient(),
        "momentum": MomentumDirection(base),
        "down": MomentumDirection(base, sign=-1),
        "friendly": FriendlyDirection(sigma=0.7, decay=0.6),
        "average": AverageDirection(theta=0.3),
    }
    optimizer = SAM(base, rho=RHO, ascent=ascent, ascent_direction=directions[name])
    drawn = RandomDirection(seed=4)
    w, last, buffer, average = problem.start, 0 * problem.start, 0 * problem.start, None
    for t in range(3):
        b = problem.bs[t]
        g = problem.gradient(w, b)
        if name == "random":
            moment = optimizer._step_now()
            d = flat(drawn(problem.params, (), moment))
        elif name == "friendly":
            d = g if average is None else g - 0.7 * average
            average = g if average is None else 0.6 * average + 0.4 * g
        elif name == "average":
            average = d = g if average is None else 0.7 * average + 0.3 * g
        else:
            d = {"last": last, "momentum": buffer, "down": -buffer}[name]
        ascends = d.norm() > 0
        h = problem.gradient(w + RHO * by_hand(d, w) if ascends else w, b)
        last, buffer = h, 0.9 * buffer + h
        w = w - LR * buffer
        problem.step(optimizer, t)
        assert_close(problem.w, w)


# ------------------------------------------------------------------ bit for bit


def trained(num_steps=4, **keys):
    model = network(torch.float32)
    train(model, make_sam(model, **keys), num_steps, torch.float32)
    return weights(model)


def test_unified_has_both_ends_bit_for_bit():
    assert_equal(trained(ascent=partial(unified, share=1)), trained())
    assert_equal(trained(ascent=partial(unified, share=1.0)), trained(ascent=plain))
    assert_equal(trained(ascent=partial(unified, share=0)), trained(ascent=unnormalized))


def test_per_tensor_is_plain_for_one_tensor():
    steps = []
    for ascent in (plain, per_tensor):
        w = nn.Parameter(torch.arange(1.0, 7.0))
        SAM(torch.optim.SGD([w], lr=0.1), rho=0.3, ascent=ascent).step(lambda w=w: w.pow(4).sum())
        steps.append(w.detach())
    torch.testing.assert_close(*steps, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "radius",
    [constant, partial(cosine, end=1.0), partial(linear, end=1.0), partial(with_lr, end=1.0)],
    ids=["constant", "cosine", "linear", "with_lr"],
)
def test_a_radius_that_stays_is_sam_bit_for_bit(radius):
    length = Length(steps_per_epoch=2, epochs=2)
    assert_equal(trained(radius=radius, length=length), trained())


# ------------------------------------------------------------------ what is perturbed


def test_only_norm_layers_move_by_the_norm_over_them_alone():
    """SAM-ON: epsilon = rho g_n / ‖g_n‖ on the norm layers' parameters, 0 on the others."""
    model, reference = network(), network()
    batch = next(batches(1))
    named = dict(reference.named_parameters())
    loss_of(reference, *batch).backward()
    chosen = ["1.weight", "1.bias"]
    length = norm([named[name].grad for name in chosen])
    with torch.no_grad():
        for name in chosen:
            named[name] += 0.3 * named[name].grad / (length + 1e-12)
    h = torch.autograd.grad(loss_of(reference, *batch), list(named.values()))
    optimizer = make_sam(model, perturbs=select(model, "norm_layers"))
    result = step(model, optimizer, batch)
    for mine, expected in zip(result.grad_perturbed, h, strict=True):
        assert_close(mine, expected)


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("norm_layers", {"1.weight", "1.bias"}),
        ("not_norm_layers", {"0.weight", "4.weight", "4.bias"}),
        ("no_biases", {"0.weight", "1.weight", "4.weight"}),
        ("4.*", {"4.weight", "4.bias"}),
        (["0.*", "*.bias"], {"0.weight", "1.bias", "4.bias"}),
    ],
)
def test_what_is_chosen_moves_and_nothing_else(which, expected):
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    moved = []

    def closure():
        parts = model.named_parameters()
        moved.append({name for name, p in parts if not torch.equal(p, before[name])})
        return loss_of(model, *next(batches(1)))

    make_sam(model, perturbs=select(model, which)).step(closure)
    assert moved == [set(), expected]


def test_all_is_sam_bit_for_bit():
    assert select(network(), "all") is None
    assert_equal(trained(perturbs=lambda _: True), trained())


def test_every_kind_of_bias_is_one():
    model = nn.ModuleList([nn.MultiheadAttention(4, 2, add_bias_kv=True), nn.LSTM(2, 3)])
    choice = select(model, "no_biases")
    kept = {name for name, p in model.named_parameters() if choice(p)}
    assert kept == {
        "0.in_proj_weight",
        "0.out_proj.weight",
        "1.weight_ih_l0",
        "1.weight_hh_l0",
    }


def test_norm_layers_are_found_by_their_kind():
    class ScaleNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    shortcut = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    kinds = [nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.InstanceNorm2d(2, affine=True), nn.RMSNorm(2)]
    model = nn.ModuleDict(
        {
            "shortcut": shortcut,
            "others": nn.ModuleList([*kinds, ScaleNorm()]),
            "fc": nn.Linear(2, 2),
        }
    )
    choice = select(model, "norm_layers")
    chosen = {name for name, p in model.named_parameters() if choice(p)}
    assert chosen == {
        "shortcut.1.weight",
        "shortcut.1.bias",
        *(f"others.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")),
        "others.3.weight",
        "others.4.scale",
    }


@pytest.mark.parametrize("which", ["conv.*", ["a", "b"]])
def test_a_choice_of_nothing_is_told(which):
    with pytest.raises(ValueError, match="none of the parameters, which are 0.weight, 1.weight"):
        select(network(), which)
    with pytest.raises(ValueError, match="opt.perturb=norm_layers chooses none"):
        select(nn.Linear(2, 2), "norm_layers")


# ------------------------------------------------------------------ the radius over time


@pytest.mark.parametrize("end", [0.0, 0.4, 2.0])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_radius_follows_its_schedule(name, end):
    problem, length = Quadratic(), Length(steps_per_epoch=2, epochs=3)
    schedule = {"cosine": cosine, "linear": linear}[name]
    radius = partial(schedule, end=end)
    optimizer = SAM(sgd_of(problem), rho=RHO, radius=radius, length=length)
    for t in range(6):
        share = t / 6
        line = 1 - share if name == "linear" else (1 + math.cos(math.pi * share)) / 2
        expected = RHO * (end + (1 - end) * line)
        before = problem.w
        g = problem.gradient(before, problem.bs[t])
        result = problem.step(optimizer, t)
        assert result.rho == pytest.approx(expected, rel=1e-14)
        h = problem.gradient(before + expected * unit(g), problem.bs[t])
        assert_close(flat(result.grad_perturbed), h)


@pytest.mark.parametrize("end", [0.0, 0.25])
def test_the_radius_follows_the_learning_rate(end):
    """rho_t = rho_min + (rho_max - rho_min) lr_t / lr_max, as GSAM has it with lr_min = 0."""
    problem = Quadratic()
    base = torch.optim.SGD([{"params": problem.params, "lr": 0.05}], lr=0.1)
    optimizer = SAM(base, rho=RHO, radius=partial(with_lr, end=end))
    scheduler = torch.optim.lr_scheduler.LinearLR(base, 0.2, 1.0, total_iters=4)
    for t in range(6):
        lr = 0.05 * min(1.0, 0.2 + 0.2 * t)
        assert base.param_groups[0]["lr"] == pytest.approx(lr)
        expected = RHO * end + (RHO - RHO * end) * lr / 0.05
        assert problem.step(optimizer, t).rho == pytest.approx(expected, rel=1e-12)
        scheduler.step()


def test_a_schedule_without_a_length_is_told():
    problem = Quadratic()
    with pytest.raises(ValueError, match="depends on the training's length: give length=Length"):
        problem.step(SAM(sgd_of(problem), rho=RHO, radius=cosine))


# ------------------------------------------------------------------ radii of parameter groups


def test_each_group_has_its_radius():
    """epsilon_i = rho_i g_i / ‖g‖, the norm over all groups: as davda54/sam has it."""
    problem = Quadratic()
    groups = [{"params": problem.params[:1], "rho": 0.6}, {"params": problem.params[1:]}]
    optimizer = SAM(torch.optim.SGD(groups, lr=LR), rho=RHO)
    g = problem.gradient(problem.start, problem.bs[0])
    radii = torch.tensor([0.6] * 6 + [RHO] * 3, dtype=F64)
    result = problem.step(optimizer)
    expected = problem.gradient(problem.start + radii * unit(g), problem.bs[0])
    assert_close(flat(result.grad_perturbed), expected)
    # h - g is not curvature along the gradient.
    assert result.rho is None


def test_a_groups_radius_may_be_zero():
    problem = Quadratic()
    groups = [{"params": problem.params[:1]}, {"params": problem.params[1:], "rho": 0.0}]
    optimizer = SAM(torch.optim.SGD(groups, lr=LR), rho=RHO)
    g = problem.gradient(problem.start, problem.bs[0])
    epsilon = torch.cat([RHO * unit(g)[:6], torch.zeros(3, dtype=F64)])
    expected = problem.gradient(problem.start + epsilon, problem.bs[0])
    assert_close(flat(problem.step(optimizer).grad_perturbed), expected)


@pytest.mark.parametrize(
    ("rho", "own", "message"),
    [(0.0, 0.1, "rho=0, but a parameter group has rho=0.1"), (0.1, -1.0, "rho=-1.0: must be")],
)
def test_an_impossible_radius_of_a_group_is_told(rho, own, message):
    problem = Quadratic()
    base = torch.optim.SGD([{"params": problem.params, "rho": own}], lr=LR)
    with pytest.raises(ValueError, match=message):
        SAM(base, rho=rho)


# ------------------------------------------------------------------ several steps


@pytest.mark.parametrize("steps", [1, 2, 5])
@every_ascent
def test_each_of_several_steps_ascends_along_its_own_gradient(ascent, by_hand, steps):
    problem = Quadratic()
    b, epsilon = problem.bs[0], torch.zeros(9, dtype=F64)
    for _ in range(steps):
        g = problem.gradient(problem.start + epsilon, b)
        epsilon = epsilon + RHO / steps * by_hand(g, problem.start)
    calls = []

    def closure():
        calls.append(1)
        return problem.loss(b)

    result = SAM(sgd_of(problem), rho=RHO, ascent=ascent, ascent_steps=steps).step(closure)
    assert_close(flat(result.grad_perturbed), problem.gradient(problem.start + epsilon, b))
    assert len(calls) == steps + 1


@pytest.mark.parametrize("steps", [0, -1])
def test_an_impossible_number_of_steps_is_told(steps):
    with pytest.raises(ValueError, match=f"ascent_steps={steps}: choose at least 1"):
        make_sam(network(), ascent_steps=steps)


def test_several_steps_of_another_direction_are_told():
    with pytest.raises(ValueError, match="and 1 unless the direction is the gradient"):
        make_sam(network(), ascent_steps=2, ascent_direction=RandomDirection())


def test_statistics_move_once_in_several_steps():
    model, reference = network(), network()
    batch = next(batches(1))
    step(model, make_sam(model, ascent_steps=4), batch)
    reference(batch[0])
    assert_equal(list(model.buffers()), list(reference.buffers()))


def test_weights_return_when_a_step_of_several_fails():
    model, calls = network(), []
    before = weights(model)

    def closure():
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return loss_of(model, *next(batches(1)))

    with pytest.raises(RuntimeError, match="out of memory"):
        make_sam(model, ascent_steps=3).step(closure)
    assert_equal(weights(model), before)
