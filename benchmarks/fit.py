"""How wrong float32 is on networks that fit their data, by their mean loss.

    python benchmarks/fit.py

Ten small networks with convolutions and BatchNorm, trained in float64 to fit eleven images; a
factor of the head then decides the mean loss. Of each are taken, in float32, lambda_max (at a
tolerance of 1e-6) and three rises of the loss, and held against float64: the dense Hessian, and the
same measures of the doubled network. "Before" takes the loss in float32 as well, and rises in
the network's type. The JSON goes to benchmarks/results/fit.json: medians and the largest relative
errors; how many bounds were exceeded; how many results that were converged were off by over 1e-4.
"""

from __future__ import annotations

import copy
import math
import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from harness import RESULTS, environment, write
from tabulate import tabulate
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy

from samsweep.sharpness import perturbations, sam_gap, top_eigenvalues, worst_case
from samsweep.sharpness.objective import MeanLoss

LOSSES = (3.0, 0.1, 1e-2, 6e-4, 1e-5, 2e-7, 3e-9, 1e-10)
NUM_NETWORKS, ALLOWED, TOLERANCE = 10, 1e-4, 1e-6

Problem = tuple[nn.Module, Tensor, Tensor]
RISES: dict[str, Callable[..., Any]] = {
    "sam_gap": partial(sam_gap, rho=0.1),
    "worst_case_l2": partial(worst_case, rho=0.1),
    "worst_case_linf": partial(worst_case, rho=0.01, norm="linf"),
}


class Residual(nn.Module):
    """Convolution, residual branch, linear layer; 143 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.branch = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norms[0](self.stem(x)))
        x = torch.relu(x + self.norms[1](self.branch(x)))
        result: Tensor = self.head(x.mean(dim=(2, 3)))
        return result


def networks() -> Iterator[Problem]:
    """Float64 networks that fit; one that does not is passed over."""
    found, seed = 0, 0
    while found < NUM_NETWORKS:
        torch.manual_seed(seed)
        model = Residual().double()
        inputs, labels = torch.randn(11, 1, 4, 4).double(), torch.randint(5, (11,))
        for _ in range(5):
            model(2 * torch.randn_like(inputs) + 1)
        optimizer = torch.optim.Adam(model.eval().parameters(), lr=0.03)
        for _ in range(400):
            optimizer.zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        if cross_entropy(model(inputs), labels) < 1e-2:
            found += 1
            yield model, inputs, labels
        seed += 1


def with_loss(problem: Problem, loss: float) -> Problem:
    """A float32 copy with that mean loss; above 1 the labels are others than those it fits."""
    model, inputs, labels = problem
    labels = labels if loss < 1 else (labels + 1) % 5
    logits = model(inputs).detach()
    low, high = 1e-3, 1e3
    for _ in range(100):
        factor = math.sqrt(low * high)
        if (cross_entropy(factor * logits, labels) > loss) == (loss < 1):
            low = factor
        else:
            high = factor
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled.head.weight.mul_(factor)
        scaled.head.bias.mul_(factor)
    return scaled.float(), inputs.float(), labels


def doubled(problem: Problem) -> Problem:
    model, inputs, labels = problem
    return copy.deepcopy(model).double(), inputs.double(), labels


def dense_eigenvalues(problem: Problem) -> Tensor:
    """Of the Hessian in float64, largest last."""
    model, inputs, labels = doubled(problem)
    trainable = {name: p.detach() for name, p in model.named_parameters()}
    sizes = [p.numel() for p in trainable.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(trainable.items(), flat.split(sizes), strict=True)
        weights = {name: part.view_as(p) for (name, p), part in parts}
        return cross_entropy(functional_call(model, weights, (inputs,)), labels)

    flat = torch.cat([p.flatten() for p in trainable.values()])
    return torch.linalg.eigvalsh(hessian(loss)(flat))


def plain_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """In float32, as it was."""
    return cross_entropy(outputs.float(), labels)


@contextmanager
def rises_as_before() -> Iterator[None]:
    """Without a network in float64."""

    def plain(
        model: nn.Module, inputs: Tensor, labels: Tensor, loss_fn: Any, size: int
    ) -> MeanLoss:
        return MeanLoss(model, inputs, labels, loss_fn=loss_fn, physical_batch_size=size)

    with mock.patch.object(perturbations, "_resolved", plain):
        yield


def within_bound(found: Any, true: Tensor) -> tuple[float, float, bool]:
    """How far the nearest eigenvalue is, and the bound on that, both relative to lambda_max."""
    apart, bound = (true - found.values[0]).abs().min().item(), found.error_bounds[0]
    return apart / true[-1].item(), bound / true[-1].item(), apart <= bound


def errors(problem: Problem) -> dict[str, tuple[float, float, bool]]:
    """By measure: relative error now and before, and whether now is converged.

    Of the bound: the distance that it bounds, the bound itself, and whether it holds.
    """
    true = dense_eigenvalues(problem)
    now = top_eigenvalues(*problem, k=1, tolerance=TOLERANCE)
    loose = top_eigenvalues(*problem, k=1)
    before = top_eigenvalues(*problem, k=1, tolerance=TOLERANCE, loss_fn=plain_loss)
    largest = true[-1].item()
    found = {
        "lambda_max": (
            abs(now.values[0] / largest - 1),
            abs(before.values[0] / largest - 1),
            loose.converged,
        ),
        "distance, and bound": within_bound(now, true),
    }
    for name, rise in RISES.items():
        exact, here = rise(*doubled(problem)).value, rise(*problem)
        with rises_as_before():
            there = rise(*problem).value
        found[name] = (abs(here.value / exact - 1), abs(there / exact - 1), here.converged)
    return found


def summary(loss: float, found: list[dict[str, tuple[float, float, bool]]]) -> list[dict[str, Any]]:
    rows = []
    for name in found[0]:
        now, before, well = zip(*(each[name] for each in found), strict=True)
        rows.append({
            "loss": loss,
            "measure": name,
            "median_now": statistics.median(now),
            "largest_now": max(now),
            "median_before": statistics.median(before),
            "largest_before": max(before),
            "converged": sum(well),
            "converged_and_off": sum(ok and e > ALLOWED for ok, e in zip(well, now, strict=True)),
        })  # fmt: skip
    return rows


def main() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    fitted = list(networks())
    rows = [
        row
        for loss in LOSSES
        for row in summary(loss, [errors(with_loss(problem, loss)) for problem in fitted])
    ]
    settings = {"num_networks": NUM_NETWORKS, "allowed": ALLOWED, "tolerance": TOLERANCE}
    write(RESULTS / "fit.json", {**settings, "rows": rows, "environment": environment()})
    print(tabulate(rows, headers="keys", floatfmt=".1e"))


if __name__ == "__main__":
    main()
