"""Parts of a mini-batch, several differentiated in one pass, each with weights of its own.

What m-SAM takes one after the other becomes one pass over all examples (``torch.func.vmap``), with
the same numbers but for rounding. It holds the gradients and the weights of all parts at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from samsweep.numerics.vectors import Vector

#: Parameters, and for each part of the mini-batch what they are moved by.
Moves = tuple[Vector, Sequence[Vector]]


class BatchedParts(Sequence[Callable[[], Tensor]]):
    """Parts of a mini-batch for :meth:`SAM.step`, several of them to a pass.

    As a sequence it has a closure for each part, which computes that part alone.

    A parameter on which the loss does not depend has a gradient of zero here, so that weight decay
    acts on it, and random numbers of the network's own (dropout) are not those of single passes.

    Args:
        model: The network, whose trainable parameters are the optimizer's.
        loss: Of a part's outputs and labels, 0-d.
        inputs: Of the mini-batch, shape (B, ...).
        labels: Shape (B, ...).
        size: Examples of a part, m; divides B.
        at_once: Parts of a pass.
        forward_in: Makes the context of each forward pass, such as autocast.
        outputs_seen: Called with outputs (m, ...) and the number of a part at each pass.

    Raises:
        ValueError: If sizes do not divide, or the network is a ``DistributedDataParallel``.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
        *,
        size: int,
        at_once: int,
        forward_in: Callable[[], AbstractContextManager[object]] = nullcontext,
        outputs_seen: Callable[[Tensor, int], None] = lambda outputs, part: None,
    ) -> None:
        if size < 1 or at_once < 1 or len(labels) % size:
            raise ValueError(
                f"size={size}, at_once={at_once}: choose at least 1, and a size that divides the "
                f"{len(labels)} examples"
            )
        if isinstance(model, DistributedDataParallel):
            raise ValueError(
                "parts in one pass are of one process: give closures, one for each part, or "
                "SAM(..., each_rank=True)"
            )
        self._model = model
        self._loss = loss
        self._inputs = inputs.view(-1, size, *inputs.shape[1:])
        self._labels = labels.view(-1, size, *labels.shape[1:])
        self._at_once = at_once
        self._forward_in = forward_in
        self._outputs_seen = outputs_seen

    def __len__(self) -> int:
        """How many parts."""
        return len(self._labels)

    def __getitem__(self, part: int) -> Callable[[], Tensor]:  # type: ignore[override]
        """The closure of one part."""
        return partial(self._alone, range(len(self))[part])

    def _alone(self, part: int) -> Tensor:
        with self._forward_in():
            outputs = self._model(self._inputs[part])
        self._outputs_seen(outputs.detach(), part)
        return self._loss(outputs, self._labels[part])

    def gradients(self, params: Vector, moves: Moves | None = None) -> list[tuple[Tensor, Vector]]:
        """Loss, 0-d, and gradient of each part; running statistics move as by single passes.

        Args:
            params: In which to differentiate.
            moves: By what some of them are moved for each part; None leaves them where they are.

        Raises:
            ValueError: If batch norm averages over all steps (``momentum=None``).
        """
        found: list[tuple[Tensor, Vector]] = []
        for first in range(0, len(self), self._at_once):
            chunk = slice(first, first + self._at_once)
            moved = None if moves is None else (moves[0], moves[1][chunk])
            losses, gradients, outputs = self._pass(chunk, params, moved)
            for i, (loss, output) in enumerate(zip(losses, outputs, strict=True)):
                self._outputs_seen(output, first + i)
                found.append((loss, [gradient[i] for gradient in gradients]))
        return found

    def _pass(
        self, chunk: slice, params: Vector, moves: Moves | None
    ) -> tuple[Tensor, Vector, Tensor]:
        """Losses, gradients and outputs of some parts, each with the parts as first dimension."""
        names = [self._name_of[id(p)] for p in params]
        weights = {name: p.detach() for name, p in zip(names, params, strict=True)}
        shared: dict[str, int | None] = dict.fromkeys(names)
        for i, param in enumerate(moves[0] if moves else ()):
            name = self._name_of[id(param)]
            steps = torch.stack([epsilon[i] for epsilon in moves[1]]) if moves else param
            weights[name], shared[name] = weights[name] + steps, 0
        labels, running = self._labels[chunk], self._statistics
        differentiate = grad_and_value(self._loss_of, has_aux=True)
        over_parts = vmap(differentiate, in_dims=(shared, 0, 0, 0), randomness="different")
        gradients, (losses, (outputs, statistics)) = over_parts(
            weights, running.of(len(labels)), self._inputs[chunk], labels
        )
        running.move(statistics, len(labels))
        return losses, [gradients[name] for name in names], outputs

    @cached_property
    def _name_of(self) -> dict[int, str]:
        return {id(p): name for name, p in self._model.named_parameters()}

    @cached_property
    def _statistics(self) -> _Statistics:
        return _Statistics(self._model)

    def _loss_of(
        self, weights: dict[str, Tensor], statistics: dict[str, Tensor], x: Tensor, y: Tensor
    ) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        own = {name: buffer.clone() for name, buffer in statistics.items()}
        with self._forward_in():
            outputs = functional_call(self._model, (weights, own), (x,))
        return self._loss(outputs, y), (outputs.detach(), own)


class _Statistics:
    """Running statistics of batch norm: what parts make of them side by side, one after the other.

    With r before, part i alone gives r_i = (1 - a) r + a s_i; all n in turn give
    (1 - a)^n r + sum over i of (1 - a)^(n - 1 - i) (r_i - (1 - a) r).
    """

    def __init__(self, model: nn.Module) -> None:
        self._momentum: dict[str, float] = {}
        self._buffers: dict[str, Tensor] = {}
        for name, layer in model.named_modules():
            if not isinstance(layer, _BatchNorm) or not layer.track_running_stats:
                continue
            if layer.momentum is None:
                raise ValueError(
                    f"batch norm {name!r} has momentum=None, whose average parts side by side "
                    "cannot take: give it a momentum, or one part to a pass"
                )
            for own, buffer in layer.named_buffers():
                self._buffers[f"{name}.{own}" if name else own] = buffer
                self._momentum[f"{name}.{own}" if name else own] = layer.momentum

    def of(self, parts: int) -> dict[str, Tensor]:
        """As they are, for each part, shapes (parts, ...)."""
        return {name: buffer.expand(parts, *buffer.shape) for name, buffer in self._buffers.items()}

    def move(self, by_part: dict[str, Tensor], parts: int) -> None:
        """Take up what each part alone gives, shapes (parts, ...)."""
        for name, buffer in self._buffers.items():
            if not buffer.is_floating_point():
                buffer += parts
                continue
            kept = 1 - self._momentum[name]
            weights = buffer.new_tensor([kept**later for later in reversed(range(parts))])
            new = torch.tensordot(weights, by_part[name] - kept * buffer, dims=1)
            buffer.mul_(kept**parts).add_(new)
