"""Twenty steps beside implementations that others wrote, in float64.

What is left is rounding, or a small number that one of the two adds to a denominator; each test
says which. ``docs/optimizers.md`` has the largest differences, also from the authors' own code.
"""

import json
from functools import partial
from pathlib import Path

import pytest
import pytorch_optimizer
import torch
from optim_tools import batches, float64_norm, loss_of, make_sam, network, sgd, step
from pytorch_optimizer.lr_scheduler import ProportionScheduler
from side_by_side import (
    RHO,
    ROUNDING,
    SGD,
    largest_difference,
    mlp,
    one_tensor,
    ours,
    theirs,
    whole,
)
from torch import nn
from unifiedsam import unifiedSAM

from samsweep.optim import (
    SAM,
    Every,
    FriendlyDirection,
    gsam,
    unified,
    wsam,
)
from samsweep.optim.radius import with_lr


@pytest.fixture
def norm_in_float64(monkeypatch):
    """pytorch_optimizer's norm of the gradient is one of float32, which is 1e-7 of epsilon."""
    where = "pytorch_optimizer.optimizer.sam.get_global_gradient_norm"
    monkeypatch.setattr(where, float64_norm)


# ------------------------------------------------------------------ pytorch_optimizer


@pytest.mark.parametrize(("sigma", "decay"), [(1.0, 0.9), (0.6, 0.9), (1.0, 0.5)])
def test_friendly_sam(sigma, decay, norm_in_float64):
    direction = FriendlyDirection(sigma, decay)
    make = partial(
        pytorch_optimizer.FriendlySAM,
        base_optimizer=torch.optim.SGD,
        rho=RHO,
        sigma=sigma,
        lmbda=decay,
        **SGD,
    )
    reference = theirs(mlp, lambda model: make(model.parameters()))
    assert largest_difference(ours(mlp, ascent_direction=direction), reference) < ROUNDING


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9])
def test_wsam(gamma, norm_in_float64):
    """Coupled: the whole gradient goes through the base optimizer."""
    make = partial(
        pytorch_optimizer.WSAM,
        base_optimizer=torch.optim.SGD,
        rho=RHO,
        gamma=gamma,
        decouple=False,
        **SGD,
    )
    reference = whole(mlp, lambda model: make(model, model.parameters()))
    rule = partial(wsam, gamma=gamma)
    assert largest_difference(ours(mlp, combination=rule), reference) < 10 * ROUNDING


def test_wsam_decoupled_is_the_same_without_momentum_and_weight_decay(norm_in_float64):
    make = partial(pytorch_optimizer.WSAM, base_optimizer=torch.optim.SGD, rho=RHO, lr=0.1)
    reference = whole(mlp, lambda model: make(model, model.parameters()))
    mine = ours(mlp, values={"lr": 0.1}, combination=wsam)
    assert largest_difference(mine, reference) < 10 * ROUNDING


@pytest.mark.parametrize("build", [mlp, network])
def test_gsam_with_the_radius_of_the_learning_rate(build, norm_in_float64):
    """1e-12 beside ‖g‖ ‖h‖ and ‖h‖ in their projection."""

    def falling(base):
        return torch.optim.lr_scheduler.LinearLR(base, 1.0, 0.1, total_iters=20)

    model, reference = build(), build()
    base, their_base = sgd(model), sgd(reference)
    optimizer = make_sam(model, base, combination=gsam, radius=partial(with_lr, end=0.2))
    schedule, their_schedule = falling(base), falling(their_base)
    radius = ProportionScheduler(
        their_schedule, max_lr=0.1, min_lr=0.0, max_value=RHO, min_value=0.2 * RHO
    )
    other = pytorch_optimizer.GSAM(reference.parameters(), their_base, reference, radius, alpha=0.4)

    def mine(batch):
        step(model, optimizer, batch)
        schedule.step()

    def take(batch):
        other.set_closure(nn.functional.cross_entropy, *batch)
        other.step()
        their_schedule.step()
        other.update_rho_t()

    assert largest_difference((model, mine), (reference, take)) < 10 * ROUNDING


@pytest.mark.parametrize("k", [1, 4])
def test_looksam_of_one_tensor(k, norm_in_float64):
    """Theirs decomposes tensor by tensor, and adds 1e-8 to ‖v‖."""
    make = partial(
        pytorch_optimizer.LookSAM, base_optimizer=torch.optim.SGD, rho=RHO, k=k, alpha=0.7, **SGD
    )
    reference = theirs(one_tensor, lambda model: make(model.parameters()))
    mine = ours(one_tensor, when=Every(k, reuse=0.7))
    assert largest_difference(mine, reference) < (1e-6 if k > 1 else ROUNDING)


def test_looksam_of_several_tensors_is_another_rule(norm_in_float64):
    make = partial(
        pytorch_optimizer.LookSAM, base_optimizer=torch.optim.SGD, rho=RHO, k=4, alpha=0.7, **SGD
    )
    reference = theirs(mlp, lambda model: make(model.parameters()))
    assert largest_difference(ours(mlp, when=Every(4, reuse=0.7)), reference) > 1e-3


def test_looksam_of_theirs_saves_no_pass():
    model, calls = one_tensor(), []
    optimizer = pytorch_optimizer.LookSAM(model.parameters(), torch.optim.SGD, k=5, **SGD)
    for batch in batches(5):

        def closure(batch=batch):
            optimizer.zero_grad()
            calls.append(1)
            loss_of(model, *batch).backward()

        closure()
        optimizer.step(closure)
    assert len(calls) == 2 * 5


def test_radii_of_parameter_groups(norm_in_float64):
    def grouped(model):
        return [{"params": model[1].parameters(), "rho": 0.6}, {"params": model[3].parameters()}]

    make = partial(pytorch_optimizer.SAM, base_optimizer=torch.optim.SGD, rho=RHO, **SGD)
    reference = theirs(mlp, lambda model: make(grouped(model)))
    model = mlp()
    optimizer = SAM(torch.optim.SGD(grouped(model), **SGD), rho=RHO)
    mine = model, lambda batch: step(model, optimizer, batch)
    assert largest_difference(mine, reference) < ROUNDING


# ------------------------------------------------------------------ unifiedsam, the authors' own


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, "1/t", "1-1/t"])
def test_unified_sam(share):
    make = partial(unifiedSAM, base_optimizer=torch.optim.SGD, rho=RHO, lambd=share, **SGD)
    reference = theirs(mlp, lambda model: make(model.parameters()))
    mine = ours(mlp, ascent=partial(unified, share=share))
    assert largest_difference(mine, reference) < ROUNDING


# ------------------------------------------------------------------ the authors' codes


def test_the_page_has_the_committed_differences():
    root = Path(__file__).parents[2]
    rows = json.loads((root / "benchmarks/results/reference_codes.json").read_text())["rows"]
    page = (root / "docs/optimizers.md").read_text()
    for row in rows:
        difference = f"{row['difference']:.0e}" if row["difference"] else "0"
        assert f"| {row['code']} | {row['ours']} | {difference} |" in page
