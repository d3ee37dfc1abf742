"""The largest eigenvalues of a Hessian by samsweep and by the libraries it is compared with.

Each library runs its own code. Of those beside samsweep only the Hessian-vector products are looked
at: they are counted, and kept while the starting vector is the same, see :class:`Products`.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any
from unittest import mock

import torch
from curvlinops import HessianLinearOperator
from hessian_eigenthings import HessianOperator, lanczos, supervised_loss
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.nn import CrossEntropyLoss, Module
from torch.nn.functional import cross_entropy

from samsweep.numerics.vectors import flatten, unflatten
from samsweep.sharpness import top_eigenvalues

#: Relative error that a method has to reach in every eigenvalue, from every starting vector.
TARGET = 1e-3

#: Four rungs per decade.
TOLERANCES = [round(0.1 ** (i / 4), 12) for i in range(25)]

#: Steps of hessian-eigenthings beyond its default of 2 k.
MORE_STEPS = 60


@dataclass(frozen=True)
class Problem:
    """A trained model in eval mode and the images it is measured on."""

    model: Module
    inputs: Tensor
    labels: Tensor
    batch_size: int

    @property
    def params(self) -> list[Tensor]:
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """What the libraries take for a data loader."""
        split = (torch.split(values, self.batch_size) for values in (self.inputs, self.labels))
        return list(zip(*split, strict=True))


class Enough(Exception):
    """As many products as were wanted have been taken."""


class Hopeless(Exception):
    """An eigenvalue has been settled on that is no true one."""

    def __init__(self, error: float) -> None:
        super().__init__(f"off by {error:.1e}")
        self.error = error


class Products:
    """The products of one library's runs from one starting vector, counted.

    Such runs begin with the same products, whatever the tolerance. They are taken once, so that a
    ladder of tolerances costs little more than its tightest rung, and so that all rungs speak of
    the same moment of the machine. A run is charged for a kept product with the seconds that it
    took, and not for looking it up.

    Args:
        keep: Whether to keep them.
        limit: Products after which a run is ended by :class:`Enough`.
    """

    def __init__(self, *, keep: bool = True, limit: int | None = None) -> None:
        self._keep = keep
        self._limit = limit
        self._known: dict[bytes, tuple[Any, float]] = {}
        self.restart()

    def restart(self) -> None:
        """Before each run."""
        self.num = 0
        #: Seconds to add to a run's wall time: those of kept products, less those of looking.
        self.owed = 0.0

    def take(self, vector: Iterable[Any], compute: Callable[[], Any]) -> Any:
        """The product with a vector, given in parts, which ``compute`` takes if it must."""
        entered = time.perf_counter()
        if self.num == self._limit:
            raise Enough
        key = _digest(vector) if self._keep else b""
        product, seconds = self._known.get(key) or _timed(compute)
        if self._keep:
            self._known[key] = product, seconds
        self.num += 1
        self.owed += seconds - (time.perf_counter() - entered)
        return product


def _digest(vector: Iterable[Any]) -> bytes:
    whole = hashlib.blake2b()
    for part in vector:
        whole.update(torch.as_tensor(part).detach().contiguous().view(-1).numpy())
    return whole.digest()


def _timed(compute: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = compute()
    return result, time.perf_counter() - started


def _compact(product: list[Tensor]) -> list[Tensor]:
    """In one block: kept as they come, small tensors would hold the memory between them."""
    return unflatten(flatten(product), product)


@dataclass(frozen=True)
class Task:
    """What a method is asked for.

    Args:
        problem: The Hessian.
        k: Number of eigenvalues.
        setting: The method's tolerance, or its number of steps.
        start: Seed of the starting vector.
        products: Counts and keeps.
        truth: The true eigenvalues, if a run that must miss them may be ended.
    """

    problem: Problem
    k: int
    setting: float
    start: int
    products: Products
    truth: Sequence[float] | None = None


# --------------------------------------------------------------------------- the methods


def run_samsweep(task: Task) -> list[float]:
    """With its defaults, but never more images at a time than the libraries are given."""
    default = inspect.signature(top_eigenvalues).parameters["physical_batch_size"].default
    found = top_eigenvalues(
        task.problem.model,
        task.problem.inputs,
        task.problem.labels,
        k=task.k,
        tolerance=task.setting,
        seed=task.start,
        physical_batch_size=min(default, task.problem.batch_size),
    )
    task.products.num = found.num_hvps
    return list(found.values)


@dataclass
class StoppingRule:
    """PyHessian's: an estimate that differs little from the one before it ends an eigenvalue.

    Args:
        tolerance: On the change, relative to the estimate before.
    """

    tolerance: float
    accepted: list[float] = field(default_factory=list)
    _before: float | None = None

    def ends(self, estimate: float) -> bool:
        """Whether this estimate is an eigenvalue's last; the one before it is then the result."""
        before = self._before
        if before is not None and abs(before - estimate) / (abs(before) + 1e-6) < self.tolerance:
            self.accepted.append(before)
            self._before = None
            return True
        self._before = estimate
        return False


def run_pyhessian(task: Task) -> list[float]:
    """Power iteration, and deflation for more than one eigenvalue.

    One batch is given as ``data``, whose graph PyHessian keeps; several are given as its
    ``dataloader``.
    """
    library = import_module("pyhessian.hessian")  # in the package the name is the class
    one, many = library.hessian_vector_product, library.hessian.dataloader_hv_product
    rule = StoppingRule(task.setting)

    def watch(estimate: float) -> None:
        if rule.ends(estimate) and task.truth is not None:
            error = min(abs(rule.accepted[-1] / value - 1) for value in task.truth)
            if error > TARGET:
                raise Hopeless(error)

    def one_batch(gradients: Any, params: Any, v: Any) -> Any:
        product = task.products.take(v, lambda: _compact(one(gradients, params, v)))
        watch(library.group_product(product, v).item())
        return product

    def many_batches(hessian: Any, v: Any) -> Any:
        def compute() -> tuple[float, list[Tensor]]:
            estimate, product = many(hessian, v)
            return estimate, _compact(product)

        estimate, product = task.products.take(v, compute)
        watch(estimate)
        return estimate, product

    batches = task.problem.batches
    data = {"dataloader": batches} if len(batches) > 1 else {"data": batches[0]}
    torch.manual_seed(task.start)
    with (
        warnings.catch_warnings(),
        mock.patch.object(library, "hessian_vector_product", one_batch),
        mock.patch.object(library.hessian, "dataloader_hv_product", many_batches),
    ):
        warnings.filterwarnings("ignore", "Using backward", UserWarning)
        hessian = library.hessian(task.problem.model, CrossEntropyLoss(), cuda=False, **data)
        values, _ = hessian.eigenvalues(maxIter=1000, tol=task.setting, top_n=task.k)
    assert values == rule.accepted, f"PyHessian returned {values}, and not {rule.accepted}"
    return values


def run_curvlinops(task: Task, extra_vectors: int | None = None) -> list[float]:
    """curvlinops' product under scipy's eigsh.

    The starting vector is that of samsweep and of hessian-eigenthings. curvlinops' check that model
    and data are deterministic is left out, which favours it.

    Args:
        extra_vectors: The Krylov space has 2 k + this; None is scipy's max(2 k + 1, 20).
    """
    problem = task.problem
    hessian = HessianLinearOperator(
        problem.model,
        CrossEntropyLoss(),
        problem.params,
        problem.batches,
        check_deterministic=False,
        num_data=len(problem.inputs),
    ).to_scipy()
    v0 = torch.randn(hessian.shape[0], generator=torch.Generator().manual_seed(task.start))
    counted = LinearOperator(
        hessian.shape,
        dtype=hessian.dtype,
        matvec=lambda v: task.products.take([v], lambda: hessian.matvec(v)),
    )
    values = eigsh(
        counted,
        task.k,
        which="LA",
        tol=task.setting,
        v0=v0.double().numpy(),
        ncv=None if extra_vectors is None else 2 * task.k + extra_vectors,
        return_eigenvectors=False,
    )
    return [float(value) for value in values]


class _Counted(HessianOperator):
    products: Products

    def matvec(self, v: Tensor) -> Tensor:
        return self.products.take([v], partial(super().matvec, v)).clone()


def run_eigenthings(task: Task, *, default: bool = False) -> list[float]:
    """hessian-eigenthings' Lanczos, which takes as many steps as it is told.

    Args:
        default: Leave the number of steps to the library, which takes 2 k.
    """
    problem = task.problem
    hessian = _Counted(problem.model, problem.batches, supervised_loss(cross_entropy))
    hessian.products = task.products
    steps = None if default else int(task.setting)
    return lanczos(hessian, k=task.k, seed=task.start, max_iter=steps).eigenvalues.tolist()


@dataclass(frozen=True)
class Method:
    """One way to the eigenvalues.

    Args:
        title: In tables.
        package: Whose products it takes; methods of one package share those they have in common.
        settings: Of k, from the loosest to the tightest.
        run: Gives the eigenvalues, in any order.
    """

    title: str
    package: str
    settings: Callable[[int], Sequence[float]]
    run: Callable[[Task], list[float]]


METHODS = {
    "samsweep": Method("samsweep", "samsweep", lambda k: TOLERANCES, run_samsweep),
    "pyhessian": Method("PyHessian", "pyhessian", lambda k: TOLERANCES, run_pyhessian),
    "curvlinops": Method("curvlinops, eigsh", "curvlinops", lambda k: TOLERANCES, run_curvlinops),
    "curvlinops_ncv": Method(
        "curvlinops, eigsh, ncv=2k+4",
        "curvlinops",
        lambda k: TOLERANCES,
        partial(run_curvlinops, extra_vectors=4),
    ),
    "eigenthings": Method(
        "hessian-eigenthings, default",
        "eigenthings",
        lambda k: [2 * k],
        partial(run_eigenthings, default=True),
    ),
    "eigenthings_steps": Method(
        "hessian-eigenthings, fewest steps",
        "eigenthings",
        lambda k: range(2 * k, 2 * k + MORE_STEPS),
        run_eigenthings,
    ),
}


# --------------------------------------------------------------------------- one run


@dataclass(frozen=True)
class Outcome:
    """Of one run.

    Args:
        error: Largest relative error of the k eigenvalues.
        seconds: Kept products at what they took.
        products: Over all images.
    """

    error: float
    seconds: float
    products: int


def run(method: Method, task: Task, truth: Sequence[float]) -> Outcome:
    """Run a method once, timed, and compare it with the truth."""
    task.products.restart()
    gc.collect()
    started = time.perf_counter()
    try:
        values = method.run(task)
        error = largest_error(values, truth)
    except Hopeless as hopeless:
        error = hopeless.error
    seconds = time.perf_counter() - started + task.products.owed
    task.problem.model.zero_grad(set_to_none=True)  # PyHessian's gradients hold its graph
    return Outcome(error, seconds, task.products.num)


def largest_error(values: Sequence[float], truth: Sequence[float]) -> float:
    """Of the eigenvalues, each relative to its own true value, both in descending order."""
    found = sorted(values, reverse=True)
    return max(abs(value / true - 1) for value, true in zip(found, truth, strict=True))


class Search:
    """A method on its way to the loosest setting with which all starts reach the target.

    Args:
        method: With its settings.
        k: Number of eigenvalues.
    """

    def __init__(self, method: Method, k: int) -> None:
        self.method = method
        self.k = k
        self._settings = list(method.settings(k))
        self._rung = 0
        self._outcomes: list[dict[int, Outcome]] = [{} for _ in self._settings]

    @property
    def setting(self) -> float:
        return self._settings[self._rung]

    @property
    def is_last(self) -> bool:
        """Whether there is no tighter setting."""
        return self._rung == len(self._settings) - 1

    @property
    def outcomes(self) -> dict[int, Outcome]:
        """By start, with the present setting."""
        return self._outcomes[self._rung]

    @property
    def reached(self) -> bool:
        return all(outcome.error <= TARGET for outcome in self.outcomes.values())

    @property
    def tried(self) -> dict[float, float]:
        """The largest error that was met with each setting."""
        worst = (max(o.error for o in found.values()) for found in self._outcomes if found)
        return dict(zip(self._settings, worst, strict=False))

    def add(self, start: int, outcome: Outcome) -> None:
        """Note an outcome, and turn to the next setting if it was not good enough."""
        self.outcomes[start] = outcome
        if outcome.error > TARGET and not self.is_last:
            self._rung += 1


def search(
    problem: Problem,
    searches: Sequence[Search],
    num_starts: int,
    truth: Sequence[float],
    tell: Callable[[Search, float, int, Outcome], None] = lambda *_: None,
) -> None:
    """Run all searches to their ends, the methods in turn within each start.

    Where a later start asks for a tighter setting, the earlier ones are gone through again.
    """
    while any(len(each.outcomes) < num_starts for each in searches):
        for start in range(num_starts):
            kept = {each.method.package: Products() for each in searches}
            for each in searches:
                while start not in each.outcomes:
                    setting, goal = each.setting, truth[: each.k]
                    task = Task(
                        problem,
                        each.k,
                        setting,
                        start,
                        kept[each.method.package],
                        truth=None if each.is_last else goal,
                    )
                    outcome = run(each.method, task, goal)
                    each.add(start, outcome)
                    tell(each, setting, start, outcome)
