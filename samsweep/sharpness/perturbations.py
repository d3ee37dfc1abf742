"""How much the loss rises when the weights are moved: at worst, on average, by one step of SAM."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.numerics import vectors
from samsweep.numerics.vectors import Vector
from samsweep.sharpness.entry import measure_of_examples
from samsweep.sharpness.examples import Inputs
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.objective import MeanLoss
from samsweep.sharpness.random_vectors import normal
from samsweep.sharpness.results import (
    TOLERANCE,
    Estimate,
    check_positive,
    check_samples,
    standard_error,
)

log = logging.getLogger(__name__)

Norm = Literal["l2", "linf"]

#: A step of ascent, in radii, is this over the number of steps: enough to cross the ball.
_REACH = 2.5

#: A rise may be so many times as wrong as the loss: an error of the gradient turns the step, and
#: the loss rises exponentially with its length. Rises that stay in float32 for it were off by no
#: more than 5e-5 (``benchmarks/fit.py``).
_AMPLIFIED = 20


@measure_of_examples
def worst_case(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    rho: float,
    norm: Norm = "l2",
    adaptive: bool = False,
    num_steps: int = 20,
    batch_size: int = 256,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> Estimate:
    """Max L(w + delta) - L(w) over ||delta / c|| <= rho, mean over batches of m examples.

    c is 1, or abs(w) if adaptive (Andriushchenko et al. 2023, arXiv 2302.07011, section 3). The
    maximum is what projected gradient ascent finds from delta = 0: a lower bound of the true one,
    and never below 0. Each batch has its own worst perturbation: m is ``batch_size``.

    Conditions: eval mode, full precision, all trainable parameters.

    Args:
        model: Any classifier.
        inputs: The fixed examples, shape (N, ...); an incomplete last batch is left out.
        labels: Shape (N,).
        rho: Radius.
        norm: Of all parameters together, ``l2``, or the largest of any, ``linf``.
        adaptive: Whether changes count relative to each parameter's size.
        num_steps: Steps of ascent.
        batch_size: Examples of a batch, m.
        physical_batch_size: Examples per micro-batch; changes memory and speed, not the value.
        loss_fn: Mean loss over examples of (outputs, labels).

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If the loss is not finite.
    """
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm={norm!r}: choose l2 or linf")
    check_positive(rho=rho, num_steps=num_steps, batch_size=batch_size)
    step = _REACH * rho / num_steps

    def rise(batch: MeanLoss) -> float:
        scale = _scale(batch.params, adaptive)
        position = [torch.zeros_like(p) for p in batch.params]
        losses = []
        for _ in range(num_steps):
            loss, gradient = batch.gradient(_moved(batch.params, position, scale))
            losses.append(loss)
            uphill = torch._foreach_mul(gradient, scale)
            torch._foreach_add_(position, _unit(uphill, norm), alpha=step)
            _project(position, rho, norm)
        losses.append(batch.value(_moved(batch.params, position, scale)))
        return _finite_rise(losses[0], losses, rho)

    return _over_batches(
        _resolved(model, inputs, labels, loss_fn, physical_batch_size),
        batch_size,
        rise,
        num_gradients=num_steps,
    )


@measure_of_examples
def sam_gap(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    rho: float,
    batch_size: int = 128,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> Estimate:
    """L(w + rho g / ||g||) - L(w) with g = grad L(w), mean over batches (Foret et al. 2021, eq. 2).

    What SAM's own step finds of the worst case; g is a batch's own gradient, in eval mode.

    Args and errors are those of :func:`worst_case`.
    """
    check_positive(rho=rho, batch_size=batch_size)

    def rise(batch: MeanLoss) -> float:
        loss, gradient = batch.gradient()
        step = torch._foreach_mul(_unit(gradient, "l2"), rho)
        return _finite_rise(loss, [batch.value(_moved(batch.params, step))], rho)

    return _over_batches(
        _resolved(model, inputs, labels, loss_fn, physical_batch_size),
        batch_size,
        rise,
        num_gradients=1,
    )


@measure_of_examples
def average_case(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    rho: float,
    adaptive: bool = False,
    num_samples: int = 50,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> Estimate:
    """E L(w + delta) - L(w), delta ~ N(0, rho² diag(c²)), over all examples.

    c is 1, or abs(w) if adaptive (Andriushchenko et al. 2023, arXiv 2302.07011, section 3). The
    draws of a seed are the same for all networks of one shape, so that differences between them
    are not of the draws; there are ``num_samples``, at least 2.

    Other args and errors are those of :func:`worst_case`.
    """
    check_positive(rho=rho)
    check_samples(num_samples)
    objective = _resolved(model, inputs, labels, loss_fn, physical_batch_size)
    loss = objective.finite_value()
    scale = _scale(objective.params, adaptive)
    own = [p.detach() for p in model.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    rises = []
    for _ in range(num_samples):
        # Of the network's own type: float64 draws others, and a seed has the same for all networks.
        drawn = [x.to(objective.dtype) for x in normal(own, generator)]
        noise = torch._foreach_mul(drawn, rho)
        moved = objective.value(_moved(objective.params, noise, scale))
        rises.append(_finite_rise(loss, [moved], rho))
    return _estimate(objective, loss, rises, num_forwards=num_samples + 1)


def _resolved(
    model: Module, inputs: Inputs, labels: Tensor | None, loss_fn: LossFn, physical_batch_size: int
) -> MeanLoss:
    """The mean loss, with the network in float64 where float32 would show in a rise.

    That takes about twice the time and, with the same micro-batches, less memory than a product
    with the Hessian.
    """
    objective = MeanLoss(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    if _AMPLIFIED * objective.network_rounding <= TOLERANCE or objective.dtype == torch.float64:
        return objective
    doubled = objective.doubled()
    try:
        log.debug("the network is taken in float64; the loss rounds by %g", doubled.epsilon)
    except RuntimeError as error:
        log.debug("the network cannot be taken in float64: %s", error)
        return objective
    return doubled


def _over_batches(
    objective: MeanLoss, batch_size: int, rise: Callable[[MeanLoss], float], *, num_gradients: int
) -> Estimate:
    """The mean of a rise over batches, at so many gradients and one forward pass of each."""
    loss = objective.finite_value()
    rises = [rise(batch) for batch in objective.batches(batch_size)]
    return _estimate(objective, loss, rises, num_gradients=num_gradients, num_forwards=2)


def _estimate(
    objective: MeanLoss,
    loss: float,
    rises: list[float],
    *,
    num_forwards: int,
    num_gradients: int = 0,
) -> Estimate:
    value = fmean(rises)
    return Estimate(
        value=value,
        standard_error=standard_error(rises),
        num_samples=len(rises),
        loss=loss,
        loss_rounding=_rounding(objective, loss, value),
        num_forwards=num_forwards,
        num_gradients=num_gradients,
    )


def _rounding(objective: MeanLoss, loss: float, rise: float) -> float:
    """What rounding amounts to, relative to a rise: of the loss, and of the network before it."""
    unit = objective.epsilon + torch.finfo(objective.dtype).eps * (abs(loss) + abs(rise))
    network = _AMPLIFIED * objective.network_rounding
    return network + unit / abs(rise) if rise else math.inf


def _finite_rise(loss: float, others: Sequence[float], rho: float) -> float:
    """How far the largest of other losses lies above a loss.

    Raises:
        FloatingPointError: If one is not finite.
    """
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss of a batch is {loss} at the weights themselves: do its labels count?"
        )
    if not all(map(math.isfinite, others)):
        raise FloatingPointError(
            f"the loss is not finite within rho={rho} of the weights: choose a smaller rho"
        )
    return max(others) - loss


def _scale(params: Vector, adaptive: bool) -> list[Tensor]:
    """What one unit of change means for each parameter."""
    return [p.detach().abs() if adaptive else torch.ones_like(p) for p in params]


def _moved(params: Vector, by: Vector, scale: Vector | None = None) -> list[Tensor]:
    """Parameters at another place; they themselves stay."""
    step = by if scale is None else torch._foreach_mul(by, scale)
    return list(torch._foreach_add([p.detach() for p in params], step))


def _unit(gradient: Vector, norm: Norm) -> list[Tensor]:
    """The direction of steepest ascent in a norm; zero where the gradient is zero."""
    if norm == "linf":
        return list(torch._foreach_sign(gradient))
    length = vectors.exact_norm(gradient)
    return [g / length if length > 0 else torch.zeros_like(g) for g in gradient]


def _project(position: list[Tensor], rho: float, norm: Norm) -> None:
    """Back into the ball, in place."""
    if norm == "linf":
        torch._foreach_clamp_min_(position, -rho)
        torch._foreach_clamp_max_(position, rho)
        return
    length = vectors.exact_norm(position)
    if length > rho:
        torch._foreach_mul_(position, rho / length)
