"""SGDHESS: the gradient, weighted by the loss's curvature.

The study asks whether SAM's effect is that of a first-order Taylor expansion,
h ≈ g + rho · H g / ‖g‖. It trains with g + rho · D ⊙ g, where D estimates the curvature of each
weight from one Hessian-vector product.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from samsweep.config import Curvature
from samsweep.numerics.batch_norms import quick_batch_norms
from samsweep.numerics.convolutions import quick_convolutions
from samsweep.numerics.device_transfer import to_device
from samsweep.numerics.seeding import generator
from samsweep.numerics.vectors import Vector
from samsweep.optim.base import (
    ClosureOptimizer,
    Closures,
    MakeBase,
    StepResult,
    checked_rho,
    only,
)
from samsweep.optim.passes import gradients, loss_of, mean_over_ranks, ranks, with_gradient


class OutputOf:
    """Keeps a module's latest output, for a Gauss-Newton product that needs the logits.

    Args:
        module: The network whose output the loss is a function of.
    """

    def __init__(self, module: nn.Module) -> None:
        self._output: Tensor | None = None
        module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._output = output

    def take(self) -> Tensor:
        """The output of the latest forward pass, with its graph; it is forgotten here.

        Raises:
            RuntimeError: If the module has not run since the last time.
        """
        if self._output is None:
            raise RuntimeError("the closure did not run the module whose output is needed")
        output, self._output = self._output, None
        return output


class SGDHess(ClosureOptimizer):
    """g + rho · D ⊙ g, with D from one random product per step.

    * ``hutchinson``: D = abs(H z), z Rademacher, averaged over the kernel (the last two
      dimensions) of 4-d weights: AdaHessian's Hutchinson diagonal (Yao et al. 2021,
      arXiv 2006.00719, section 3.2) with one sample and no moving average. This is what the
      study's code does.
    * ``gauss_newton``: the same with the Gauss-Newton matrix in place of H, as in its text.
    * ``exact``: g + rho · H g, as its text writes the update.

    z depends on the seed and on the number of steps taken, which is part of the state.

    Args:
        params: A torch optimizer, or parameters of which ``base`` makes one; weight decay and
            momentum are its own.
        base: The class of the torch optimizer, any but LBFGS.
        rho: Factor of the curvature term, at least 0.
        curvature: Which of the three.
        seed: Of the random draws.
        output: Needed for ``gauss_newton``: keeps the network's logits.
        base_args: Of the class, such as ``lr``.

    Raises:
        ValueError: If rho is negative or not finite, or ``output`` is missing.
    """

    def __init__(
        self,
        params: torch.optim.Optimizer | Iterable[Any] | None = None,
        *,
        base: torch.optim.Optimizer | MakeBase | None = None,
        rho: float,
        curvature: Curvature = "hutchinson",
        seed: int = 0,
        output: OutputOf | None = None,
        **base_args: Any,
    ) -> None:
        super().__init__(params, base=base, **base_args)
        if curvature == "gauss_newton" and output is None:
            raise ValueError("curvature='gauss_newton' needs output=OutputOf(model)")
        self.rho = checked_rho(rho)
        self.num_steps = 0
        self._curvature = curvature
        self._seed = seed
        self._output = output

    def _compute(self, closure: Closures) -> StepResult:
        if self.scaler is not None:
            raise ValueError("SGDHess has second derivatives, which no scaler scales: use bfloat16")
        # Of attention's kernels only the reference one can be differentiated twice.
        with (
            quick_convolutions(),
            quick_batch_norms(),
            sdpa_kernel(SDPBackend.MATH),
            ranks() as groups,
        ):
            loss = loss_of(only(closure))
        params, gradient = _differentiated(loss, self.params)
        clean = self.clipped(mean_over_ranks([x.detach() for x in gradient], groups))
        if self._curvature == "exact":
            curved: Vector = mean_over_ranks(_hvp(gradient, params, clean), groups)
        else:
            z = self._rademacher(clean)
            if self._curvature == "gauss_newton" and self._output is not None:
                product = _gauss_newton_product(loss, self._output.take(), params, z)
            else:
                product = _hvp(gradient, params, z)
            product = mean_over_ranks(product, groups)
            curved = torch._foreach_mul([_kernel_mean(x.abs()) for x in product], clean)
        self.num_steps += 1
        update = torch._foreach_add(clean, torch._foreach_mul(curved, self.rho))
        return StepResult(loss=loss.detach(), params=params, grad_clean=clean, update=update)

    def _own_state(self) -> dict[str, Any]:
        """The number of steps, on which the draws depend."""
        return {"num_steps": self.num_steps}

    def _load_own_state(self, state: dict[str, Any]) -> None:
        self.num_steps = state.get("num_steps", 0)

    def _rademacher(self, like: Vector) -> Vector:
        """Independent signs; drawn on the CPU, so that every device sees the same."""
        draws = generator(self._seed, "rademacher", self.num_steps)
        signs = [torch.randint(0, 2, x.shape, generator=draws).mul_(2).sub_(1) for x in like]
        return [to_device(z.to(x.dtype), x.device) for z, x in zip(signs, like, strict=True)]


def _differentiated(loss: Tensor, params: Vector) -> tuple[Vector, Vector]:
    """The parameters that a loss depends on, and its gradient in them with its graph.

    Raises:
        ValueError: If the graph is gone.
    """
    try:
        grads = gradients(loss, params, create_graph=True)
    except RuntimeError as error:
        if any(p.grad is not None for p in params):
            raise ValueError(
                "SGDHess differentiates the gradient: let the closure return the loss without "
                "calling backward"
            ) from error
        raise
    return with_gradient(params, grads)


def _hvp(g: Vector, params: Vector, vector: Vector) -> Vector:
    """H v by differentiating the gradient's graph (Pearlmutter 1994)."""
    return torch.autograd.grad(
        g, params, grad_outputs=vector, allow_unused=True, materialize_grads=True
    )


def _gauss_newton_product(loss: Tensor, logits: Tensor, params: Vector, vector: Vector) -> Vector:
    """Jᵀ (∂²loss/∂logits²) J v, J the logits' Jacobian (Schraudolph 2002)."""
    dummy = torch.zeros_like(logits, requires_grad=True)
    pulled = torch.autograd.grad(logits, params, grad_outputs=dummy, create_graph=True)
    (pushed,) = torch.autograd.grad(pulled, dummy, grad_outputs=vector)
    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)
    (curved,) = torch.autograd.grad(slope, logits, grad_outputs=pushed)
    return torch.autograd.grad(logits, params, grad_outputs=curved)


def _kernel_mean(x: Tensor) -> Tensor:
    """Convolution weights (out, in, height, width) averaged over height and width."""
    return x.mean(dim=(2, 3), keepdim=True).expand_as(x) if x.ndim == 4 else x
