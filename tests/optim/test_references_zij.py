"""Twenty steps beside zij, where it is installed: it wants an older torch than ours.

Its GSAM is adapted from the authors' code, its LookSAM and WSAM from pytorch_optimizer.
"""

from functools import partial

import pytest
import torch
from optim_tools import step
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

from samsweep.optim import SAM, Every, adaptive, gsam, wsam

zij = pytest.importorskip("zij.contrib.sharpness_aware")


def test_zijs_asam_scales_all_and_adds_nothing():
    """Biases by abs(w) too, no eta: our ascent with those values, not the authors' (below)."""
    make = partial(zij.ASAM, base_optimizer=torch.optim.SGD, rho=RHO, **SGD)
    model = mlp()
    optimizer = SAM(
        torch.optim.SGD(model.parameters(), **SGD),
        rho=RHO,
        ascent=adaptive(0.0, list(model.parameters())),
    )
    mine = model, lambda batch: step(model, optimizer, batch)
    reference = theirs(mlp, lambda model: make(model.parameters()))
    assert largest_difference(mine, reference) < ROUNDING
    reference = theirs(mlp, lambda model: make(model.parameters()))
    assert largest_difference(ours(mlp, ascent=adaptive(0.01)), reference) > 1e-3


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_zijs_gsam(alpha):
    """1e-12 beside ‖g‖ ‖h‖ and ‖h‖ in their projection."""
    model = mlp()
    optimizer = zij.GSAM(
        model.parameters(), torch.optim.SGD, model, gsam_alpha=alpha, rho=RHO, **SGD
    )

    def take(batch):
        optimizer.set_closure(nn.functional.cross_entropy, *batch)
        optimizer.step()

    rule = partial(gsam, alpha=alpha)
    assert largest_difference(ours(mlp, combination=rule), (model, take)) < 10 * ROUNDING


@pytest.mark.parametrize("gamma", [0.5, 0.9])
def test_zijs_wsam(gamma):
    make = partial(
        zij.WSAM,
        base_optimizer=torch.optim.SGD,
        rho=RHO,
        gamma=gamma,
        decouple=False,
        **SGD,
    )
    reference = whole(mlp, lambda model: make(model.parameters(), model=model))
    rule = partial(wsam, gamma=gamma)
    assert largest_difference(ours(mlp, combination=rule), reference) < 10 * ROUNDING


def test_zijs_looksam_of_one_tensor():
    """Tensor by tensor, 1e-8 beside ‖v‖; it counts by Adam's state, SGD's has no steps."""
    adam = {"lr": 0.01}
    make = partial(zij.LookSAM, base_optimizer=torch.optim.Adam, rho=RHO, k=4, alpha=0.7, **adam)
    reference = theirs(one_tensor, lambda model: make(model.parameters()))
    mine = ours(one_tensor, torch.optim.Adam, adam, when=Every(4, reuse=0.7))
    assert largest_difference(mine, reference) < 1e-6
