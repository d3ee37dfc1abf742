"""A small network with batch norm, its mini-batches and steps, for tests of optimizers."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from samsweep.optim import SAM, frozen_statistics

F64 = torch.float64


def network(dtype=F64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
    ).to(dtype)


def batches(num: int, dtype=F64):
    generator = torch.Generator().manual_seed(1)
    for _ in range(num):
        images = torch.randn(8, 1, 6, 6, generator=generator, dtype=dtype)
        yield images, torch.randint(0, 5, (8,), generator=generator)


def sgd(model, **overrides):
    values = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01} | overrides
    return torch.optim.SGD(model.parameters(), **values)


def make_sam(model, base=None, *, rho=0.3, **keys):
    return SAM(base or sgd(model), rho=rho, second_pass=frozen_statistics(model), **keys)


def loss_of(model, images, labels):
    return nn.functional.cross_entropy(model(images), labels)


def step(model, optimizer, batch):
    return optimizer.step(partial(loss_of, model, *batch))


def train(model, optimizer, num_steps=4, dtype=F64):
    return [step(model, optimizer, batch) for batch in batches(num_steps, dtype)]


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def assert_equal(left, right):
    assert all(torch.equal(x, y) for x, y in zip(left, right, strict=True))


def distance(model, other):
    pairs = zip(weights(model), weights(other), strict=True)
    return max((mine - theirs).abs().max().item() for mine, theirs in pairs)


def float64_norm(groups, weight_adaptive=True):
    """Squared gradient norm as pytorch_optimizer's own, which computes in float32 always."""
    squares = [
        (p.abs() * p.grad if group.get("adaptive") else p.grad).square().sum()
        for group in groups
        for p in group["params"]
    ]
    return torch.stack(squares).sum().reshape(1)


class Quadratic:
    """½ wᵀA w − bᵀw, w two tensors, A symmetric and indefinite; b is the mini-batch, in float64."""

    shapes = ((2, 3), (3,))

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        a = torch.randn(9, 9, generator=generator, dtype=F64)
        self.a = (a + a.T) / 2
        self.start = torch.randn(9, generator=generator, dtype=F64)
        #: Mini-batches, one a step.
        self.bs = torch.randn(8, 9, generator=generator, dtype=F64)
        self.params = [nn.Parameter(x.clone()) for x in self.split(self.start)]

    def split(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """A flat vector as the two tensors."""
        parts = flat.split([torch.Size(s).numel() for s in self.shapes])
        return [x.view(s) for x, s in zip(parts, self.shapes, strict=True)]

    @property
    def w(self) -> torch.Tensor:
        """The parameters, flat."""
        return flat(self.params).detach()

    def loss(self, b: torch.Tensor) -> torch.Tensor:
        w = flat(self.params)
        return 0.5 * w @ self.a @ w - b @ w

    def gradient(self, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.a @ w - b

    def step(self, optimizer, index: int = 0):
        return optimizer.step(lambda: self.loss(self.bs[index]))


def flat(tensors) -> torch.Tensor:
    return torch.cat([x.flatten() for x in tensors])


def unit(x: torch.Tensor) -> torch.Tensor:
    """As it is normalised for the ascent."""
    return x / (x.norm() + 1e-12)


def assert_close(mine, expected):
    torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)
