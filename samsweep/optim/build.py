"""From a variant and a recipe to the optimizer that trains them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from samsweep.config import RecipeConfig, Variant
from samsweep.optim.ascent import Ascent, adaptive, named_weights, plain
from samsweep.optim.base import ClosureOptimizer, GradientDescent
from samsweep.optim.frozen_batch_norms import frozen_batchnorm
from samsweep.optim.sam import SAM
from samsweep.optim.sgdhess import OutputOf, SGDHess

_BASES: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}

#: Those with an update that is one pass over memory.
_FUSED = ("sgd", "adam", "adamw")


def build_base(
    recipe: RecipeConfig, params: Iterable[Tensor], *, fused: bool = False
) -> torch.optim.Optimizer:
    """The torch optimizer underneath; fused, where it can be, it rounds otherwise."""
    used: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.momentum is not None:
        used["momentum"] = recipe.momentum
    if fused and recipe.base in _FUSED:
        used["fused"] = True
    return _BASES[recipe.base](params, **used)


def build_optimizer(
    variant: Variant,
    recipe: RecipeConfig,
    model: nn.Module,
    *,
    seed: int,
    fused: bool = False,
    keep_strides: bool = False,
) -> ClosureOptimizer:
    """The optimizer of a cell.

    Args:
        variant: Which vector is handed to the base optimizer.
        recipe: The base optimizer and its values.
        model: The network to train.
        seed: Of the cell; decides the draws of ``sgdhess``.
        fused: Whether the base optimizer's update is one pass over memory.
        keep_strides: Whether both passes see weights of the same strides.
    """
    base = build_base(recipe, model.parameters(), fused=fused)
    if variant.curvature is not None:
        return SGDHess(
            base,
            rho=variant.rho or 0.0,
            curvature=variant.curvature,
            seed=seed,
            output=OutputOf(model) if variant.curvature == "gauss_newton" else None,
        )
    if not variant.perturbs:
        return GradientDescent(base)
    return SAM(
        base,
        rho=variant.rho or 0.0,
        direction=variant.direction,
        magnitude=variant.magnitude,
        granularity=variant.granularity or "element",
        ascent=_ascent(variant, model),
        second_pass=frozen_batchnorm(model),
        keep_strides=keep_strides,
    )


def _ascent(variant: Variant, model: nn.Module) -> Ascent:
    if variant.ascent != "adaptive":
        return plain
    scaled = named_weights(model) if variant.scaled == "weights" else None
    return adaptive(variant.eta or 0.0, scaled)
