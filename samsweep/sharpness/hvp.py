"""The Hessian of a model's mean loss over fixed examples, as products with vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
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

    def __call__(self) -> Tensor:
        """The loss, 0-d, differentiable in the model's parameters."""
        return self.loss_fn(self.model(self.inputs), self.labels)


#: ``hvp(loss, params, v)``: the Hessian of one micro-batch's loss times ``v``, both shaped like
#: ``params``.
HVP = Callable[[BatchLoss, Vector, Vector], Vector]


def double_backward(loss: BatchLoss, params: Vector, v: Vector) -> Vector:
    """Hessian-vector product as the gradient of the slope along ``v`` (Pearlmutter 1994).

    H v = grad(grad(L)ᵀ v), with v constant.

    Args:
        loss: L.
        params: What L is differentiated in.
        v: Shaped like ``params``.

    Returns:
        H v, shaped like ``params``.
    """
    grads = torch.autograd.grad(loss(), params, create_graph=True, materialize_grads=True)
    slope = vectors.dot(grads, v)
    if not slope.requires_grad:  # a loss that is linear in every parameter
        return [torch.zeros_like(p) for p in params]
    return torch.autograd.grad(slope, params, materialize_grads=True)


class HessianOperator:
    """Hessian of the mean loss over all examples, in the model's trainable parameters.

        H = 1/N sum_i hess_w loss(f_w(x_i), y_i)

    It is evaluated in micro-batches, weighted by their sizes, under the conditions of
    :func:`~samsweep.sharpness.measuring`: eval mode and full precision. Weight decay is not part
    of the loss unless ``loss_fn`` adds it.

    Args:
        model: Any classifier; ``model(inputs)`` gives the outputs.
        inputs: The fixed examples, shape (N, ...). Moved to the model's device by micro-batch.
        labels: Shape (N, ...).
        loss_fn: Mean loss over examples of (outputs, labels).
        physical_batch_size: Examples per micro-batch; changes memory and speed, and the result
            only by rounding.
        hvp: How one micro-batch's product is computed.

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
        hvp: HVP = double_backward,
    ) -> None:
        self.params: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        _check_parameters(self.params)
        _check_examples(inputs, labels, physical_batch_size)
        self.dim = vectors.numel(self.params)
        self.dtype = self.params[0].dtype
        self.device = self.params[0].device
        self.num_hvps = 0
        self._model = model
        self._inputs = inputs
        self._labels = labels
        self._loss_fn = loss_fn
        self._physical_batch_size = physical_batch_size
        self._hvp = hvp

    def matvec(self, v: Tensor) -> Tensor:
        """The product H v.

        Args:
            v: Shape (dim,), the parameters in the model's order, each flattened.

        Returns:
            H v, shape (dim,).

        Raises:
            ValueError: If ``v`` has another size.
        """
        parts = vectors.unflatten(v, self.params)
        product = torch.zeros_like(v)
        with measuring(self._model):
            for weight, loss in self._micro_batches():
                product += weight * vectors.flatten(self._hvp(loss, self.params, parts))
        self.num_hvps += 1
        return product

    def loss(self) -> float:
        """The mean loss over all examples, from a forward pass."""
        with measuring(self._model), torch.no_grad():
            return sum(weight * loss().item() for weight, loss in self._micro_batches())

    def _micro_batches(self) -> Iterator[tuple[float, BatchLoss]]:
        """Each micro-batch's share of the examples, and its loss."""
        inputs = torch.split(self._inputs, self._physical_batch_size)
        labels = torch.split(self._labels, self._physical_batch_size)
        for x, y in zip(inputs, labels, strict=True):
            batch = BatchLoss(self._model, self._loss_fn, x.to(self.device), y.to(self.device))
            yield len(x) / len(self._inputs), batch


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
