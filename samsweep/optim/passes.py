"""One pass of a closure, forward and backward, in whatever training loop it stands.

Around a step there may be autocast, which keeps casts of weights that have moved since; the network
may be a ``DistributedDataParallel``, whose hooks ``torch.autograd.grad`` passes by; the closure may
call ``backward`` itself, as everybody's does; and losses may be scaled, so that float16 has a
gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from samsweep.numerics.autograd_graph import refuse_reentrant_checkpoints
from samsweep.numerics.vectors import Vector

Closure = Callable[[], Tensor]
#: Of processes that have a part of the mini-batch each.
Groups = Sequence["dist.ProcessGroup"]


@dataclass(frozen=True)
class Pass:
    """What a forward and a backward pass gave.

    Args:
        loss: 0-d.
        params: The parameters that the loss depends on, of some rank at least.
        gradient: In these; the mean over ranks, unless it was asked for without.
        groups: Of the ranks whose mean it is still to become.
    """

    loss: Tensor
    params: Vector
    gradient: Vector
    groups: Groups = ()

    def averaged(self) -> Pass:
        """The same with the mean over ranks."""
        return replace(self, gradient=mean_over_ranks(self.gradient, self.groups), groups=())

    def unscaled(self, scaler: GradScaler) -> Pass:
        """The same without the factor of the loss.

        Raises:
            Overflow: If the gradient is not finite, on this rank or on one of :attr:`groups`.
        """
        gradient = torch._foreach_div(self.gradient, scaler.get_scale())
        finite = torch.stack([g.isfinite().all() for g in gradient]).all().int()
        for group in self.groups:
            dist.all_reduce(finite, dist.ReduceOp.MIN, group=group)
        found = replace(self, gradient=gradient)
        if not finite:
            raise Overflow(found)
        return found


class Overflow(ArithmeticError):
    """A gradient of a scaled loss is not finite: the step is to be left out."""

    def __init__(self, found: Pass) -> None:
        super().__init__("a gradient is not finite")
        self.found = found


def loss_of(closure: Closure) -> Tensor:
    """The loss of a forward pass at the weights as they are."""
    # An autocast around the step has casts of them from before they were moved or updated.
    torch.clear_autocast_cache()
    return closure()


def take_pass(
    closure: Closure,
    params: Sequence[Tensor],
    *,
    every: bool = False,
    average: bool = True,
    scaler: GradScaler | None = None,
) -> Pass:
    """Loss and gradient of a closure; its parameters' ``grad`` is None before and after.

    Args:
        closure: Returns the loss, 0-d, and may have called its ``backward``.
        params: To differentiate in.
        every: Whether those that the loss does not depend on have a gradient of 0, and are not left
            out, as torch's optimizers leave out a parameter whose ``grad`` is None.
        average: Whether the gradient is the mean over the ranks of a ``DistributedDataParallel``.
        scaler: Scales the loss, or has scaled it where the closure calls ``backward``.

    Raises:
        ValueError: If the loss depends on none of them.
        Overflow: If there is a scaler, and the gradient is not finite.
    """
    found = _take_pass(closure, params, every=every, average=average, scaler=scaler)
    return found if scaler is None else found.unscaled(scaler)


def _take_pass(
    closure: Closure,
    params: Sequence[Tensor],
    *,
    every: bool,
    average: bool,
    scaler: GradScaler | None,
) -> Pass:
    with ranks() as groups:
        loss = loss_of(closure)
    if any(p.grad is not None for p in params):
        # By the closure's own backward, whose hooks have averaged it.
        if groups and not average:
            raise ValueError(
                "each_rank=True: the closure's own backward averages over the ranks, let it return "
                "the loss without"
            )
        return Pass(loss.detach(), *with_gradient(params, take_gradients(params), every=every))
    grads = gradients(loss if scaler is None else scaler.scale(loss), params)
    if all(g is None for g in grads):
        raise ValueError("the closure's loss depends on no parameter of the optimizer")
    found = with_gradient(params, grads, every=every or bool(groups))
    if not groups:
        return Pass(loss.detach(), *found)
    used = found if every else _of_any_rank(*found, grads, groups)
    here = Pass(loss.detach(), *used, tuple(groups))
    return here.averaged() if average else here


def take_gradients(params: Sequence[Tensor]) -> list[Tensor | None]:
    """What ``backward`` has left in the parameters, which have none afterwards."""
    # A view is of a bucket of DistributedDataParallel, which the next backward writes into.
    grads = [p.grad.clone() if p.grad is not None and p.grad._is_view() else p.grad for p in params]
    for p in params:
        p.grad = None
    return grads


def gradients(
    loss: Tensor, params: Sequence[Tensor], *, create_graph: bool = False
) -> Sequence[Tensor | None]:
    """Of a loss with its graph, None for parameters that it does not depend on.

    Raises:
        ValueError: If the network checkpoints reentrantly.
    """
    if not loss.requires_grad:
        return []
    try:
        grads = torch.autograd.grad(loss, params, allow_unused=True, create_graph=create_graph)
    except RuntimeError:
        refuse_reentrant_checkpoints(loss)
        raise
    if any(g is None for g in grads):
        refuse_reentrant_checkpoints(loss)
    return grads


def with_gradient(
    params: Sequence[Tensor], grads: Sequence[Tensor | None], *, every: bool = False
) -> tuple[Vector, Vector]:
    """The parameters that have one, or all of them with zeros where there is none, and theirs."""
    if every:
        pairs = [
            (p, torch.zeros_like(p) if g is None else g) for p, g in zip(params, grads, strict=True)
        ]
    else:
        pairs = [(p, g) for p, g in zip(params, grads, strict=True) if g is not None]
    return [p for p, _ in pairs], [g for _, g in pairs]


# --------------------------------------------------------------------------- closures


class AfterBackward:
    """The closure of a loop that has called ``backward`` before ``step()``.

    The first pass is the loop's own, with a loss that nobody has handed on: NaN.

    Args:
        params: Have the gradient.
        replay: Goes forward and backward once more, and may return the loss; None where no further
            pass is needed.

    Raises:
        ValueError: If there is no gradient.
    """

    def __init__(
        self, params: Sequence[Tensor], replay: Callable[[], Tensor | None] | None
    ) -> None:
        if all(p.grad is None for p in params):
            raise ValueError(
                "step() without a closure takes gradients that are there: call backward before, or "
                "give a closure that computes the loss"
            )
        self._params = params
        self._replay = replay
        self._grads: list[Tensor | None] | None = take_gradients(params)

    def discard(self) -> None:
        """Do without the loop's own pass: the step takes none at w."""
        self._grads = None

    def __call__(self) -> Tensor:
        """The loss; the gradient is in the parameters.

        Raises:
            ValueError: If there has to be another pass, and nothing to take it with.
        """
        unknown = self._params[0].new_full((), float("nan"))
        if self._grads is not None:
            for p, grad in zip(self._params, self._grads, strict=True):
                p.grad = grad
            self._grads = None
            return unknown
        if self._replay is None:
            raise ValueError(
                "a second pass needs a closure, step(closure), or optimizer.replay: a function "
                "that goes forward and backward with the same mini-batch"
            )
        loss = self._replay()
        return unknown if loss is None else loss


class SameDraws:
    """A closure that draws in every call what it has drawn in its first: dropout's masks.

    Args:
        closure: Draws from torch's own generators.
        params: On whose devices these are.
    """

    def __init__(self, closure: Closure, params: Iterable[Tensor]) -> None:
        self._closure = closure
        self._devices = list({p.device for p in params if p.is_cuda})
        self._before: list[Tensor] | None = None

    def __call__(self) -> Tensor:
        """The loss."""
        if self._before is None:
            self._before = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self._devices)]
            return self._closure()
        with torch.random.fork_rng(self._devices):
            cpu, *others = self._before
            torch.set_rng_state(cpu)
            for state, device in zip(others, self._devices, strict=True):
                torch.cuda.set_rng_state(state, device)
            return self._closure()


# --------------------------------------------------------------------------- ranks


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@contextmanager
def ranks() -> Iterator[list[dist.ProcessGroup]]:
    """The groups whose ranks a pass inside the block has to average over, in order of use.

    Those of every ``DistributedDataParallel`` that runs forward outside of its ``no_sync``.
    """
    groups: list[dist.ProcessGroup] = []
    if not is_distributed():
        yield groups
        return

    _watch()
    _watching.append(groups)
    try:
        yield groups
    finally:
        _watching.pop()


#: Of the passes that run, the innermost last.
_watching: list[list[dist.ProcessGroup]] = []


@functools.cache
def _watch() -> None:
    """Note where a ``DistributedDataParallel`` runs; once, since compilers look at hooks."""

    def note(module: nn.Module, inputs: object) -> None:
        if isinstance(module, DistributedDataParallel) and _watching:
            group = module.process_group
            is_new = group not in _watching[-1] and dist.get_world_size(group) > 1
            if is_new and module.require_backward_grad_sync:
                _watching[-1].append(group)

    register_module_forward_pre_hook(note)


def _of_any_rank(
    params: Vector, gradient: Vector, grads: Sequence[Tensor | None], groups: Groups
) -> tuple[Vector, Vector]:
    """Without what no rank's loss depends on."""
    used = torch.tensor([g is not None for g in grads], dtype=torch.int32).to(gradient[0].device)
    for group in groups:
        dist.all_reduce(used, dist.ReduceOp.MAX, group=group)
    kept = [i for i, there in enumerate(used.tolist()) if there]
    return [params[i] for i in kept], [gradient[i] for i in kept]


def mean_over_ranks(vector: Vector, groups: Groups) -> Vector:
    """The mean of each rank's, all tensors of a type in one message."""
    if not groups:
        return vector
    found: list[Tensor] = list(vector)
    # In one order on all ranks.
    for dtype in dict.fromkeys(x.dtype for x in vector):
        places = [i for i, x in enumerate(vector) if x.dtype == dtype]
        flat = torch.cat([vector[i].reshape(-1) for i in places])
        for group in groups:
            dist.all_reduce(flat, group=group)
            flat.div_(dist.get_world_size(group))
        parts = torch.split(flat, [vector[i].numel() for i in places])
        for i, part in zip(places, parts, strict=True):
            found[i] = part.view_as(vector[i])
    return found
