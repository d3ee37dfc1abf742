"""Optimizers in training loops of others: autocast, several ranks, closures that call backward."""

import subprocess
import sys

import pytest
import rank_work
import torch
from rank_work import NUM_RANKS, mini_batch, network, optimizer_of, weights
from torch import nn
from torch.nn.functional import cross_entropy

from samsweep.optim import SAM, GradientDescent, SGDHess

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
        cast = torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cached, enabled=around)

        def closure():
            inner = not around
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=True) if inner else cast:
                return cross_entropy(model(inputs).float(), labels)

        with cast:
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


def test_sharded_parameters_are_refused():
    class DTensor(nn.Parameter):
        pass

    base = torch.optim.SGD([DTensor(torch.ones(2))], lr=0.1)
    with pytest.raises(ValueError, match="parameters of FSDP"):
        GradientDescent(base)
