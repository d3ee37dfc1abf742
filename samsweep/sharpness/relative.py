"""Curvature relative to the size of the weights, which a mere rescaling of them leaves alone."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep import vectors
from samsweep.sharpness.eigenvalues import Search, eigenvalues_of, search
from samsweep.sharpness.hvp import HessianOperator
from samsweep.sharpness.objective import LossFn


@dataclass(frozen=True, kw_only=True)
class RelativeFlatness:
    """Two measures that lambda_max's trap does not catch.

    Where BatchNorm makes the loss the same for w and a w, lambda_max(a w) = lambda_max(w) / a².

    Args:
        scaled: ||w||² lambda_max(H), with all trainable parameters in w.
        adaptive: lambda_max(D H D), D = diag(abs(w)): the curvature with respect to relative
            changes of single parameters.
        errors: Bounds of both.
        residuals: Of both Ritz pairs; that of the first times ||w||².
        converged: Whether both bounds are within the tolerance.
        weight_norm: ||w||.
        num_hvps: Hessian-vector products over all examples, of both together.
        loss: Mean loss over the examples.
        seconds: Wall time.
    """

    scaled: float
    adaptive: float
    errors: tuple[float, float]
    residuals: tuple[float, float]
    converged: bool
    weight_norm: float
    num_hvps: int
    loss: float
    seconds: float


def relative_flatness(
    model: Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    tolerance: float = 1e-4,
    max_hvps: int = 200,
    seed: int = 0,
    physical_batch_size: int = 256,
    loss_fn: LossFn = cross_entropy,
) -> RelativeFlatness:
    """||w||² lambda_max(H) and lambda_max(D H D), D = diag(abs(w)).

    The arguments, conditions and errors are those of :func:`~samsweep.sharpness.top_eigenvalues`;
    ``max_hvps`` holds for each of the two.
    """
    started = time.perf_counter()
    hessian = HessianOperator(
        model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
    )
    settings = Search(k=1, tolerance=tolerance, max_hvps=max_hvps, seed=seed)
    plain = eigenvalues_of(hessian, settings)
    sizes = vectors.flatten([p.detach() for p in hessian.params]).abs()

    def scaled_product(v: Tensor) -> Tensor:
        return sizes * hessian.matvec(sizes * v)

    adaptive = search(hessian, scaled_product, settings)
    squared = sizes.double().square().sum().item()
    return RelativeFlatness(
        scaled=squared * plain.values[0],
        adaptive=float(adaptive.eigenvalues[0]),
        errors=(squared * plain.errors[0], float(adaptive.errors[0])),
        residuals=(squared * plain.residuals[0], float(adaptive.residuals[0])),
        converged=plain.converged and adaptive.converged,
        weight_norm=math.sqrt(squared),
        num_hvps=plain.num_hvps + adaptive.num_matvecs,
        loss=plain.loss,
        seconds=time.perf_counter() - started,
    )
