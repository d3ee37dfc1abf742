"""Traces of the Hessian, of the Gauss-Newton matrix and of the Fisher matrix.

All are estimated from random probes without bias, each with its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy, softmax

from samsweep.numerics import vectors
from samsweep.sharpness.entry import measure_of_examples
from samsweep.sharpness.examples import Inputs, collected, some_of
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.hvp import HessianOperator
from samsweep.sharpness.measuring_mode import measuring
from samsweep.sharpness.objective import MeanLoss
from samsweep.sharpness.passes import pass_taken
from samsweep.sharpness.random_vectors import rademacher
from samsweep.sharpness.results import Estimate, check_samples, standard_error


@measure_of_examples
def hessian_trace(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    num_samples: int = 100,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> Estimate:
    """The trace of the Hessian of the mean loss, by Hutch++ (Meyer et al. 2021, arXiv 2010.09649).

    A third of the products finds a basis Q of what the largest eigenvalues span, a third takes the
    trace there exactly, and the rest is Hutchinson's estimate zᵀHz of what is left outside. The
    standard error is that of the last part, and the result's ``num_samples`` its number of probes.
    Q takes a third as many vectors of memory as there are products, and its making thrice that.

    Conditions, errors and other arguments are those of :func:`~samsweep.sharpness.top_eigenvalues`.

    Args:
        model: Any classifier.
        inputs: The fixed examples, shape (N, ...).
        labels: Shape (N,).
        num_samples: Hessian-vector products, at least 2.
        seed: Of the probes.
        physical_batch_size: Examples per micro-batch.
        loss_fn: Mean loss over examples of (outputs, labels).
    """
    check_samples(num_samples)
    hessian = HessianOperator(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    loss = hessian.objective.finite_value()
    generator = torch.Generator().manual_seed(seed)
    with measuring(model):
        basis = _range_of(hessian, (num_samples - 2) // 3, generator)
        inside = sum(vectors.exact_dot(q, hessian.matvec(q)).item() for q in basis)
        outside = []
        for _ in range(num_samples - hessian.num_hvps):
            z = rademacher((hessian.dim,), hessian.params[0], generator)
            z = z - basis.T @ (basis @ z)
            outside.append(vectors.exact_dot(z, hessian.matvec(z)).item())
    value = inside + fmean(outside)
    if not math.isfinite(value):
        raise FloatingPointError(
            "a product of the Hessian is not finite: the weights may have diverged"
        )
    return Estimate(
        value=value,
        standard_error=standard_error(outside),
        num_samples=len(outside),
        num_hvps=hessian.num_hvps,
        loss=loss,
        loss_rounding=hessian.objective.curvature_rounding,
    )


def _range_of(hessian: HessianOperator, size: int, generator: torch.Generator) -> Tensor:
    """Orthonormal rows that span the Hessian's images of random vectors, shape (size, dim)."""
    size = min(size, hessian.dim)
    like = hessian.params[0]
    images = torch.zeros(size, hessian.dim, dtype=like.dtype, device=like.device)
    for row in images:
        row.copy_(hessian.matvec(rademacher((hessian.dim,), like, generator)))
    basis: Tensor = torch.linalg.qr(images.T).Q.T
    return basis


@measure_of_examples
def ggn_trace(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    num_samples: int = 100,
    seed: int = 0,
    physical_batch_size: int = 256,
) -> Estimate:
    """The trace of the Gauss-Newton matrix of the mean cross-entropy.

    G = 1/N sum_i J_iᵀ (diag(p_i) - p_i p_iᵀ) J_i with the outputs' Jacobian J_i and the predicted
    probabilities p_i; for cross-entropy G is the Fisher matrix. The inner matrix is S_i S_iᵀ with
    S_i = diag(sqrt(p_i)) - p_i sqrt(p_i)ᵀ, and for independent signs e_i

        tr G = 1/N E || sum_i J_iᵀ S_i e_i ||²,

    which is Hutchinson's estimate of the Gram matrix's trace: one backward pass per probe.

    Args, conditions and errors are those of :func:`hessian_trace`, without a ``loss_fn``. Examples
    whose label is ignored, -100, have no part in it.
    """
    counted = _counted(inputs, labels)
    objective = MeanLoss(model, *counted, physical_batch_size=physical_batch_size)
    return _gram_trace(objective, _draw_signs, _gauss_newton, num_samples, seed)


@measure_of_examples
def fisher_trace(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    num_samples: int = 100,
    seed: int = 0,
    physical_batch_size: int = 256,
) -> Estimate:
    """The trace of the Fisher matrix: the mean squared norm of the gradient of one example.

    Labels are drawn, in place of the true ones, with which it would be the empirical Fisher matrix,
    which is another. Where a network fits, nearly all that the predicted probabilities p draw is
    what it predicts, and nearly all of the trace comes from the rest. So labels are drawn from
    q_c = p_c (1 - p_c) / Z, which is all but proportional to p_c || grad log p_c ||, and weighted
    by p / q (importance sampling). For independent signs s_i

        tr F = 1/N E || sum_i s_i sqrt(p / q)(y_i) grad log p(y_i | x_i) ||²,

    so that one backward pass over the batch takes the place of one for each example.

    Args, conditions and errors are those of :func:`hessian_trace`, without a ``loss_fn``; the given
    labels only decide the loss.
    """
    counted = _counted(inputs, labels)
    objective = MeanLoss(model, *counted, physical_batch_size=physical_batch_size)
    return _gram_trace(objective, _draw_choices, _fisher, num_samples, seed)


def _counted(inputs: Inputs, labels: Tensor | None) -> tuple[Inputs, Tensor]:
    """The examples over which torch's cross-entropy is a mean: it ignores the label -100."""
    inputs, labels = collected(inputs, labels)
    if labels.ndim != 1 or labels.is_floating_point():
        return inputs, labels
    kept = labels != -100
    return some_of(inputs, kept), labels[kept]


#: Random numbers on the CPU, a row for each example, of (examples, classes, generator). They are
#: drawn for all examples at once, so that micro-batches do not matter.
Draw = Callable[[int, int, torch.Generator], Tensor]
#: What is propagated back from some examples' outputs, shape (n, classes), of their predicted
#: probabilities, shape (n, classes), float64, and their rows of random numbers.
Cotangents = Callable[[Tensor, Tensor], Tensor]


def _draw_signs(num_examples: int, num_classes: int, generator: torch.Generator) -> Tensor:
    return rademacher((num_examples, num_classes), torch.empty(0), generator)


def _gauss_newton(probabilities: Tensor, signs: Tensor) -> Tensor:
    """S_i e_i, see :func:`ggn_trace`."""
    root = probabilities.sqrt()
    along = root * signs.to(root.dtype)
    largest = probabilities.argmax(dim=1, keepdim=True)
    rest = along.scatter(1, largest, 0.0).sum(dim=1, keepdim=True)
    product = along - probabilities * along.sum(dim=1, keepdim=True)
    of_largest = along * _complements(probabilities) - probabilities * rest
    return product.scatter(1, largest, of_largest.gather(1, largest))


def _complements(probabilities: Tensor) -> Tensor:
    """1 - p; of the largest the sum of the others, which does not round away."""
    largest = probabilities.argmax(dim=1, keepdim=True)
    others = probabilities.scatter(1, largest, 0.0).sum(dim=1, keepdim=True)
    return (1 - probabilities).scatter(1, largest, others)


def _draw_choices(num_examples: int, num_classes: int, generator: torch.Generator) -> Tensor:
    chosen = torch.rand((num_examples, 1), generator=generator, dtype=torch.float64)
    return torch.cat([chosen, rademacher((num_examples, 1), chosen, generator)], dim=1)


def _fisher(probabilities: Tensor, choices: Tensor) -> Tensor:
    """s_i sqrt(p / q) (p_i - y_i) with a drawn label y_i, one-hot; see :func:`fisher_trace`."""
    chosen, sign = choices[:, :1], choices[:, 1:]
    num_classes = probabilities.shape[1]
    others = _complements(probabilities)
    mass = (probabilities * others).cumsum(dim=1)
    below = mass < chosen * mass[:, -1:]
    label = below.sum(dim=1, keepdim=True).clamp(max=num_classes - 1)
    weight = (mass[:, -1:] / others.gather(1, label)).nan_to_num(0, 0, 0).sqrt()
    return sign * weight * probabilities.scatter(1, label, -others.gather(1, label))


def _gram_trace(
    objective: MeanLoss, draw: Draw, cotangents: Cotangents, num_samples: int, seed: int
) -> Estimate:
    """1/N E || sum_i J_iᵀ c_i ||² over random cotangents c_i."""
    check_samples(num_samples)
    loss = objective.finite_value()
    generator = torch.Generator().manual_seed(seed)
    with measuring(objective.model):
        num_classes = objective.spread(2).as_one().outputs().shape[1]
        samples = []
        for _ in range(num_samples):
            drawn = draw(len(objective), num_classes, generator)
            samples.append(_squared_norm(objective, cotangents, drawn) / len(objective))
    return Estimate(
        value=fmean(samples),
        standard_error=standard_error(samples),
        num_samples=num_samples,
        num_gradients=num_samples,
        loss=loss,
        loss_rounding=objective.curvature_rounding,
    )


def _squared_norm(objective: MeanLoss, cotangents: Cotangents, drawn: Tensor) -> float:
    """|| sum_i J_iᵀ c_i ||², summed over micro-batches before the square is taken."""
    total = [torch.zeros_like(p) for p in objective.params]
    pass_taken()
    rows = torch.split(drawn, objective.physical_batch_size)
    for (_, batch), row in zip(objective.micro_batches(), rows, strict=True):
        outputs = batch.outputs()
        probabilities = softmax(outputs.detach().double(), dim=1)
        weights = cotangents(probabilities, row.to(outputs.device)).to(outputs.dtype)
        parts = torch.autograd.grad(
            outputs, objective.params, grad_outputs=weights, materialize_grads=True
        )
        torch._foreach_add_(total, parts)
    return sum(part.double().square().sum().item() for part in total)
