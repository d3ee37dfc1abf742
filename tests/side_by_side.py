"""Twenty steps of one of our optimizers beside another's: the largest difference of the weights."""

from __future__ import annotations

import torch
from optim_tools import F64, batches, distance, loss_of, step
from torch import nn

from samsweep.optim import SAM

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
RHO = 0.3

#: Sums in another order, twenty times.
ROUNDING = 1e-12


def mlp():
    """Without batch norm, whose statistics each implementation keeps from moving in its own way."""
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 5)
    return nn.Sequential(*layers).to(F64)


def one_tensor():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 5, bias=False)).to(F64)


def largest_difference(ours, theirs, num_steps=20):
    """Of any weight after any of the steps; each is a model and what takes a step on a batch."""
    (model, mine), (reference, other) = ours, theirs
    largest, before = 0.0, [p.detach().clone() for p in model.parameters()]
    for batch in batches(num_steps):
        mine(batch)
        other(batch)
        largest = max(largest, distance(model, reference))
    # It has been a training.
    moved = [(p - b).abs().max().item() for p, b in zip(model.parameters(), before, strict=True)]
    assert min(moved) > 0.02
    return largest


def ours(build, base=torch.optim.SGD, values=SGD, **keys):
    model = build()
    optimizer = SAM(base(model.parameters(), **values), rho=RHO, **keys)
    return model, lambda batch: step(model, optimizer, batch)


def backward_of(model, optimizer, batch):
    """A closure as torch's optimizers have it."""

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        return loss

    return closure


def theirs(build, make):
    """An optimizer of theirs that wants a gradient first, then a closure that finds another."""
    model = build()
    optimizer = make(model)

    def take(batch):
        closure = backward_of(model, optimizer, batch)
        closure()
        optimizer.step(closure)

    return model, take


def whole(build, make):
    """An optimizer of theirs whose closure finds both gradients."""
    model = build()
    optimizer = make(model)

    return model, lambda batch: optimizer.step(backward_of(model, optimizer, batch))
