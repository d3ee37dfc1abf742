"""From a variant and a recipe to the optimizer that trains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samsweep.config import (
    ASCENTS,
    BASES,
    COMBINATIONS,
    DIRECTIONS,
    OPTIMIZERS,
    RHO_SCHEDULES,
    WHENS,
    ConfigError,
    RecipeConfig,
    Variant,
)
from samsweep.config.cell import GroupConfig
from samsweep.config.factory import bound, make, name_of, parameters_of, takes_any
from samsweep.config.registry import Registry
from samsweep.optim.ascent import Ascent, adaptive, named_weights, plain
from samsweep.optim.base import Clipping, ClosureOptimizer, GradientDescent
from samsweep.optim.frozen_statistics import frozen_statistics
from samsweep.optim.radius import constant
from samsweep.optim.sam import SAM
from samsweep.optim.selection import Choice, chosen, select
from samsweep.optim.sgdhess import OutputOf, SGDHess
from samsweep.optim.training_step import Length

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
    """Parameters, in groups where some have values of their own."""
    params = list(model.parameters())
    if recipe.no_decay_on_norm:
        # Those of norm layers and biases have one dimension.
        decayed: dict[str, Any] = {"params": [p for p in params if p.ndim > 1]}
        return [decayed, {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0}]
    if recipe.groups is None:
        return params
    members = _members(recipe.groups, model)
    grouped = {id(p) for found in members for p in found}
    groups: list[dict[str, Any]] = [{"params": [p for p in params if id(p) not in grouped]}]
    for group, found in zip(recipe.groups, members, strict=True):
        own = group.model_dump(include={"lr", "weight_decay", "rho"}, exclude_none=True)
        if group.lr is not None:
            own["lr_factor"] = group.lr / recipe.lr
        groups.append({"params": found, **own})
    # Every parameter may be in a group of its own.
    return groups if groups[0]["params"] else groups[1:]


def _members(groups: Sequence[GroupConfig], model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each group: those that are chosen and in no earlier one.

    Raises:
        ConfigError: If there are none.
    """
    taken: set[int] = set()
    members = []
    for group in groups:
        found = chosen(model, group.params, key="groups: params")
        members.append([p for p in found if id(p) not in taken])
        if not members[-1]:
            raise ConfigError(
                f"groups: all parameters of params={group.params} are in an earlier group: put "
                "this one before that, or leave it out."
            )
        taken |= {id(p) for p in found}
    return members


def _perturbs(variant: Variant, recipe: RecipeConfig, model: nn.Module) -> Choice | None:
    """Which parameters are perturbed, of the variant and of all groups; None is all.

    Raises:
        ConfigError: If none is left.
    """
    of_variant = select(model, "all" if variant.perturb is None else variant.perturb)
    groups = recipe.groups or ()
    if all(group.perturb is not False for group in groups):
        return of_variant
    members = zip(groups, _members(groups, model), strict=True)
    fixed = {id(p) for group, found in members if group.perturb is False for p in found}

    def is_perturbed(param: Tensor) -> bool:
        return id(param) not in fixed and (of_variant is None or of_variant(param))

    if not any(map(is_perturbed, model.parameters())):
        raise ConfigError(
            f"opt.perturb={variant.perturb or 'all'}: groups with perturb=false leave no parameter "
            "to perturb; leave one of them out."
        )
    return is_perturbed


def build_optimizer(
    variant: Variant,
    recipe: RecipeConfig,
    model: nn.Module,
    *,
    seed: int,
    fused: bool = False,
    length: Length | None = None,
    keep_strides: bool = False,
) -> ClosureOptimizer:
    """The optimizer of a cell.

    Args:
        variant: Which vector is handed to the base optimizer.
        recipe: The base optimizer and its values.
        model: The network to train.
        seed: Of the cell; decides what is drawn.
        fused: Whether the base optimizer's update is one pass over memory.
        length: Of the training, on which some depend.
        keep_strides: Whether both passes see weights of the same strides.

    Raises:
        ConfigError: If a component does not take what it is given.
    """
    base = build_base(recipe, model, fused=fused)
    optimizer = _optimizer(
        variant, recipe, base, model, seed=seed, length=length, keep_strides=keep_strides
    )
    if recipe.clip_norm is not None:
        optimizer.clipping = Clipping(recipe.clip_norm, recipe.clip or "combined")
    return optimizer


def _optimizer(
    variant: Variant,
    recipe: RecipeConfig,
    base: torch.optim.Optimizer,
    model: nn.Module,
    *,
    seed: int,
    length: Length | None,
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
    return SAM(
        base,
        rho=variant.rho or 0.0,
        direction=variant.direction,
        magnitude=variant.magnitude,
        granularity=variant.granularity or "element",
        combination=_bound("combination", COMBINATIONS, variant),
        ascent=_ascent(variant, model),
        ascent_direction=_made("ascent_direction", DIRECTIONS, variant, base=base, seed=seed),
        ascent_steps=variant.ascent_steps or 1,
        perturbs=_perturbs(variant, recipe, model),
        when=_made("when", WHENS, variant, seed=seed),
        radius=_bound("rho_schedule", RHO_SCHEDULES, variant) or constant,
        length=length,
        second_pass=frozen_statistics(model),
        same_draws=bool(variant.same_draws),
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
        second_pass=frozen_statistics(model),
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
    return _bound("ascent", ASCENTS, variant) or plain


#: Parameters, gradients and rho; g and h; a step.
_NUM_GIVEN = {"ascent": 3, "combination": 2, "rho_schedule": 1}


def _bound(key: str, registry: Registry[Any], variant: Variant) -> Any:
    """A function that a variant names, with its arguments; None if it names none."""
    name, args = getattr(variant, key), getattr(variant, f"{key}_args")
    if name is None:
        return None
    component = registry.find(name)
    given = component.with_args(args)
    return bound(f"opt.{key}={name}", component.factory, given, num_given=_NUM_GIVEN[key])


def _made(key: str, registry: Registry[Any], variant: Variant, **beside: Any) -> Any:
    """An object of a class that a variant names; None if it names none.

    Raises:
        ConfigError: If it does not take its arguments, or their values.
    """
    name, args = getattr(variant, key), getattr(variant, f"{key}_args")
    if name is None:
        return None
    component = registry.find(name)
    try:
        return make(f"opt.{key}={name}", component.factory, component.with_args(args), **beside)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"opt.{key}={name}: {error}.") from error
