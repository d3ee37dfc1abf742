"""From a variant and a recipe to the optimizer that trains them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from samsweep.config import (
    ASCENTS,
    BASES,
    COMBINATIONS,
    OPTIMIZERS,
    ConfigError,
    RecipeConfig,
    Variant,
)
from samsweep.config.factory import bound, make, name_of, parameters_of, takes_any
from samsweep.optim.ascent import Ascent, adaptive, named_weights, plain
from samsweep.optim.base import Clipping, ClosureOptimizer, GradientDescent
from samsweep.optim.frozen_batch_norms import frozen_batchnorm
from samsweep.optim.sam import SAM
from samsweep.optim.sgdhess import OutputOf, SGDHess

#: Those with an update that is one pass over memory.
_FUSED = ("sgd", "adam", "adamw")


def build_base(
    recipe: RecipeConfig, model: nn.Module, *, fused: bool = False
) -> torch.optim.Optimizer:
    """The torch optimizer underneath; fused, where it can be, it rounds otherwise.

    Raises:
        ConfigError: If it does not take the recipe's values.
    """
    component = BASES.find(recipe.base)
    function = component.load()
    used: dict[str, Any] = {"lr": recipe.lr, **component.with_args(recipe.base_args)}
    if "weight_decay" in parameters_of(function) or takes_any(function):
        used.setdefault("weight_decay", recipe.weight_decay)
    elif recipe.weight_decay:
        raise ConfigError(
            f"base={recipe.base} has no weight decay: set weight_decay=0, not "
            f"{recipe.weight_decay:g}."
        )
    if recipe.momentum is not None:
        used["momentum"] = recipe.momentum
    if recipe.nesterov:
        used["nesterov"] = True
    if fused and recipe.base in _FUSED:
        used["fused"] = True
    base = make(f"base={recipe.base}", function, {"params": _groups(recipe, model), **used})
    if not isinstance(base, torch.optim.Optimizer):
        raise ConfigError(
            f"base={recipe.base}: {name_of(function)} returns {type(base).__name__}, "
            "not a torch.optim.Optimizer."
        )
    return base


def _groups(recipe: RecipeConfig, model: nn.Module) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Parameters; those of norm layers and biases, which have one dimension, in their own group."""
    params = list(model.parameters())
    if not recipe.no_decay_on_norm:
        return params
    decayed: dict[str, Any] = {"params": [p for p in params if p.ndim > 1]}
    return [decayed, {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0}]


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

    Raises:
        ConfigError: If a component does not take what it is given.
    """
    base = build_base(recipe, model, fused=fused)
    optimizer = _optimizer(variant, base, model, seed=seed, keep_strides=keep_strides)
    if recipe.clip_norm is not None:
        optimizer.clipping = Clipping(recipe.clip_norm, recipe.clip or "combined")
    return optimizer


def _optimizer(
    variant: Variant,
    base: torch.optim.Optimizer,
    model: nn.Module,
    *,
    seed: int,
    keep_strides: bool,
) -> ClosureOptimizer:
    if variant.optimizer is not None:
        return _whole_step(variant, base, model, seed)
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
    combination = None
    if variant.combination is not None:
        component = COMBINATIONS.find(variant.combination)
        combination = bound(
            f"opt.combination={variant.combination}",
            component.factory,
            component.with_args(variant.combination_args),
        )
    return SAM(
        base,
        rho=variant.rho or 0.0,
        direction=variant.direction,
        magnitude=variant.magnitude,
        granularity=variant.granularity or "element",
        combination=combination,
        ascent=_ascent(variant, model),
        second_pass=frozen_batchnorm(model),
        keep_strides=keep_strides,
    )


def _whole_step(
    variant: Variant, base: torch.optim.Optimizer, model: nn.Module, seed: int
) -> ClosureOptimizer:
    assert variant.optimizer is not None
    component = OPTIMIZERS.find(variant.optimizer)
    optimizer = make(
        f"opt={variant.name}",
        component.factory,
        {"base": base, **component.with_args(variant.optimizer_args)},
        rho=variant.rho,
        model=model,
        seed=seed,
        second_pass=frozen_batchnorm(model),
    )
    if not isinstance(optimizer, ClosureOptimizer):
        raise ConfigError(
            f"opt={variant.name}: {name_of(component.factory)} returns {type(optimizer).__name__}, "
            "not a samsweep.optim.ClosureOptimizer."
        )
    return optimizer


def _ascent(variant: Variant, model: nn.Module) -> Ascent:
    if variant.ascent in (None, "plain"):
        return plain
    if variant.ascent == "adaptive":
        scaled = named_weights(model) if variant.scaled == "weights" else None
        return adaptive(variant.eta or 0.0, scaled)
    name = variant.ascent
    component = ASCENTS.find(name)
    return bound(f"opt.ascent={name}", component.factory, component.with_args(variant.ascent_args))
