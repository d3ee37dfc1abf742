"""One pass of a closure, forward and backward, in whatever training loop it stands.

Around a step there may be autocast, which keeps casts of weights that have moved since; the network
may be a ``DistributedDataParallel``, whose hooks ``torch.autograd.grad`` passes by; and the closure
may call ``backward`` itself, as everybody's does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

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


def loss_of(closure: Closure) -> Tensor:
    """The loss of a forward pass at the weights as they are."""
    # An autocast around the step has casts of them from before they were moved or updated.
    torch.clear_autocast_cache()
    return closure()


def take_pass(
    closure: Closure, params: Sequence[Tensor], *, every: bool = False, average: bool = True
) -> Pass:
    """Loss and gradient of a closure; its parameters' ``grad`` is None before and after.

    Args:
        closure: Returns the loss, 0-d, and may have called its ``backward``.
        params: To differentiate in.
        every: Whether those that the loss does not depend on have a gradient of 0, and are not left
            out, as torch's optimizers leave out a parameter whose ``grad`` is None.
        average: Whether the gradient is the mean over the ranks of a ``DistributedDataParallel``.

    Raises:
        ValueError: If the loss depends on none of them.
    """
    with ranks() as groups:
        loss = loss_of(closure)
    if any(p.grad is not None for p in params):
        # By the closure's own backward, whose hooks have averaged it.
        if groups and not average:
            raise ValueError(
                "each_rank=True: the closure's own backward averages over the ranks, let it return "
                "the loss without"
            )
        grads: Sequence[Tensor | None] = [p.grad for p in params]
        for p in params:
            p.grad = None
        return Pass(loss.detach(), *with_gradient(params, grads, every=every))
    grads = torch.autograd.grad(loss, params, allow_unused=True) if loss.requires_grad else []
    if all(g is None for g in grads):
        raise ValueError("the closure's loss depends on no parameter of the optimizer")
    found = with_gradient(params, grads, every=every or bool(groups))
    if not groups:
        return Pass(loss.detach(), *found)
    used = found if every else _of_any_rank(*found, grads, groups)
    here = Pass(loss.detach(), *used, tuple(groups))
    return here.averaged() if average else here


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


# --------------------------------------------------------------------------- ranks


@contextmanager
def ranks() -> Iterator[list[dist.ProcessGroup]]:
    """The groups whose ranks a pass inside the block has to average over, in order of use.

    Those of every ``DistributedDataParallel`` that runs forward outside of its ``no_sync``.
    """
    groups: list[dist.ProcessGroup] = []
    if not (dist.is_available() and dist.is_initialized()):
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
