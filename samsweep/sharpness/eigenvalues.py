"""lambda_max and its followers: the largest eigenvalues of the loss's Hessian.

Where BatchNorm makes the loss the same for w and a w, lambda_max(a w) = lambda_max(w) / a².
Relative to the weights curvature stays: with ||w||² under one factor for all of them, with
D = diag(abs(w)) under a factor for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy, normalize

from samsweep.numerics import vectors
from samsweep.sharpness.entry import measure_of_examples
from samsweep.sharpness.examples import Inputs
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.hvp import HessianOperator
from samsweep.sharpness.lanczos import lanczos
from samsweep.sharpness.measuring_mode import measuring
from samsweep.sharpness.results import told


@dataclass(frozen=True, kw_only=True)
class Eigenvalues:
    """The largest eigenvalues of a Hessian, and how well they are known.

    Args:
        values: Largest algebraic first.
        error_bounds: Some eigenvalue of the operator lies within each, always
            (:func:`~samsweep.sharpness.lanczos`); to that comes ``loss_rounding``, an allowance for
            what rounding makes of the operator.
        error_estimates: What the gaps between the values make of it, as far as they are known.
        num_hvps: Hessian-vector products over all examples.
        converged: Whether the tolerance was reached; not where the loss rounds by more than it.
        loss: Mean loss over the same examples: cross-entropy's curvature vanishes with it.
        loss_rounding: What the rounding of network and loss amounts to, relative to the first
            value (:attr:`~samsweep.sharpness.MeanLoss.curvature_rounding`).
        weight_norm: Euclidean norm of all trainable parameters.
        seconds: Wall time.
        eigenvectors: If asked for, unit vectors as rows, shape (k, dim): the trainable parameters
            in the model's order, each flattened.
        settings: The arguments but model and examples.
    """

    values: tuple[float, ...]
    error_bounds: tuple[float, ...]
    error_estimates: tuple[float, ...]
    num_hvps: int
    converged: bool
    loss: float
    loss_rounding: float
    weight_norm: float
    seconds: float = math.nan
    eigenvectors: Tensor | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """In one line, for people: each value with its error bound."""
        pairs = zip(self.values, self.error_bounds, strict=True)
        values = ", ".join(f"{value:.6g} ± {bound:.1g}" for value, bound in pairs)
        return f"{values} ({told(self, f'{self.num_hvps} Hessian-vector products')})"

    def times(self, factor: float) -> Eigenvalues:
        """All eigenvalues, and what is known of them, times a positive number."""

        def scaled(numbers: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(factor * number for number in numbers)

        return replace(
            self,
            values=scaled(self.values),
            error_bounds=scaled(self.error_bounds),
            error_estimates=scaled(self.error_estimates),
        )


class Search(TypedDict, total=False):
    """What every search for eigenvalues may be given, see :func:`top_eigenvalues`."""

    tolerance: float
    max_hvps: int
    seed: int
    physical_batch_size: int
    loss_fn: LossFn
    params: Iterable[Tensor]
    training: bool
    progress: bool


@measure_of_examples
def top_eigenvalues(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    k: int,
    tolerance: float = 1e-4,
    max_hvps: int = 200,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
    adaptive: bool = False,
    eigenvectors: bool = False,
) -> Eigenvalues:
    """The k largest (algebraic) eigenvalues of the Hessian of the mean loss.

    Conditions: eval mode (BatchNorm's running statistics), the examples as they are given, full
    precision, all trainable parameters, no weight decay unless ``loss_fn`` adds it. The model is
    left as it was found.

    Lanczos starts half at random and half along the gradient, which in trained networks leans to
    the top eigenvectors (Gur-Ari et al. 2018, arXiv 1812.04754) and saves some of the products.
    What rounding makes of the operator is added to bounds and estimates: Lanczos knows its own
    rounding alone.

    PyHessian's power iteration finds the eigenvalues largest in modulus instead.

    Args:
        model: Any network; ``model(inputs)`` gives the outputs, of a mapping ``model(**inputs)``.
        inputs: The fixed examples, shape (N, ...), or without labels a loader of batches; this,
            ``params``, ``training`` and ``progress`` are those of every measure
            (:func:`~samsweep.sharpness.entry.measure_of_examples`).
        labels: Shape (N, ...).
        k: Number of eigenvalues.
        tolerance: Error to reach, relative to the largest eigenvalue's absolute value.
        max_hvps: Products after which what was reached is reported as it is.
        seed: Of the starting vector, and of others where the Krylov space closes.
        physical_batch_size: Examples per micro-batch; changes memory and speed, not the value.
        loss_fn: Mean loss over examples of (outputs, labels).
        adaptive: Whether to take those of D H D, D = diag(abs(w)), in place of the Hessian H.
        eigenvectors: Whether to return them as well.

    Returns:
        Eigenvalues with their error bounds and error estimates.

    Raises:
        ValueError: If an argument is out of range.
        FloatingPointError: If the loss or a product is not finite.
        ArithmeticError: If the Hessian as torch computes it is not symmetric.
    """
    hessian = HessianOperator(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    sizes = vectors.flatten([p.detach() for p in hessian.params]).abs() if adaptive else None

    def scaled(v: Tensor) -> Tensor:
        return v if sizes is None else sizes * v

    loss, gradient = hessian.loss_and_gradient()
    start = _half_random(scaled(gradient), seed)
    del gradient
    with measuring(model):  # for Lanczos' own products with its basis
        found = lanczos(
            lambda v: scaled(hessian.matvec(scaled(v))),
            hessian.dim,
            k=k,
            tolerance=tolerance,
            max_matvecs=max_hvps,
            seed=seed,
            dtype=hessian.dtype,
            device=hessian.device,
            eigenvectors=eigenvectors,
            start=start,
        )
    rounding = hessian.objective.curvature_rounding
    allowed = rounding * abs(found.eigenvalues[0]) if math.isfinite(rounding) else math.inf
    return Eigenvalues(
        values=tuple(found.eigenvalues.tolist()),
        error_bounds=tuple((found.error_bounds + allowed).tolist()),
        error_estimates=tuple((found.error_estimates + allowed).tolist()),
        num_hvps=hessian.num_hvps,
        converged=found.converged and rounding <= tolerance,
        loss=loss,
        loss_rounding=rounding,
        weight_norm=vectors.exact_norm([p.detach() for p in hessian.params]),
        eigenvectors=found.eigenvectors,
    )


def _half_random(near: Tensor, seed: int) -> Tensor:
    """A starting vector: half along ``near``, half random, so that it lacks no eigenvector."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(len(near), generator=generator, dtype=near.dtype).to(near.device)
    start, random = normalize(near, dim=0), normalize(random, dim=0)
    # In a few dimensions the halves can be opposite, and cancel.
    return start.add_(random, alpha=-1 if start @ random < -0.5 else 1)


def lambda_max(
    model: Module, inputs: Inputs, labels: Tensor | None = None, **search: Unpack[Search]
) -> float:
    """The largest eigenvalue of the Hessian of the mean loss.

    See :func:`top_eigenvalues` for the conditions, the arguments and the errors, and for the
    errors and the word on convergence that this shortcut leaves out.
    """
    return top_eigenvalues(model, inputs, labels, k=1, **search).values[0]


def relative_flatness(
    model: Module, inputs: Inputs, labels: Tensor | None = None, **search: Unpack[Search]
) -> Eigenvalues:
    """||w||² lambda_max(H), with all trainable parameters in w.

    It stays where all of them are rescaled alike, and not where a part is: the weights before a
    BatchNorm are a part. :func:`adaptive_lambda_max` stays there too.

    The arguments, conditions and errors are those of :func:`top_eigenvalues`.
    """
    found = top_eigenvalues(model, inputs, labels, k=1, **search)
    return found.times(found.weight_norm**2)


def adaptive_lambda_max(
    model: Module, inputs: Inputs, labels: Tensor | None = None, **search: Unpack[Search]
) -> Eigenvalues:
    """lambda_max(D H D), D = diag(abs(w)): the curvature in relative changes of single weights.

    It stays where any weights are rescaled so that the network is the same.

    The arguments, conditions and errors are those of :func:`top_eigenvalues`.
    """
    return top_eigenvalues(model, inputs, labels, k=1, adaptive=True, **search)
