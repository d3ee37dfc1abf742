"""Optimizers in training loops of others: autocast, several ranks, closures that call backward."""

import copy
import subprocess
import sys
from contextlib import nullcontext

import pytest
import rank_work
import torch
from rank_work import NUM_RANKS, mini_batch, network, optimizer_of, weights
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from samsweep.optim import (
    SAM,
    BatchedParts,
    Every,
    FriendlyDirection,
    GradientDescent,
    LargeGradient,
    Length,
    RandomDirection,
    SGDHess,
    frozen_statistics,
)

NAMES = ["sgd", "sam", "samdirection", "sammagnitude", "gsam", "two_steps"]
CURVED = ["sgdhess-hutchinson", "sgdhess-gauss_newton", "sgdhess-exact"]


def sam(model, **keys):
    return SAM(torch.optim.SGD(model.parameters(), lr=0.5), **{"rho": 0.5, **keys})


# ------------------------------------------------------------------ autocast


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", [*NAMES, "sgdhess-hutchinson"])
def test_autocast_around_the_steps_is_autocast_within_them(name, cached):
    """Its cache has casts of weights of before they were perturbed, or updated."""
    inputs, labels = mini_batch()
    inputs = inputs.float()

    def trained(*, around):
        model = network().float()
        optimizer = optimizer_of(name, model)

        def cast():
            return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cached)

        def closure():
            with nullcontext() if around else cast():
                return cross_entropy(model(inputs).float(), labels)

        with cast() if around else nullcontext():
            results = [optimizer.step(closure) for _ in range(3)]
        return weights(model), results

    (outer, results), (inner, _) = trained(around=True), trained(around=False)
    assert torch.equal(outer, inner)
    for result in results:
        if result.grad_perturbed is not None:
            pairs = zip(result.grad_clean, result.grad_perturbed, strict=True)
            assert max((g - h).abs().max().item() for g, h in pairs) > 1e-3


# ------------------------------------------------------------------ closures


@pytest.mark.parametrize("name", NAMES)
def test_a_closure_may_call_backward(name):
    inputs, labels = mini_batch()

    def trained(*, calls_backward):
        model = network()
        optimizer = optimizer_of(name, model)

        def closure():
            model.zero_grad()
            loss = cross_entropy(model(inputs), labels)
            if calls_backward:
                loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        return weights(model)

    assert torch.equal(trained(calls_backward=True), trained(calls_backward=False))


def take_steps(optimizer, closure, how, number=3):
    """Steps of a closure, or of a loop that calls backward itself."""
    for _ in range(number):
        if how == "closure":
            optimizer.step(closure)
            continue
        optimizer.zero_grad()
        closure().backward()
        optimizer.replay = lambda: closure().backward()
        optimizer.step()


@pytest.mark.parametrize("name", [*NAMES, "random"])
def test_a_loop_may_call_backward_and_then_step(name):
    """Without a closure, as loops do that know of no SAM: what is replayed is the second pass."""
    inputs, labels = mini_batch()

    def trained(how):
        model = network()
        random = {"ascent_direction": RandomDirection(seed=3)}
        optimizer = sam(model, **random) if name == "random" else optimizer_of(name, model)
        take_steps(optimizer, lambda: cross_entropy(model(inputs), labels), how)
        return weights(model)

    assert torch.equal(trained("loop"), trained("closure"))


def test_a_step_without_a_closure_needs_what_it_cannot_find():
    model = network()
    inputs, labels = mini_batch()
    with pytest.raises(ValueError, match="call backward before, or give a closure"):
        sam(model).step()
    cross_entropy(model(inputs), labels).backward()
    before = weights(model)
    with pytest.raises(ValueError, match="a second pass needs a closure, .* or optimizer.replay"):
        sam(model).step()
    assert torch.equal(weights(model), before)
    cross_entropy(model(inputs), labels).backward()
    GradientDescent(torch.optim.SGD(model.parameters(), lr=0.1)).step()
    assert not torch.equal(weights(model), before)
    cross_entropy(model(inputs), labels).backward()
    with pytest.raises(ValueError, match="same_draws needs a closure"):
        sam(model, same_draws=True).step()


def test_gradients_that_a_closure_does_not_count_are_told_of():
    model = network()
    inputs, labels = mini_batch()
    optimizer = sam(model)
    closure = lambda: cross_entropy(model(inputs), labels)  # noqa: E731
    optimizer.step(closure)
    optimizer.step(closure)  # what the step before has left is no gradient of anybody's
    optimizer.zero_grad(set_to_none=False)
    optimizer.step(closure)
    for _ in range(2):
        closure().backward()  # onto what the step has left, or beside it
        with pytest.warns(UserWarning, match="does not count the gradients that are there"):
            optimizer.step(closure)
        optimizer.zero_grad()
    optimizer.step(closure)
    copied, other = copy.deepcopy((model, optimizer))
    other.step(lambda: cross_entropy(copied(inputs), labels))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["closure", "loop"])
def test_gradients_may_be_accumulated(name, how):
    """Over micro-batches, each with its own backward."""
    inputs, labels = mini_batch()

    def trained(size):
        model = network()
        optimizer = optimizer_of(name, model)

        def closure():
            total = 0.0
            for x, y in zip(inputs.split(size), labels.split(size), strict=True):
                loss = cross_entropy(model(x), y) * (len(x) / len(inputs))
                loss.backward()
                total = total + loss.detach()
            return total

        for _ in range(3):
            if how == "loop":
                optimizer.zero_grad()
                closure()
                optimizer.replay = closure
                optimizer.step()
            else:
                optimizer.step(closure)
        return weights(model)

    torch.testing.assert_close(trained(4), trained(16), rtol=1e-12, atol=1e-14)


def test_gradients_may_be_clipped_in_the_closure():
    inputs, labels = mini_batch()
    model = network()
    optimizer = sam(model)

    def closure():
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        return loss

    result = optimizer.step(closure)
    for vector in (result.grad_clean, result.grad_perturbed):
        length = torch.cat([x.flatten() for x in vector]).norm().item()
        assert length == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_the_base_updates_as_it_likes(base, options):
    """With one tensor after the other, all at once, or as one kernel."""
    inputs, labels = mini_batch()

    def trained(**keys):
        model = network()
        optimizer = SAM(model.parameters(), base=base, lr=0.1, rho=0.1, **keys)
        averaged = torch.optim.swa_utils.AveragedModel(
            model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
        )
        for _ in range(3):
            optimizer.step(lambda: cross_entropy(model(inputs), labels))
            averaged.update_parameters(model)
        return torch.cat([weights(model), weights(averaged)])

    torch.testing.assert_close(trained(**options), trained(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("wholly", [False, True])
@pytest.mark.parametrize("calls_backward", [False, True])
def test_checkpointing_gives_the_same_or_says_how(calls_backward, wholly):
    inputs, labels = mini_batch()

    def trained(**keys):
        model = network()
        # Of the whole network, or of layers without which there are gradients too.
        first, rest = (model, nn.Identity()) if wholly else (model[:2], model[2:])
        optimizer = optimizer_of("sam", model)

        def closure():
            x = inputs.clone().requires_grad_()
            hidden = checkpoint(first, x, **keys) if keys else first(x)
            loss = cross_entropy(rest(hidden), labels)
            if calls_backward:
                loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        return weights(model)

    assert torch.equal(trained(use_reentrant=False), trained())
    if calls_backward:
        assert torch.equal(trained(use_reentrant=True), trained())
    else:
        with pytest.raises(ValueError, match="reentrantly, .* let the closure call backward"):
            trained(use_reentrant=True)


# ------------------------------------------------------------------ float16


@pytest.mark.parametrize("how", ["closure", "closure with backward", "loop"])
@pytest.mark.parametrize("name", [*NAMES, "random", "each step by its own gradient"])
def test_a_scaled_loss_gives_the_same_steps(name, how):
    """Factors are powers of two, of which nothing rounds."""
    inputs, labels = mini_batch()

    def trained(scaler):
        model = network()
        own = {
            "random": {"ascent_direction": RandomDirection(seed=3)},
            "each step by its own gradient": {"when": LargeGradient(), "length": Length(4, 1)},
        }
        optimizer = sam(model, **own[name]) if name in own else optimizer_of(name, model)
        optimizer.scaler = scaler

        def closure():
            loss = cross_entropy(model(inputs), labels)
            if how == "closure with backward":
                (loss if scaler is None else scaler.scale(loss)).backward()
            return loss

        for _ in range(4):
            if how == "loop":
                scale = (lambda loss: loss) if scaler is None else scaler.scale
                take_steps(optimizer, lambda scale=scale: scale(closure()), "loop", 1)
            else:
                optimizer.step(closure)
            if scaler is not None:
                scaler.update()
        return weights(model)

    plain = trained(None)
    assert torch.equal(trained(torch.amp.GradScaler("cpu", growth_interval=2)), plain)
    assert torch.equal(trained(torch.amp.GradScaler("cpu", enabled=False)), plain)


@pytest.mark.parametrize("overflows_in", ["both passes", "the second pass"])
@pytest.mark.parametrize("name", ["sam", "friendly", "looks", "by its gradient"])
def test_a_step_that_overflows_is_left_out(name, overflows_in):
    """The weights, momentum and what is remembered stay, and the scale shrinks."""
    inputs, labels = mini_batch()
    model = network().float()
    own = {
        "friendly": {"ascent_direction": FriendlyDirection()},
        "looks": {"when": Every(steps=2, reuse=0.7)},
        "by its gradient": {"when": LargeGradient(start=-9), "length": Length(4, 1)},
    }
    optimizer = sam(model, **own.get(name, {}))
    optimizer.scaler = scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    passes = []

    def closure(huge):
        passes.append(None)
        loss = cross_entropy(model(inputs.float()), labels)
        return loss * 2.0**127 if huge and (overflows_in == "both passes" or passes[1:]) else loss

    optimizer.step(lambda: closure(False))
    scaler.update()
    optimizer.num_steps = 0  # so that LookSAM ascends again
    before, state = weights(model), copy.deepcopy(optimizer.state_dict())
    passes.clear()
    optimizer.step(lambda: closure(True))
    scaler.update()
    assert torch.equal(weights(model), before) and scaler.get_scale() == 2.0**9
    # Also of the number of steps, on which some depend.
    assert str(optimizer.state_dict()) == str(state)
    optimizer.step(lambda: closure(False))
    assert weights(model).isfinite().all() and not torch.equal(weights(model), before)


def test_float16_has_gradients_that_it_would_lose():
    """Of a loss whose gradients are below the least number of float16."""
    model = nn.Linear(4, 2)
    inputs = torch.full((8, 4), 1e-3)

    def largest(scaler):
        optimizer = sam(copy.deepcopy(model))
        optimizer.scaler = scaler
        net = optimizer.params

        def closure():
            with torch.autocast("cpu", dtype=torch.float16):
                return (nn.functional.linear(inputs, *net).square().sum(1) * 1e-5).mean().float()

        result = optimizer.step(closure)
        return max(x.abs().max().item() for x in (result.grad_clean[0], result.grad_perturbed[0]))

    assert largest(None) < largest(torch.amp.GradScaler("cpu", init_scale=2.0**12))


@pytest.mark.parametrize("how", ["step", "unscale", "step of another"])
def test_a_scaler_that_divides_as_well_is_refused(how):
    """As in torch's usual loop, where the step would be wrong by its factor."""
    model = network()
    inputs, labels = mini_batch()
    optimizer, scaler = sam(model), torch.amp.GradScaler("cpu")
    if how != "step of another":
        optimizer.scaler = scaler
    before = weights(model)
    scaler.scale(cross_entropy(model(inputs), labels)).backward()
    optimizer.replay = lambda: scaler.scale(cross_entropy(model(inputs), labels)).backward()
    if how == "unscale":
        scaler.unscale_(optimizer)
        with pytest.raises(ValueError, match="leave it out, and clip by optimizer.clipping"):
            optimizer.step()
    else:
        with pytest.raises(ValueError, match="set optimizer.scaler = scaler"):
            scaler.step(optimizer)
    assert torch.equal(weights(model), before)


def test_what_no_scaler_scales_is_refused():
    model = network()
    inputs, labels = mini_batch()
    curved = SGDHess(model.parameters(), base=torch.optim.SGD, lr=0.1, rho=0.1)
    curved.scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(ValueError, match="use bfloat16"):
        curved.step(lambda: cross_entropy(model(inputs), labels))
    parts = sam(model)
    parts.scaler = curved.scaler
    together = BatchedParts(model, cross_entropy, inputs, labels, size=4, at_once=2)
    with pytest.raises(ValueError, match="give a closure for each"):
        parts.step(together)


# ------------------------------------------------------------------ layers of the second pass


class Counts(nn.Module):
    """A moving average in another tensor at each pass, and a number of passes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("number", torch.tensor(0))
        self.register_buffer("never", None)

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.number += 1
        return x - self.mean


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.BatchNorm1d(3),
        lambda: nn.InstanceNorm1d(2, track_running_stats=True),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)),
        lambda: nn.utils.spectral_norm(nn.Linear(3, 3)),
        Counts,
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_what_layers_keep_count_of_moves_once_a_step(layer, steps):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), layer(), nn.Linear(3, 2))
    once = copy.deepcopy(model)
    inputs = torch.randn(8, 2, 3) if isinstance(model[1], nn.InstanceNorm1d) else torch.randn(8, 3)
    base = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer = SAM(base, rho=0.5, ascent_steps=steps, second_pass=frozen_statistics(model))
    optimizer.step(lambda: model(inputs).square().mean())
    once(inputs)
    buffers = dict(model.named_buffers())
    for name, expected in once.named_buffers():
        assert torch.equal(buffers[name], expected), name
        assert buffers[name] is model.get_buffer(name)


def test_buffers_that_nothing_moves_are_left_alone():
    """Of any memory; a graph that was made with them goes on."""
    model = nn.Sequential(nn.BatchNorm1d(3).eval(), nn.Linear(3, 2))
    model.register_buffer("shared", torch.ones(1).expand(3))
    statistics = frozen_statistics(model)
    inputs = torch.randn(4, 3)
    kept = model[0](inputs).sum()
    for _ in range(2):
        with statistics:
            model(inputs)
    kept.backward()
    model[0].train()
    mean = model[0].running_mean.clone()
    with statistics:
        model(inputs)
    assert torch.equal(model[0].running_mean, mean)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("calls_backward", [False, True])
def test_passes_draw_the_same_masks_if_asked(parts, calls_backward):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.5), nn.Linear(32, 3)).double()
    inputs, labels = mini_batch()

    def closure():
        loss = cross_entropy(model(inputs), labels)
        if calls_backward:
            loss.backward()
        return loss

    def stepped(**keys):
        torch.manual_seed(1)
        model.zero_grad()
        optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.0, **keys)
        result = optimizer.step([closure] * parts if parts > 1 else closure)
        pairs = zip(result.grad_clean, result.grad_perturbed, strict=True)
        return max((g - h).abs().max().item() for g, h in pairs), torch.get_rng_state()

    difference, state = stepped(same_draws=True)
    assert difference == 0.0
    # What comes afterwards draws as after one pass.
    torch.manual_seed(1)
    for _ in range(parts):
        model(inputs)
    assert torch.equal(state, torch.get_rng_state())
    assert stepped()[0] > 1e-3


def test_a_second_derivative_needs_the_graph():
    model = network()
    inputs, labels = mini_batch()

    def closure():
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    base = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="return the loss without calling backward"):
        SGDHess(base, rho=0.1).step(closure)


@pytest.mark.parametrize("loss", [torch.tensor(1.0), torch.ones(2, requires_grad=True).sum()])
def test_a_loss_of_no_parameter_is_refused(loss):
    with pytest.raises(ValueError, match="depends on no parameter of the optimizer"):
        sam(nn.Linear(2, 1)).step(lambda: loss)


def test_a_layer_that_the_second_pass_leaves_out_has_no_gradient_there():
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    passes = []

    def closure():
        passes.append(None)
        hidden = torch.ones(3, 2)
        if len(passes) == 1:
            hidden = first(hidden)
        return second(hidden).square().mean()

    result = sam(nn.Sequential(first, second)).step(closure)
    assert len(passes) == 2
    clean, perturbed = (
        [g.abs().max().item() for g in v] for v in (result.grad_clean, result.grad_perturbed)
    )
    assert min(clean) > 0
    assert perturbed[:2] == [0, 0] and min(perturbed[2:]) > 0


# ------------------------------------------------------------------ ranks


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory):
    """The weights of each rank after a training of several."""
    folder = tmp_path_factory.mktemp("ranks")

    def start(name, how="plain"):
        processes = [
            subprocess.Popen(
                [sys.executable, rank_work.__file__, str(rank), str(folder), name, how],
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(NUM_RANKS)
        ]
        told = [process.communicate(timeout=120)[1] for process in processes]
        assert [process.returncode for process in processes] == [0] * NUM_RANKS, told
        return [torch.load(folder / f"{name}-{how}-{rank}.pt") for rank in range(NUM_RANKS)]

    return start


def in_one_process(name, *, parts=1):
    model = network()
    optimizer = optimizer_of(name, model)
    inputs, labels = mini_batch()
    size = len(inputs) // parts
    closures = [
        lambda at=slice(i * size, (i + 1) * size): cross_entropy(model(inputs[at]), labels[at])
        for i in range(parts)
    ]
    for _ in range(5):
        optimizer.step(closures if parts > 1 else closures[0])
    return weights(model)


@pytest.mark.parametrize(
    "name",
    ["sam", *(pytest.param(n, marks=pytest.mark.slow) for n in (*NAMES, *CURVED) if n != "sam")],
)
def test_ranks_train_what_one_process_does(on_ranks, name):
    first, second = on_ranks(name)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, in_one_process(name), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["sam", pytest.param("gsam", marks=pytest.mark.slow)])
def test_each_rank_may_ascend_along_its_own_gradient(on_ranks, name):
    """m-SAM, whose parts are the ranks'."""
    first, second = on_ranks(name, "each_rank")
    assert torch.equal(first, second)
    torch.testing.assert_close(first, in_one_process(name, parts=2), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["backward", "compiled", "buckets", "loop"])
def test_ranks_with_backward_in_the_closure_or_a_compiled_network(on_ranks, how):
    """Of gradients in the buckets of DDP, too, into which the second backward writes."""
    first, second = on_ranks("sammagnitude", how)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, in_one_process("sammagnitude"), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_ranks_leave_out_a_step_that_overflows_on_one(on_ranks):
    first, second = on_ranks("sam", "overflow")
    assert torch.equal(first, second)
    assert torch.equal(first, weights(network()))


def test_ranks_that_use_other_parameters_stay_together(on_ranks):
    first, second = on_ranks("sam", "branches")
    assert torch.equal(first, second)
    start = weights(network("branches"))
    # Weight decay, too, leaves alone what no rank has used.
    assert torch.equal(first[-15:], start[-15:]) and not torch.equal(first[15:30], start[15:30])


@pytest.mark.slow
def test_ranks_without_synchronisation_are_the_users_affair(on_ranks):
    first, second = on_ranks("sam", "no_sync")
    assert not torch.equal(first, second)


def test_parts_in_one_pass_are_of_one_process():
    ranks = DistributedDataParallel.__new__(DistributedDataParallel)
    inputs, labels = mini_batch()
    with pytest.raises(ValueError, match="parts in one pass are of one process"):
        BatchedParts(ranks, cross_entropy, inputs, labels, size=4, at_once=2)


def test_sharded_parameters_are_refused():
    class DTensor(nn.Parameter):
        pass

    base = torch.optim.SGD([DTensor(torch.ones(2))], lr=0.1)
    with pytest.raises(ValueError, match="parameters of FSDP"):
        GradientDescent(base)


# ------------------------------------------------------------------ a torch optimizer


def test_it_is_made_of_parameters_and_a_class():
    made, given = network(), network()
    inputs, labels = mini_batch()
    values = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.01}
    optimizers = (
        SAM(made.parameters(), base=torch.optim.SGD, rho=0.1, **values),
        SAM(torch.optim.SGD(given.parameters(), **values), rho=0.1),
    )
    for model, optimizer in zip((made, given), optimizers, strict=True):
        for _ in range(3):
            optimizer.step(lambda model=model: cross_entropy(model(inputs), labels))
    assert torch.equal(weights(made), weights(given))


@pytest.mark.parametrize("kind", [SAM, SGDHess])
def test_what_it_is_made_of_has_to_be_clear(kind):
    model = network()
    built = torch.optim.SGD(model.parameters(), lr=0.1)
    for params, keys in (
        (None, {}),
        (model.parameters(), {}),
        (built, {"base": torch.optim.SGD}),
        (model.parameters(), {"base": built}),
    ):
        with pytest.raises(ValueError, match="give an optimizer, or parameters with base="):
            kind(params, rho=0.1, **keys)
    with pytest.raises(TypeError, match="lr: arguments of an optimizer that is built already"):
        kind(built, rho=0.1, lr=0.2)
    with pytest.raises(ValueError, match="LBFGS calls the closure itself"):
        kind(model.parameters(), base=torch.optim.LBFGS, rho=0.1)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 4),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.5, total_steps=5),
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o,
            [
                torch.optim.lr_scheduler.LinearLR(o, total_iters=2),
                torch.optim.lr_scheduler.StepLR(o, 1),
            ],
            [2],
        ),
    ],
)
def test_schedulers_drive_it_as_they_drive_its_base(schedule, recwarn):
    inputs, labels = mini_batch()
    trained, rates = [], []
    for of in (lambda o: o, lambda o: o.base):
        model = network()
        optimizer = optimizer_of("sam", model)
        scheduler = schedule(of(optimizer))
        for _ in range(4):
            # Its base is what a scheduler of the base looks at.
            optimizer.step(lambda model=model: cross_entropy(model(inputs), labels))
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
        trained.append(weights(model))
    assert torch.equal(*trained) and rates[:4] == rates[4:] and len(set(rates)) > 1
    assert not [w for w in recwarn if "lr_scheduler.step()" in str(w.message)]


def test_groups_hooks_and_gradients_are_those_of_the_base():
    model, more = network(), nn.Linear(3, 3).double()
    inputs, labels = mini_batch()
    optimizer = optimizer_of("sam", model)
    assert isinstance(optimizer, torch.optim.Optimizer)
    optimizer.add_param_group({"params": more.parameters(), "lr": 0.1})
    assert optimizer.param_groups is optimizer.base.param_groups
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    told = []
    optimizer.register_step_pre_hook(lambda *_: told.append("before"))
    optimizer.register_step_post_hook(lambda *_: told.append("after"))
    before = weights(more)
    optimizer.step(lambda: cross_entropy(more(model(inputs)), labels))
    assert told == ["before", "after"]
    assert not torch.equal(weights(more), before)
    assert optimizer.state[more.weight]["momentum_buffer"].abs().max() > 0
    assert more.weight.grad is not None
    optimizer.zero_grad()
    assert more.weight.grad is None


@pytest.mark.parametrize("name", ["sam", "sgdhess-hutchinson"])
def test_its_state_goes_through_a_file_and_a_copy(name, tmp_path):
    inputs, labels = mini_batch()

    def steps(model, optimizer, number):
        for _ in range(number):
            optimizer.step(lambda: cross_entropy(model(inputs), labels))

    model = network()
    optimizer = optimizer_of(name, model)
    torch.optim.lr_scheduler.StepLR(optimizer, 100)
    steps(model, optimizer, 2)
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    copied_model, copied = copy.deepcopy((model, optimizer))
    steps(model, optimizer, 2)

    again = network()
    resumed = optimizer_of(name, again)
    of_model, of_optimizer = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(of_model)
    resumed.load_state_dict(of_optimizer)
    steps(again, resumed, 2)
    steps(copied_model, copied, 2)
    assert torch.equal(weights(again), weights(model))
    assert torch.equal(weights(copied_model), weights(model))


def test_hooks_of_its_state_are_called():
    model = network()
    optimizer = optimizer_of("sam", model)
    told = []
    optimizer.register_state_dict_pre_hook(lambda o: told.append(o is optimizer))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "noted": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: told.append(state["noted"]))
    optimizer.register_load_state_dict_post_hook(lambda o: told.append("loaded"))
    state = optimizer.state_dict()
    assert {"state", "param_groups", "own", "noted"} == set(state)
    optimizer.load_state_dict(state)
    assert told == [True, 1, "loaded"]


@pytest.mark.parametrize("name", ["sam", "sgd", "sgdhess-hutchinson"])
def test_states_of_the_first_version_are_taken_up(name):
    inputs, labels = mini_batch()
    model = network()
    optimizer = optimizer_of(name, model)
    optimizer.step(lambda: cross_entropy(model(inputs), labels))
    state = optimizer.state_dict()
    older = {"base": {key: state[key] for key in ("state", "param_groups")}, **state.get("own", {})}
    resumed = optimizer_of(name, copy.deepcopy(model))
    resumed.load_state_dict(older)
    assert str(resumed.state_dict()) == str(state)


def test_adadeltas_rho_is_no_radius():
    model = network()
    inputs, labels = mini_batch()
    before = [p.detach().clone() for p in model.parameters()]
    seen = []

    def closure():
        pairs = zip(model.parameters(), before, strict=True)
        seen.append(torch.cat([(p - q).flatten() for p, q in pairs]).norm().item())
        return cross_entropy(model(inputs), labels)

    SAM(torch.optim.Adadelta(model.parameters()), rho=0.05).step(closure)
    assert seen == pytest.approx([0, 0.05])


def test_what_only_the_second_pass_uses_is_not_trained():
    """With the closure's own backward as without."""
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    passes = []

    def closure():
        passes.append(None)
        outputs = first(torch.ones(3, 2))
        if len(passes) > 1:
            outputs = outputs + second(torch.ones(3, 2))
        loss = outputs.square().mean()
        loss.backward()
        return loss

    before = weights(second)
    sam(nn.ModuleList([first, second])).step(closure)
    assert torch.equal(weights(second), before)
