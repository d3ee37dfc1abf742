"""The mean loss of a model over fixed examples, as a function of the model's weights.

The network computes in its own type, the loss of its outputs in float64: the softmax of a network
that fits its data rounds in float32, with every derivative
(:mod:`samsweep.sharpness.float64_loss`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.utils._pytree import tree_leaves, tree_map

from samsweep.numerics import vectors
from samsweep.numerics.autograd_graph import refuse_reentrant_checkpoints
from samsweep.numerics.vectors import Vector
from samsweep.sharpness.examples import (
    Inputs,
    arguments,
    collected,
    moved,
    number_of,
    outputs_of,
    some_of,
)
from samsweep.sharpness.float64_loss import (
    LossFn,
    in_float64,
    is_exact,
    loss_in_float64,
    rounds_in_the_network,
)
from samsweep.sharpness.measuring_mode import check_one_batch, measuring
from samsweep.sharpness.micro_batches import Shares, shares_of
from samsweep.sharpness.passes import pass_taken
from samsweep.sharpness.random_vectors import rademacher

log = logging.getLogger(__name__)

#: Examples on which a loss is tried before it is taken of all.
NUM_TRIED = 4
#: Draws of signs, along which a loss that bends may have no curvature.
_NUM_DRAWS = 5

#: Outputs of a network are taken to be wrong by so many units of rounding of their own. Of ten
#: networks at eight losses none had a curvature that was further off (``benchmarks/fit.py``).
OUTPUT_ROUNDING = 4
#: And products with a Hessian by so many, relative to its norm: no network with layer norm or of
#: many layers was further off (``tests/sharpness/test_rounding.py``).
PRODUCT_ROUNDING = 128


@dataclass(frozen=True)
class BatchLoss:
    """The mean loss of one micro-batch, its outputs taken in float64 or not (``double``)."""

    model: Module
    loss_fn: LossFn
    inputs: Inputs
    labels: Tensor
    double: bool = True

    def outputs(self, weights: Mapping[str, Tensor] | None = None) -> Any:
        """The model's outputs, shape (n, ...), differentiable in its parameters, or ``weights``."""
        if weights is not None:
            return functional_call(self.model, dict(weights), *arguments(self.inputs))
        return outputs_of(self.model, self.inputs)

    def __call__(self, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """The loss, 0-d, differentiable in the model's parameters, or in ``weights`` by name."""
        if weights is None:
            return self.of(self.outputs())
        named = {f"model.{name}": weight for name, weight in weights.items()}
        result: Tensor = functional_call(_Loss(self), named, ())
        return result

    def of(self, outputs: Tensor) -> Tensor:
        """The loss of these outputs, 0-d."""
        if self.double:
            return loss_in_float64(self.loss_fn, outputs, self.labels)
        return self.loss_fn(outputs, self.labels)


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

    Everything is evaluated in micro-batches, each with its share in the loss
    (:mod:`samsweep.sharpness.micro_batches`), under the conditions of
    :func:`~samsweep.sharpness.measuring`: eval mode and full precision. Weight decay is not part
    of the loss unless ``loss_fn`` adds it. The loss of the outputs is computed in float64, whatever
    the network's type, unless ``loss_fn`` cannot do that (:attr:`epsilon`). The model's own
    parameters are never written to: at other weights it is evaluated with those in their place.

    Args:
        model: Any network; ``model(inputs)`` gives the outputs, of a mapping ``model(**inputs)``.
        inputs: The fixed examples, shape (N, ...), or a structure of such tensors; without labels
            a loader (:func:`~samsweep.sharpness.examples.collected`). Moved to the model's device
            by micro-batch.
        labels: Shape (N, ...).
        loss_fn: Of (outputs, labels), a mean over examples, a weighted one, or a sum; a penalty on
            the weights takes them from ``model``.
        physical_batch_size: Examples per micro-batch; changes memory and speed, and the result
            only by rounding.

    Raises:
        ValueError: If there are no examples, labels do not match, the micro-batch is empty, or
            the trainable parameters are not of one floating type and device; when a loss is first
            taken, if ``loss_fn`` is no sum over micro-batches and there are several.
    """

    def __init__(
        self,
        model: Module,
        inputs: Inputs,
        labels: Tensor | None = None,
        *,
        loss_fn: LossFn = cross_entropy,
        physical_batch_size: int = 256,
    ) -> None:
        trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names: list[str] = list(trainable)
        self.params: list[Tensor] = list(trainable.values())
        _check_parameters(self.params)
        self.inputs, self.labels = collected(inputs, labels)
        _check_examples(self.inputs, self.labels, physical_batch_size)
        check_one_batch(model, len(self.labels), physical_batch_size)
        self.model = model
        self.loss_fn = loss_fn
        self.physical_batch_size = physical_batch_size
        self.dim = vectors.numel(self.params)
        self.dtype = self.params[0].dtype
        self.device = self.params[0].device
        self._fixed: dict[str, Tensor] | None = None  # where the network is taken in float64

    def __len__(self) -> int:
        """Number of examples, N."""
        return len(self.labels)

    def doubled(self) -> MeanLoss:
        """The same loss of the same weights, with the network in float64 as well.

        The model's own parameters and buffers stay as they are.
        """
        other = self.part(slice(None))
        other.dtype = torch.float64
        other.params = [p.detach().double().requires_grad_() for p in self.params]
        held = (*self.model.named_parameters(), *self.model.named_buffers())
        other._fixed = {
            name: in_float64(t.detach().clone()) for name, t in held if name not in self.names
        }
        return other

    def part(self, examples: slice) -> MeanLoss:
        """The mean loss over some of the examples."""
        other = MeanLoss(
            self.model,
            some_of(self.inputs, examples),
            self.labels[examples],
            loss_fn=self.loss_fn,
            physical_batch_size=self.physical_batch_size,
        )
        other.dtype, other.params, other._fixed = self.dtype, self.params, self._fixed
        return other

    def batches(self, size: int) -> list[MeanLoss]:
        """The examples in order, cut into batches of one size.

        An incomplete last batch is left out, since the measures over batches depend on
        their size; a single one that is incomplete is all there is.
        """
        count = max(1, len(self) // size)
        return [self.part(slice(i * size, (i + 1) * size)) for i in range(count)]

    def spread(self, size: int) -> MeanLoss:
        """The mean loss over a few examples, from all over, as one micro-batch."""
        size = min(size, len(self), self.physical_batch_size)
        step = len(self) // size
        return self.part(slice(0, step * size, step))

    def as_one(self) -> BatchLoss:
        """All examples as one micro-batch."""
        return self._batch(self.inputs, self.labels, self._tried.double)

    def micro_batches(self) -> Iterator[tuple[float, BatchLoss]]:
        """Each micro-batch's share in the loss, and its own; those without a share are left out."""
        for place, share in enumerate(self._shares):
            if share:
                start = place * self.physical_batch_size
                part = slice(start, start + self.physical_batch_size)
                x, y = some_of(self.inputs, part), self.labels[part]
                yield share, self._batch(x, y, self._tried.double)

    @property
    def epsilon(self) -> float:
        """Unit of rounding of the loss as a function of the outputs: float64's, or float32's.

        It is float32's where the network ends in a softmax or in the loss itself, or ``loss_fn``
        goes back to float32.
        """
        return torch.finfo(self._tried.dtype).eps

    def rounding(self, loss: float) -> float:
        """What rounding amounts to, relative to the loss: its own unit, and the network's."""
        return self.network_rounding + (self.epsilon / abs(loss) if loss else math.inf)

    @cached_property
    def curvature_rounding(self) -> float:
        """What rounding amounts to, relative to the curvature: an estimate, infinite if unknown.

        :data:`PRODUCT_ROUNDING` units for the network's derivatives, :data:`OUTPUT_ROUNDING` units
        of the outputs z times the condition number of the loss's curvature c = eᵀ (d²L/dz²) e, for
        random signs e, as a function of them, sum_i abs(z_i dc/dz_i) / c, and
        :meth:`_cancellation`. Where the loss is linear in the outputs, or the network itself ends
        in a softmax, the loss stands for its curvature.
        """
        unit = torch.finfo(self.dtype).eps
        rounds = self.epsilon > torch.finfo(torch.float64).eps
        shape = None if rounds else self._curvature_of_outputs()
        if shape is None:
            return PRODUCT_ROUNDING * unit + self.rounding(self.value())
        curvature, moved, seed = shape
        if curvature < torch.finfo(self.dtype).tiny / unit:
            return math.inf  # products of this size are rounded away in the network
        network = PRODUCT_ROUNDING * unit + OUTPUT_ROUNDING * unit * moved / curvature
        return network if is_exact(self.loss_fn) else network + self._cancellation(curvature, seed)

    def _cancellation(self, curvature: float, seed: int) -> float:
        """What a loss may lose by subtracting, relative to its curvature at the outputs.

        One that subtracts numbers of its usual size is wrong by rounding of these: of its curvature
        where all outputs are 0, and of itself. One that divides by what is left has a second
        derivative that is not that of its first.
        """
        loss, usual = abs(self.value()), self._curvature_of_outputs(0.0)
        if not loss:
            return math.inf
        at_zero = 0.0 if usual is None or not math.isfinite(usual[0]) else usual[0]
        different, rounding = self._difference_of_slopes(seed)
        apart = max(0.0, abs(different - curvature) - rounding)
        return (self.epsilon * (at_zero + curvature / loss) + apart) / curvature

    def _difference_of_slopes(self, seed: int) -> tuple[float, float]:
        """The curvature of :meth:`_curvature_of_outputs` from slopes beside z, and their rounding.

        The step is small enough for 1e-6 of a curvature that goes with the exponential of z.
        """
        generator = torch.Generator().manual_seed(seed)
        curvature, rounding = 0.0, 0.0
        with measuring(self.model):
            for share, batch, outputs in self._outputs():
                outputs, leaves = _as_leaves(in_float64(outputs))
                signs = [rademacher(tuple(z.shape), z.detach(), generator) for z in leaves]
                step = 1e-5 * (max(z.detach().abs().max().item() for z in leaves) or 1.0)
                ends, size = [], 0.0
                for move in (step, -2 * step):
                    with torch.no_grad():
                        torch._foreach_add_(leaves, signs, alpha=move)
                    slopes = torch.autograd.grad(batch.of(outputs), leaves, materialize_grads=True)
                    parts = [g * e for g, e in zip(slopes, signs, strict=True)]
                    ends.append(sum(part.sum().item() for part in parts))
                    size += sum(part.abs().sum().item() for part in parts)
                curvature += share * abs(ends[0] - ends[1]) / (2 * step)
                rounding += share * self.epsilon * size / step
        return curvature, rounding

    def _outputs(self) -> Iterator[tuple[float, BatchLoss, Any]]:
        """Each micro-batch's share, its loss and its outputs, which know nothing of the network."""
        for share, batch in self.micro_batches():
            with torch.no_grad():
                outputs = batch.outputs(self._named(None))
            yield share, batch, outputs

    def _curvature_of_outputs(self, scale: float = 1.0) -> tuple[float, float, int] | None:
        """C = eᵀ (d²L/dz²) e, sum_i abs(z_i dc/dz_i), and e's seed; None if L is linear in z.

        It is that at ``scale`` times the network's outputs. Of few examples equal signs are likely,
        along which a softmax has no curvature: others are then drawn.
        """
        for seed in range(_NUM_DRAWS):
            found = self._curvature_along_signs(scale, seed)
            if found is None:
                return None
            if found[0] or (is_exact(self.loss_fn) and seed == _NUM_DRAWS - 1):
                return *found, seed
        return None

    def _curvature_along_signs(self, scale: float, seed: int) -> tuple[float, float] | None:
        generator = torch.Generator().manual_seed(seed)
        curvature, moved = 0.0, 0.0
        with measuring(self.model):
            for share, batch, outputs in self._outputs():
                # In float64, or the third derivative of a tiny curvature is lost.
                outputs, leaves = _as_leaves(in_float64(outputs), scale)
                signs = [rademacher(tuple(z.shape), z.detach(), generator) for z in leaves]
                try:
                    along = _slope_along(batch.of(outputs), leaves, signs)
                    bent = None if along is None else _slope_along(along, leaves, signs)
                    thirds = _slopes(bent, leaves)
                except RuntimeError as error:  # no such derivative
                    log.debug("the loss has no third derivative: %s", error)
                    return None
                if bent is None:
                    continue
                curvature += share * abs(bent.item())
                parts = zip(leaves, thirds, strict=True)
                moved += share * sum((z.detach() * x).abs().sum().item() for z, x in parts)
        return curvature, moved

    @cached_property
    def network_rounding(self) -> float:
        """What the rounding of the outputs z amounts to, relative to the loss.

        :data:`OUTPUT_ROUNDING` units of it, times the condition number of the loss as a function of
        them, sum_i abs(z_i dL/dz_i) / L: cross-entropy falls exponentially with its logits, so that
        their absolute error is its relative one.
        """
        total, moved = 0.0, 0.0
        with measuring(self.model):
            for share, batch, outputs in self._outputs():
                outputs, leaves = _as_leaves(outputs)
                loss = batch.of(outputs)
                slopes = torch.autograd.grad(loss, leaves, materialize_grads=True)
                parts = zip(leaves, slopes, strict=True)
                moved += share * sum((z.detach() * slope).abs().sum().item() for z, slope in parts)
                total += share * loss.item()
        unit = OUTPUT_ROUNDING * torch.finfo(self.dtype).eps
        return unit * abs(moved / total) if total else math.inf

    def _batch(self, inputs: Inputs, labels: Tensor, double: bool) -> BatchLoss:
        x, y = moved(inputs, self.device), labels.to(self.device)
        if self._fixed is not None:
            x = in_float64(x)
        return BatchLoss(self.model, self.loss_fn, x, y, double)

    @cached_property
    def _tried(self) -> _Tried:
        """How the loss can be taken, from a few examples."""
        few = slice(NUM_TRIED)
        batch = self._batch(some_of(self.inputs, few), self.labels[few], double=True)
        with measuring(self.model):
            outputs = batch.outputs(self._named(None))
            kept = tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, outputs)
            try:
                loss = batch.of(outputs)
                if loss.requires_grad:
                    refuse_reentrant_checkpoints(loss)
                    torch.autograd.grad(loss, self.params, allow_unused=True)
            except RuntimeError as error:
                log.debug("the loss cannot be taken of outputs in float64: %s", error)
                return _Tried(kept, double=False, dtype=self.dtype)
            dtype = self.dtype if rounds_in_the_network(outputs) else loss.dtype
            return _Tried(kept, double=True, dtype=dtype)

    @cached_property
    def _shares(self) -> Shares:
        if len(self) <= self.physical_batch_size:
            return [1.0]
        if self.loss_fn is cross_entropy and _all_count(self.labels):
            sizes = [len(y) for y in torch.split(self.labels, self.physical_batch_size)]
            return [size / len(self) for size in sizes]
        labels = self.labels.to(self.device)
        loss_of = partial(loss_in_float64, self.loss_fn) if self._tried.double else self.loss_fn
        with measuring(self.model):
            return shares_of(loss_of, self._tried.outputs, labels, self.physical_batch_size)

    def value(self, weights: Vector | None = None) -> float:
        """L at the model's parameters, or at ``weights``, from a forward pass."""
        named = self._named(weights)
        pass_taken()
        with measuring(self.model), torch.no_grad():
            return sum(share * loss(named).item() for share, loss in self.micro_batches())

    def finite_value(self) -> float:
        """L at the model's parameters, see :func:`finite`."""
        return finite(self.value())

    def gradient(self, weights: Vector | None = None) -> tuple[float, list[Tensor]]:
        """L and its gradient, shaped like the parameters, at the model's own or at ``weights``."""
        at = self.params if weights is None else [w.detach().requires_grad_() for w in weights]
        named = self._named(at)
        total, gradient = 0.0, [torch.zeros_like(p) for p in at]
        pass_taken()
        with measuring(self.model):
            for share, loss in self.micro_batches():
                value = loss(named)
                parts = torch.autograd.grad(value, at, materialize_grads=True)
                torch._foreach_add_(gradient, parts, alpha=share)
                total += share * value.item()
        return total, gradient

    def _named(self, weights: Vector | None) -> Mapping[str, Tensor] | None:
        """What the model has in place of its own, by name; None for nothing."""
        if self._fixed is None:
            return None if weights is None else dict(zip(self.names, weights, strict=True))
        at = self.params if weights is None else weights
        return {**dict(zip(self.names, at, strict=True)), **self._fixed}


class _Tried(NamedTuple):
    """A few outputs, whether their loss can be taken in float64, and in which type it is."""

    outputs: Any
    double: bool
    dtype: torch.dtype


def _slope_along(value: Tensor, at: Vector, along: Vector) -> Tensor | None:
    """The derivative of a number along a direction, 0-d, with a graph; None if it is constant."""
    if not value.requires_grad:
        return None
    slopes = torch.autograd.grad(value, at, create_graph=True, allow_unused=True)
    parts = [(g * e).sum() for g, e in zip(slopes, along, strict=True) if g is not None]
    return torch.stack(parts).sum() if parts else None


def _slopes(value: Tensor | None, at: Vector) -> Vector:
    if value is None or not value.requires_grad:
        return [torch.zeros_like(x) for x in at]
    return torch.autograd.grad(value, at, materialize_grads=True)


def _as_leaves(outputs: Any, scale: float = 1.0) -> tuple[Any, list[Tensor]]:
    """Outputs, scaled, to differentiate in, and the tensors among them that one can do that in."""

    def with_gradient(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return (value.detach() * scale).requires_grad_()
        return value

    taken = tree_map(with_gradient, outputs)
    return taken, [x for x in tree_leaves(taken) if getattr(x, "requires_grad", False)]


def _all_count(labels: Tensor) -> bool:
    """Whether no label is one that torch's cross-entropy ignores by default."""
    return not labels.is_floating_point() and bool((labels >= 0).all())


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


def _check_examples(inputs: Inputs, labels: Tensor, physical_batch_size: int) -> None:
    number = number_of(inputs)
    if number == 0:
        raise ValueError("inputs has 0 examples: give at least one")
    if number != len(labels):
        raise ValueError(
            f"inputs has {number} examples, labels has {len(labels)}: give one label each"
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
