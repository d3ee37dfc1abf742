"""The mean loss of a model over fixed examples, as a function of the model's weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep import vectors
from samsweep.sharpness.conditions import measuring
from samsweep.vectors import Vector

#: ``loss_fn(outputs, labels)``: the mean over examples, 0-d.
LossFn = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class BatchLoss:
    """The mean loss of one micro-batch.

    Args:
        model: Maps ``inputs`` to outputs.
        loss_fn: Of outputs and labels.
        inputs: Shape (n, ...).
        labels: Shape (n, ...).
    """

    model: Module
    loss_fn: LossFn
    inputs: Tensor
    labels: Tensor

    def outputs(self) -> Tensor:
        """The model's outputs, shape (n, ...), differentiable in its parameters."""
        result: Tensor = self.model(self.inputs)
        return result

    def __call__(self, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """The loss, 0-d, differentiable in the model's parameters, or in ``weights``.

        Args:
            weights: By the parameters' names, what the model has in their place meanwhile.
        """
        if weights is None:
            return self.loss_fn(self.outputs(), self.labels)
        named = {f"model.{name}": weight for name, weight in weights.items()}
        result: Tensor = functional_call(_Loss(self), named, ())
        return result


class _Loss(Module):
    """A batch's loss as a module, so that a penalty in it sees other weights as well."""

    def __init__(self, loss: BatchLoss) -> None:
        super().__init__()
        self.model = loss.model
        self._loss = loss

    def forward(self) -> Tensor:
        return self._loss()


class MeanLoss:
    """L(w) = 1/N sum_i loss(f_w(x_i), y_i), over examples that stay the same.

    Everything is evaluated in micro-batches, weighted by their sizes, under the conditions of
    :func:`~samsweep.sharpness.measuring`: eval mode and full precision. Weight decay is not part
    of the loss unless ``loss_fn`` adds it. The model's own parameters are never written to: at
    other weights it is evaluated with those put in their place.

    Args:
        model: Any classifier; ``model(inputs)`` gives the outputs.
        inputs: The fixed examples, shape (N, ...). Moved to the model's device by micro-batch.
        labels: Shape (N, ...).
        loss_fn: Mean loss over examples of (outputs, labels); a penalty on the weights takes them
            from ``model``.
        physical_batch_size: Examples per micro-batch; changes memory and speed, and the result
            only by rounding.

    Raises:
        ValueError: If there are no examples, labels do not match, the micro-batch is empty, or
            the trainable parameters are not of one floating type and device.
    """

    def __init__(
        self,
        model: Module,
        inputs: Tensor,
        labels: Tensor,
        *,
        loss_fn: LossFn = cross_entropy,
        physical_batch_size: int = 256,
    ) -> None:
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names: list[str] = list(trainable)
        self.params: list[Tensor] = list(trainable.values())
        _check_parameters(self.params)
        _check_examples(inputs, labels, physical_batch_size)
        self.model = model
        self.inputs = inputs
        self.labels = labels
        self.loss_fn = loss_fn
        self.physical_batch_size = physical_batch_size
        self.dim = vectors.numel(self.params)
        self.dtype = self.params[0].dtype
        self.device = self.params[0].device

    def __len__(self) -> int:
        """Number of examples, N."""
        return len(self.inputs)

    def take(self, start: int, stop: int) -> MeanLoss:
        """The mean loss over some of the examples."""
        return self._over(slice(start, stop))

    def _over(self, part: slice) -> MeanLoss:
        return MeanLoss(
            self.model,
            self.inputs[part],
            self.labels[part],
            loss_fn=self.loss_fn,
            physical_batch_size=self.physical_batch_size,
        )

    def batches(self, size: int) -> list[MeanLoss]:
        """The examples in order, cut into batches of one size.

        An incomplete last batch is left out, since the measures that look at batches depend on
        their size; a single one that is incomplete is all there is.
        """
        count = max(1, len(self) // size)
        return [self.take(i * size, (i + 1) * size) for i in range(count)]

    def first(self, size: int) -> BatchLoss:
        """The mean loss over a few examples from the start, as one micro-batch."""
        x, y = self.inputs[:size], self.labels[:size]
        return BatchLoss(self.model, self.loss_fn, x.to(self.device), y.to(self.device))

    def micro_batches(self) -> Iterator[tuple[float, BatchLoss]]:
        """Each micro-batch's share of the examples, and its loss."""
        inputs = torch.split(self.inputs, self.physical_batch_size)
        labels = torch.split(self.labels, self.physical_batch_size)
        for x, y in zip(inputs, labels, strict=True):
            batch = BatchLoss(self.model, self.loss_fn, x.to(self.device), y.to(self.device))
            yield len(x) / len(self), batch

    def value(self, weights: Vector | None = None) -> float:
        """L at the model's parameters, or at ``weights``, from a forward pass."""
        named = self._named(weights)
        with measuring(self.model), torch.no_grad():
            return sum(share * loss(named).item() for share, loss in self.micro_batches())

    def finite_value(self) -> float:
        """L at the model's parameters.

        Raises:
            FloatingPointError: If it is not finite.
        """
        return finite(self.value())

    def gradient(self, weights: Vector | None = None) -> tuple[float, list[Tensor]]:
        """L and its gradient at the model's parameters, or at ``weights``.

        Returns:
            The loss, and the gradient shaped like the parameters.
        """
        at = self.params if weights is None else [w.detach().requires_grad_() for w in weights]
        named = self._named(at)
        total, gradient = 0.0, [torch.zeros_like(p) for p in at]
        with measuring(self.model):
            for share, loss in self.micro_batches():
                value = loss(named)
                parts = torch.autograd.grad(value, at, materialize_grads=True)
                torch._foreach_add_(gradient, parts, alpha=share)
                total += share * value.item()
        return total, gradient

    def _named(self, weights: Vector | None) -> Mapping[str, Tensor] | None:
        return None if weights is None else dict(zip(self.names, weights, strict=True))


def _check_parameters(params: Vector) -> None:
    if not params:
        raise ValueError(
            "the model has no trainable parameter: set requires_grad=True on those to measure"
        )
    kinds = {(p.dtype, p.device) for p in params}
    if len(kinds) > 1 or params[0].dtype not in (torch.float32, torch.float64):
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise ValueError(
            f"trainable parameters are {found}: they must all be float32 or all float64 on one "
            "device; convert a copy of the model with model.float().to(device)"
        )


def _check_examples(inputs: Tensor, labels: Tensor, physical_batch_size: int) -> None:
    if len(inputs) == 0:
        raise ValueError("inputs has 0 examples: give at least one")
    if len(inputs) != len(labels):
        raise ValueError(
            f"inputs has {len(inputs)} examples, labels has {len(labels)}: give one label each"
        )
    if physical_batch_size < 1:
        raise ValueError(f"physical_batch_size={physical_batch_size}: choose at least 1")


def finite(loss: float) -> float:
    """The loss, if a Hessian can be measured there.

    Raises:
        FloatingPointError: If it is not finite.
    """
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the mean loss is {loss}: the Hessian of a diverged network cannot be measured"
        )
    return loss
