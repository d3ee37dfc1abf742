"""What libraries of Hessians make of networks and data as people have them.

    python benchmarks/abilities.py

The largest eigenvalue of one small network, given in ways that differ in one thing each, beside
that of the dense Hessian in float64. Each library is called as its own documentation has it. A
number is how far it is off, relative to the largest eigenvalue: up to 1e-2 where a library's own
tolerance decides, more is another quantity. A name is the error that was raised. The table goes to
benchmarks/results/abilities.json.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from curvlinops import HessianLinearOperator
from harness import RESULTS, environment, write
from hessian_eigenthings import HessianOperator, lanczos, supervised_loss
from pyhessian import hessian as pyhessian
from scipy.sparse.linalg import eigsh
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from samsweep.sharpness import top_eigenvalues

#: What is more is another quantity, whatever the tolerance.
_OFF = 1e-2


class Network(nn.Module):
    """A layer, a norm, a layer; in one of several ways to write that."""

    def __init__(self, way: str = "plain") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.way = way
        with torch.no_grad():
            for _ in range(5):
                self.norm(self.first(_numbers()))
        self.eval()

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.norm(self.first(x)))

    def forward(self, x: Any) -> Any:
        if self.way == "mapping":
            x = torch.cat([x["left"], x["right"]], dim=1)
        if self.way == "checkpointed":
            kept: Tensor = checkpoint(self.hidden, x.clone().requires_grad_(), use_reentrant=True)
            return self.last(kept)
        logits = self.last(self.hidden(x))
        return {"logits": logits} if self.way == "structure" else logits


def _numbers() -> Tensor:
    return torch.randn(24, 4, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Given:
    """A network and its examples."""

    model: nn.Module
    inputs: Any
    labels: Tensor
    loss_fn: Callable[[Any, Tensor], Tensor] = cross_entropy
    loader: DataLoader[Any] | None = None
    training: bool = False
    names: str = ""

    @property
    def params(self) -> dict[str, nn.Parameter]:
        named = self.model.named_parameters()
        return {name: p for name, p in named if name.startswith(self.names)}

    @property
    def batches(self) -> Any:
        return [(self.inputs, self.labels)] if self.loader is None else self.loader

    def loss_module(self) -> nn.Module:
        """As libraries want it that ask for one of torch's."""
        plain = self.loss_fn is cross_entropy
        return nn.CrossEntropyLoss() if plain else _AsModule(self.loss_fn)


class _AsModule(nn.Module):
    reduction = "mean"

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, outputs: Any, labels: Tensor) -> Tensor:
        return self.function(outputs, labels)


def _plain() -> Given:
    return Given(Network(), _numbers(), torch.arange(24) % 3)


def _of_logits(outputs: Any, labels: Tensor) -> Tensor:
    return cross_entropy(outputs["logits"], labels)


def _weighted(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs, labels, weight=torch.tensor([1.0, 5.0, 0.2]))


def _in_loader(**keys: Any) -> Given:
    given = _plain()
    data = TensorDataset(given.inputs, given.labels)
    return replace(given, loader=DataLoader(data, batch_size=7, **keys))


def _with_ignored() -> Given:
    given = _plain()
    labels = given.labels.clone()
    labels[:9] = -100
    return replace(
        given, labels=labels, loader=DataLoader(TensorDataset(given.inputs, labels), batch_size=7)
    )


def _written(way: str) -> Given:
    given = _plain()
    halves = {"left": given.inputs[:, :1], "right": given.inputs[:, 1:]}
    return replace(
        given,
        model=Network(way),
        inputs=halves if way == "mapping" else given.inputs,
        loss_fn=_of_logits if way == "structure" else cross_entropy,
    )


def _half() -> Given:
    given = _plain()
    return replace(given, model=given.model.bfloat16(), inputs=given.inputs.bfloat16())


def _in_mode(training: bool) -> Given:
    given = _plain()
    return replace(given, model=given.model.train(), training=training)


#: What is given, by what is special about it; of two that differ in the mode the first is left in
#: train mode by whoever trained it, and curvature in eval mode is wanted.
CASES: dict[str, Callable[[], Given]] = {
    "tensors": _plain,
    "a loader of batches": lambda: _in_loader(),
    "a loader that shuffles": lambda: _in_loader(shuffle=True),
    "inputs by name, as Hugging Face's": lambda: _written("mapping"),
    "outputs in a structure": lambda: _written("structure"),
    "class weights, in batches": lambda: replace(_in_loader(), loss_fn=_weighted),
    "ignored labels, in batches": _with_ignored,
    "a network of bfloat16": _half,
    "some of the parameters": lambda: replace(_plain(), names="last"),
    "a network left in train mode": lambda: _in_mode(False),
    "batch statistics, on purpose": lambda: _in_mode(True),
    "reentrant checkpoints": lambda: _written("checkpointed"),
}


def truth(given: Given) -> float:
    """The largest eigenvalue of the dense Hessian in float64."""
    given = copy.deepcopy(given)
    model = given.model.double().train(given.training)
    if isinstance(model, Network) and model.way == "checkpointed":
        model.way = "plain"
    inputs = tree_map(torch.Tensor.double, given.inputs)
    params = {name: p.detach() for name, p in given.params.items()}
    buffers = dict(model.named_buffers())
    sizes = [p.numel() for p in params.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(params.items(), flat.split(sizes), strict=True)
        named = {name: part.view(p.shape) for (name, p), part in parts}
        outputs = torch.func.functional_call(model, {**buffers, **named}, (inputs,))
        if given.loss_fn is _weighted:
            return cross_entropy(outputs, given.labels, weight=torch.tensor([1, 5, 0.2]).double())
        return given.loss_fn(outputs, given.labels)

    flat = torch.cat([p.flatten() for p in params.values()])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))[-1].item()


def samsweep(given: Given) -> float:
    # A mapping would be the network's keyword arguments; here it is its one argument.
    inputs = (given.inputs,) if isinstance(given.inputs, dict) else given.inputs
    examples = (inputs, given.labels) if given.loader is None else (given.loader,)
    found = top_eigenvalues(
        given.model,
        *examples,
        k=1,
        loss_fn=given.loss_fn,
        params=given.params.values(),
        training=given.training,
    )
    return found.values[0]


def with_pyhessian(given: Given) -> float:
    if given.names:
        raise NotImplementedError("all parameters that have a gradient")
    data = {"data": (given.inputs, given.labels), "dataloader": None}
    if given.loader is not None:
        data = {"data": None, "dataloader": given.loader}
    found = pyhessian(given.model, given.loss_module(), cuda=False, **data)
    return found.eigenvalues(maxIter=1000, tol=1e-6)[0][0]


def with_curvlinops(given: Given) -> float:
    sizes = {"batch_size_fn": lambda x: len(x["left"])} if isinstance(given.inputs, dict) else {}
    operator = HessianLinearOperator(
        given.model, given.loss_module(), list(given.params.values()), given.batches, **sizes
    )
    found = eigsh(operator.to_scipy(), k=1, which="LA", return_eigenvectors=False)
    return float(found[0])


def with_eigenthings(given: Given) -> float:
    loss_fn = supervised_loss(given.loss_module())
    chosen = {"param_filter": lambda name, _: name.startswith(given.names)} if given.names else {}
    operator = HessianOperator(given.model, given.batches, loss_fn, **chosen)
    steps = min(60, sum(p.numel() for p in given.params.values()))
    return float(lanczos(operator, k=1, max_iter=steps, which="LA").eigenvalues[0])


LIBRARIES: dict[str, Callable[[Given], float]] = {
    "samsweep": samsweep,
    "PyHessian": with_pyhessian,
    "curvlinops": with_curvlinops,
    "hessian-eigenthings": with_eigenthings,
}


def outcome(library: Callable[[Given], float], case: Callable[[], Given]) -> str:
    """How far a library is off, or what it raised; with whether it left statistics moved."""
    expected, given = truth(case()), case()
    before = copy.deepcopy(given.model.state_dict())
    torch.manual_seed(0)
    try:
        off = abs(library(given) - expected) / expected
        text = f"{off:.0e}" if off <= _OFF else f"wrong: {off:.0e}"
    except Exception as error:
        text = type(error).__name__
    same = all(torch.equal(x, before[name]) for name, x in given.model.state_dict().items())
    return text if same else f"{text}, statistics moved"


def main() -> None:
    warnings.simplefilter("ignore")
    table = {
        name: {library: outcome(function, case) for library, function in LIBRARIES.items()}
        for name, case in CASES.items()
    }
    rows = [[name, *found.values()] for name, found in table.items()]
    print(tabulate(rows, headers=["given", *LIBRARIES], tablefmt="github"))
    libraries = ("pyhessian", "curvlinops-for-pytorch", "hessian-eigenthings")
    versions = {name: version(name) for name in libraries}
    measured = {"environment": environment(), "libraries": versions, "outcomes": table}
    write(RESULTS / "abilities.json", measured)


if __name__ == "__main__":
    main()
