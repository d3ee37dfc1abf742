"""The density of all eigenvalues of the Hessian, by stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.sharpness.entry import measure_of_examples
from samsweep.sharpness.examples import Inputs
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.hvp import HessianOperator
from samsweep.sharpness.lanczos import Array, quadrature
from samsweep.sharpness.measuring_mode import measuring
from samsweep.sharpness.random_vectors import rademacher
from samsweep.sharpness.results import Measured, standard_error, told


@dataclass(frozen=True, kw_only=True)
class SpectralDensity(Measured):
    """(1/d) sum_i delta(t - lambda_i), as weighted points.

    Each random vector v gives the points and weights of a Gauss quadrature: for every smooth f,
    sum_j weights_j f(nodes_j) estimates tr f(H) / d. The mean over vectors is the estimate.

    Args:
        nodes: Of each vector, largest first, shape (num_steps,); fewer where the Krylov space
            closed early.
        weights: Of each vector, summing to 1, shaped like its nodes.
        dim: Number of parameters, d.
        mean: tr H / d.
        mean_standard_error: Of the mean, over vectors.
        num_hvps: Hessian-vector products over all examples.
    """

    nodes: tuple[Array, ...]
    weights: tuple[Array, ...]
    dim: int
    mean: float
    mean_standard_error: float | None
    num_hvps: int

    def __str__(self) -> str:
        """In one line, for people."""
        return (
            f"eigenvalues from {self.smallest:.4g} to {self.largest:.4g}, mean {self.mean:.4g} "
            f"({told(self, f'{self.num_hvps} Hessian-vector products')})"
        )

    @property
    def largest(self) -> float:
        """The largest node: the largest eigenvalue, from below."""
        return max(float(nodes.max()) for nodes in self.nodes)

    @property
    def smallest(self) -> float:
        """The smallest node: the smallest eigenvalue, from above."""
        return min(float(nodes.min()) for nodes in self.nodes)


@measure_of_examples
def spectral_density(
    model: Module,
    inputs: Inputs,
    labels: Tensor | None = None,
    *,
    num_vectors: int = 8,
    num_steps: int = 60,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> SpectralDensity:
    """The density of the Hessian's eigenvalues (Ghorbani et al. 2019, arXiv 1901.10159, section 2).

    Lanczos is fully reorthogonalised, so that no eigenvalue is found twice; its basis takes
    ``num_steps`` vectors of memory.

    Conditions, errors and other arguments are those of :func:`~samsweep.sharpness.top_eigenvalues`.

    Args:
        model: Any classifier.
        inputs: The fixed examples, shape (N, ...).
        labels: Shape (N,).
        num_vectors: Random starting vectors, at least 1.
        num_steps: Lanczos steps from each, at least 1.
        seed: Of the starting vectors.
        physical_batch_size: Examples per micro-batch.
        loss_fn: Mean loss over examples of (outputs, labels).
    """
    for name, number in {"num_vectors": num_vectors, "num_steps": num_steps}.items():
        if number < 1:
            raise ValueError(f"{name}={number}: choose at least 1")
    hessian = HessianOperator(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    loss = hessian.objective.finite_value()
    generator = torch.Generator().manual_seed(seed)
    nodes, weights = [], []
    with measuring(model):
        for _ in range(num_vectors):
            start = rademacher((hessian.dim,), hessian.params[0], generator)
            points, masses = quadrature(hessian.matvec, start, num_steps=num_steps)
            nodes.append(points)
            weights.append(masses)
    means = [float(w @ t) for t, w in zip(nodes, weights, strict=True)]
    return SpectralDensity(
        nodes=tuple(nodes),
        weights=tuple(weights),
        dim=hessian.dim,
        mean=fmean(means),
        mean_standard_error=standard_error(means),
        num_hvps=hessian.num_hvps,
        loss=loss,
        loss_rounding=hessian.objective.curvature_rounding,
    )
