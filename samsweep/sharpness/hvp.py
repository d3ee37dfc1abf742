"""The Hessian of a model's mean loss over fixed examples, as products with vectors.

A product can be computed by three methods, all of which give the same: :func:`double_backward`, the
plain one that works for every model; :func:`forward_over_reverse`, which keeps no graph of a graph
and takes less memory and time; and a graph of the gradient that is kept from product to product.
BatchNorm can be folded away in each of them (:mod:`samsweep.sharpness.batch_norm_folding`), and
convolutions be differentiated twice in a quicker way in the first and the last
(:mod:`samsweep.numerics.convolutions`).
:class:`HessianOperator` chooses:

* the kept graph where all examples are one micro-batch, since it saves a forward and a backward
  pass per product and its memory is that of one micro-batch;
* else double backward for a model with convolutions, in the quick way;
* else forward over reverse, or double backward for a model whose operations lack a forward mode;
* BatchNorms folded, where the model has any that can be.

The choice is compared with plain double backward on a few examples before it is used, and the
latter is checked for symmetry.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import Module
from torch.nn.functional import cross_entropy

from samsweep.numerics import vectors
from samsweep.numerics.convolutions import quick_convolutions
from samsweep.numerics.vectors import Vector
from samsweep.sharpness.batch_norm_folding import Folding, find_folding
from samsweep.sharpness.examples import Inputs
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.measuring_mode import measuring
from samsweep.sharpness.objective import NUM_TRIED, BatchLoss, MeanLoss, finite
from samsweep.sharpness.passes import pass_taken
from samsweep.sharpness.random_vectors import rademacher

log = logging.getLogger(__name__)

#: ``hvp(loss, params, v)``: the Hessian of one micro-batch's loss times ``v``, both shaped like
#: ``params``.
HVP = Callable[[BatchLoss, Vector, Vector], Vector]

#: How far a method may be from the plain one, relative to the product: rounding, by a wide margin.
_AGREEMENT = {torch.float32: 1e-2, torch.float64: 1e-6}
#: How far uᵀHv and vᵀHu may be apart, likewise.
_SYMMETRY = {torch.float32: 1e-3, torch.float64: 1e-7}


def double_backward(loss: BatchLoss, params: Vector, v: Vector) -> Vector:
    """Hessian-vector product as the gradient of the slope along ``v`` (Pearlmutter 1994).

    H v = grad(grad(L)ᵀ v), with v constant; v and H v are shaped like ``params``.
    """
    grads = torch.autograd.grad(loss(), params, create_graph=True, materialize_grads=True)
    return _derivative_along(grads, params, v)


def forward_over_reverse(loss: BatchLoss, params: Vector, v: Vector) -> Vector:
    """Hessian-vector product as the derivative of the gradient along ``v``.

    H v = d/dt grad(L)(w + t v): forward mode through the backward pass, for which no second graph
    is recorded. v and H v are shaped like ``params``.

    Raises:
        NotImplementedError: If an operation of the model has no forward mode.
    """
    with forward_ad.dual_level():
        duals = {
            id(p): forward_ad.make_dual(p.detach().requires_grad_(), x)  # type: ignore[no-untyped-call]
            for p, x in zip(params, v, strict=True)
        }
        weights = {n: duals[id(p)] for n, p in loss.model.named_parameters() if id(p) in duals}
        grads = torch.autograd.grad(loss(weights), list(duals.values()), materialize_grads=True)
        tangents = [forward_ad.unpack_dual(g).tangent for g in grads]  # type: ignore[no-untyped-call]
    return [torch.zeros_like(p) if t is None else t for p, t in zip(params, tangents, strict=True)]


def _derivative_along(
    grads: Vector, params: Vector, v: Vector, *, keep_graph: bool = False
) -> Vector:
    """The derivative of gradᵀ v, from gradients with a graph."""
    linked = [(g, x) for g, x in zip(grads, v, strict=True) if g.requires_grad]
    if not linked:  # a loss that is linear in every parameter
        return [torch.zeros_like(p) for p in params]
    outputs, directions = zip(*linked, strict=True)
    return torch.autograd.grad(
        outputs, params, grad_outputs=directions, retain_graph=keep_graph, materialize_grads=True
    )


@dataclass(frozen=True)
class Method:
    """How an operator's products are computed; ``double_backward`` has two more ways.

    Args:
        hvp: Of one micro-batch.
        folding: What is folded meanwhile.
        quick: Whether convolutions are differentiated twice in the quick way.
        keeps_graph: Whether the graph of the gradient is kept.
    """

    hvp: HVP
    folding: Folding = Folding()
    quick: bool = False
    keeps_graph: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """What a model's forward pass is to run in."""
        quick = quick_convolutions() if self.quick else nullcontext()
        with self.folding.applied(), quick:
            yield

    def __str__(self) -> str:
        """The name in words, and how many BatchNorms are folded."""
        name = "kept graph" if self.keeps_graph else self.hvp.__name__.replace("_", " ")
        num_folded = len(self.folding.pairs) + len(self.folding.lone)
        return f"{name}, {num_folded} BatchNorms folded"


class HessianOperator:
    """Hessian of the mean loss over all examples, in the model's trainable parameters.

        H = 1/N sum_i hess_w loss(f_w(x_i), y_i)

    The loss, its conditions and the other arguments and errors are those of
    :class:`~samsweep.sharpness.MeanLoss`. The parameters are to stay as they are while the operator
    is in use.

    Args:
        model: Any classifier; ``model(inputs)`` gives the outputs.
        inputs: The fixed examples, shape (N, ...).
        labels: Shape (N, ...).
        loss_fn: Loss of (outputs, labels).
        physical_batch_size: Examples per micro-batch.
        hvp: How one micro-batch's product is computed, without any folding or check; None chooses
            as :mod:`samsweep.sharpness.hvp` says.

    Raises:
        ArithmeticError: If the Hessian as torch computes it is not symmetric.

    Attributes:
        method: What was chosen.
        num_hvps: Products that were taken.
    """

    def __init__(
        self,
        model: Module,
        inputs: Inputs,
        labels: Tensor | None = None,
        *,
        loss_fn: LossFn = cross_entropy,
        physical_batch_size: int = 256,
        hvp: HVP | None = None,
    ) -> None:
        self.objective = objective = MeanLoss(
            model, inputs, labels, loss_fn=loss_fn, physical_batch_size=physical_batch_size
        )
        self.params = objective.params
        self.dim, self.dtype, self.device = objective.dim, objective.dtype, objective.device
        self.num_hvps = 0
        self.method = _choose(objective) if hvp is None else Method(hvp)

    def matvec(self, v: Tensor) -> Tensor:
        """The product H v, shape (dim,).

        Args:
            v: Shape (dim,), the parameters in the model's order, each flattened.

        Raises:
            ValueError: If ``v`` has another size.
        """
        parts = vectors.unflatten(v, self.params)
        with measuring(self.objective.model), self.method.applied():
            product = self._kept(parts) if self.method.keeps_graph else self._summed(parts)
        self.num_hvps += 1
        pass_taken()
        return product

    def loss_and_gradient(self) -> tuple[float, Tensor]:
        """The mean loss over all examples, and its gradient, shape (dim,).

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        if not self.method.keeps_graph:
            loss, gradient = self.objective.gradient()
            return finite(loss), vectors.flatten(gradient)
        with measuring(self.objective.model), self.method.applied():
            kept, grads = self._graph
            return finite(kept.item()), vectors.flatten([g.detach() for g in grads])

    def _summed(self, v: Vector) -> Tensor:
        """Micro-batch by micro-batch; memory is that of one."""
        product = torch.zeros(self.dim, dtype=self.dtype, device=self.device)
        for share, loss in self.objective.micro_batches():
            product += share * vectors.flatten(self.method.hvp(loss, self.params, v))
        return product

    def _kept(self, v: Vector) -> Tensor:
        _, grads = self._graph
        return vectors.flatten(_derivative_along(grads, self.params, v, keep_graph=True))

    @cached_property
    def _graph(self) -> tuple[Tensor, Vector]:
        """The loss, and the gradient with its graph."""
        [(_, objective)] = self.objective.micro_batches()
        loss = objective()
        grads = torch.autograd.grad(loss, self.params, create_graph=True, materialize_grads=True)
        return loss.detach(), grads


# --------------------------------------------------------------------------- choosing a method


def _choose(objective: MeanLoss) -> Method:
    """The quickest method that gives what the plain one gives; see the module's docstring."""
    keeps_graph = len(objective) <= objective.physical_batch_size
    with measuring(objective.model):
        params = objective.params
        v, u = _random_vectors(params)
        tried, loss, (plain, other) = _first_products(objective, (v, u))
        allowed = _SYMMETRY[objective.dtype] + 100 * tried.curvature_rounding
        _check_symmetry(
            objective.model, vectors.flatten(u), other, vectors.flatten(v), plain, allowed
        )
        folding = find_folding(objective.model, loss.inputs)
        hvps = (double_backward,) if keeps_graph else (forward_over_reverse, double_backward)
        methods = [Method(hvp, folded) for folded in (folding, Folding()) for hvp in hvps]
        if _has_convolutions(objective):
            methods.insert(0, Method(double_backward, folding, quick=True))
        methods = [replace(method, keeps_graph=keeps_graph) for method in methods]
        return next(
            (method for method in methods[:-1] if _agrees(method, loss, params, v, plain)),
            methods[-1],
        )


def _first_products(
    objective: MeanLoss, along: Sequence[Vector]
) -> tuple[MeanLoss, BatchLoss, list[Tensor]]:
    """A few examples, their loss and plain products, flat.

    Examples may not count: without a label, a weight or a gradient. Then others are taken.
    """
    size = objective.physical_batch_size
    micro_batches = (objective.part(slice(i, i + size)) for i in range(0, len(objective), size))
    for tried in chain([objective.spread(NUM_TRIED)], micro_batches):
        loss = tried.as_one()
        products = [vectors.flatten(double_backward(loss, objective.params, v)) for v in along]
        if all(hv.isfinite().all() and hv.count_nonzero() for hv in products):
            break
    return tried, loss, products


def _has_convolutions(objective: MeanLoss) -> bool:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return any(isinstance(module, kinds) for module in objective.model.modules())


def _agrees(method: Method, loss: BatchLoss, params: Vector, v: Vector, plain: Tensor) -> bool:
    """Whether a method gives the plain product, up to rounding."""
    try:
        with method.applied():
            product = vectors.flatten(method.hvp(loss, params, v))
    except RuntimeError as error:  # NotImplementedError is one
        log.debug("%s cannot be used for this model: %s", method.hvp, error)
        return False
    apart = torch.linalg.vector_norm(product - plain)
    return bool(apart <= _AGREEMENT[plain.dtype] * torch.linalg.vector_norm(plain))


def _check_symmetry(
    model: Module, u: Tensor, hu: Tensor, v: Tensor, hv: Tensor, allowed: float
) -> None:
    """Refuse a Hessian that no loss can have.

    For Rademacher vectors u and v the difference of uᵀHv and vᵀHu is about the norm of H - Hᵀ, and
    that of Hv is the norm of H. Rounding may make ``allowed`` of the difference, relative to the
    products: two images that a network fits have a curvature that rounds although that of all does
    not. The vectors and products are flat.

    Raises:
        ArithmeticError: If the two differ by more than that.
    """
    one, other = vectors.exact_dot(u, hv).item(), vectors.exact_dot(v, hu).item()
    size = max(vectors.exact_norm([hu]), vectors.exact_norm([hv]))
    if abs(one - other) > allowed * size:
        raise ArithmeticError(
            f"the Hessian is not symmetric (u·Hv = {one:.6g}, v·Hu = {other:.6g}): the second "
            f"derivative of an operation of {_suspects(model)} is wrong, or the model is random"
        )


def _suspects(model: Module) -> str:
    """Where to look: torch's weight_norm has a wrong second derivative, in both of its forms."""
    found = [
        name
        for name, module in model.named_modules()
        if type(module).__name__ in ("_WeightNorm", "WeightNorm")
        or any(type(hook).__name__ == "WeightNorm" for hook in module._forward_pre_hooks.values())
    ]
    if not found:
        return "the model or the loss"
    return (
        f"torch's weight_norm ({', '.join(found)}; compute its weight as g * v / v.norm(), or take "
        "it away by remove_weight_norm or remove_parametrizations)"
    )


def _random_vectors(params: Vector) -> tuple[Vector, Vector]:
    """Two Rademacher vectors: every parameter has its part in the product."""
    generator = torch.Generator().manual_seed(0)
    u, v = ([rademacher(tuple(p.shape), p.detach(), generator) for p in params] for _ in range(2))
    return u, v
