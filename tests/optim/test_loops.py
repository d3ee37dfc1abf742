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

from samsweep.optim import SAM, BatchedParts, GradientDescent, SGDHess

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
@pytest.mark.parametrize("how", ["backward", "compiled"])
def test_ranks_with_backward_in_the_closure_or_a_compiled_network(on_ranks, how):
    first, second = on_ranks("sam", how)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, in_one_process("sam"), rtol=1e-10, atol=1e-12)


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
