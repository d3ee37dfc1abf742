"""Base optimizers, and the parts of SAM and its family."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from samsweep.config.errors import ConfigError
from samsweep.config.factory import classes_of, is_path
from samsweep.config.registry import Component, Registry, built_in

Source = Literal["sgd", "sam"]
Granularity = Literal["element", "tensor", "global"]
Scaled = Literal["weights", "matrices"]
Curvature = Literal["hutchinson", "gauss_newton", "exact"]


@dataclass(frozen=True, kw_only=True)
class BaseComponent(Component):
    """An optimizer that can sit underneath.

    Args:
        uses_momentum: Whether it takes the key ``momentum``, beside ``lr`` and ``weight_decay``.
    """

    uses_momentum: bool = False


class _Bases(Registry[BaseComponent]):
    """Those listed, and any other of ``torch.optim`` and ``pytorch_optimizer`` by its name."""

    def find(self, name: str, factory: str | None = None) -> BaseComponent:
        """See :meth:`Registry.find`."""
        if factory is not None or is_path(name) or name in self:
            return super().find(name, factory)
        for package, module in (("torch", "optim"), ("pytorch_optimizer", "optimizer")):
            path = classes_of(package, module).get(name.lower())
            if path is not None:
                # torch's version is in no identity, and so not for its optimizers either.
                return BaseComponent(factory=path, ours=package == "torch")
        others = {**classes_of("torch", "optim"), **classes_of("pytorch_optimizer", "optimizer")}
        near = difflib.get_close_matches(name.lower(), {*self, *others}, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"{self.kind} {name!r} is unknown: {hint}choose one of {', '.join(self)}, one of "
            "torch.optim or pytorch_optimizer in lower case, or your own by its plugin, "
            "plugins=[MODULE], or its path, MODULE.NAME."
        )


BASES = _Bases(
    "base optimizer",
    BaseComponent,
    {
        "sgd": BaseComponent(factory="torch.optim.SGD", uses_momentum=True, ours=True),
        "adam": BaseComponent(factory="torch.optim.Adam", ours=True),
        "adamw": BaseComponent(factory="torch.optim.AdamW", ours=True),
        "rmsprop": BaseComponent(factory="torch.optim.RMSprop", uses_momentum=True, ours=True),
    },
)

#: Whole steps: take the base optimizer, and what they have parameters for of ``rho``, ``model`` and
#: ``seed``; return a :class:`~samsweep.optim.base.ClosureOptimizer`.
OPTIMIZERS = Registry("optimizer", Component, {})

#: How g and h become the vector for the base optimizer: take both, return one like them.
COMBINATIONS = Registry(
    "combination", Component, built_in("samsweep.optim.combine", "gsam wsam saner")
)

#: How to ascend from w: take parameters, a direction and rho, return epsilon.
ASCENTS = Registry(
    "ascent",
    Component,
    built_in("samsweep.optim.ascent", "plain adaptive unnormalized unified per_tensor"),
)


@dataclass(frozen=True, kw_only=True)
class DirectionComponent(Component):
    """Along what to ascend: an :class:`~samsweep.optim.directions.AscentDirection`.

    Args:
        needs_gradient: Whether it is made of the gradient at w.
        takes_parts: Whether parts of a mini-batch can each have their own.
    """

    needs_gradient: bool = True
    takes_parts: bool = True


def _direction(
    name: str, *, needs_gradient: bool = True, takes_parts: bool = True
) -> DirectionComponent:
    return DirectionComponent(
        factory=f"samsweep.optim.directions.{name}",
        needs_gradient=needs_gradient,
        takes_parts=takes_parts,
        ours=True,
    )


#: Take what they have parameters for of ``base`` and ``seed``.
DIRECTIONS = Registry(
    "ascent direction",
    DirectionComponent,
    {
        "gradient": _direction("AscentDirection"),
        "random": _direction("RandomDirection", needs_gradient=False),
        "last_gradient": _direction("LastGradient", needs_gradient=False, takes_parts=False),
        "momentum": _direction("MomentumDirection", needs_gradient=False, takes_parts=False),
        "friendly": _direction("FriendlyDirection", takes_parts=False),
        "average": _direction("AverageDirection", takes_parts=False),
    },
)


@dataclass(frozen=True, kw_only=True)
class WhenComponent(Component):
    """At which steps to ascend: an :class:`~samsweep.optim.when.Always`.

    Args:
        share: Of the steps that ascend, from the arguments, for estimates.
    """

    share: Callable[[Mapping[str, Any]], float] = lambda args: 1.0


def _when(
    name: str, share: Callable[[Mapping[str, Any]], float] = lambda args: 1.0
) -> WhenComponent:
    return WhenComponent(factory=f"samsweep.optim.when.{name}", share=share, ours=True)


def _share_of_epochs(args: Mapping[str, Any]) -> float:
    """Half, since how many epochs there are is not known here."""
    return 0.5 if args.get("first") or args.get("last") is not None else 1.0


#: Take what they have parameters for of ``seed``.
WHENS = Registry(
    "when",
    WhenComponent,
    {
        "always": _when("Always"),
        "epochs": _when("Epochs", _share_of_epochs),
        "every": _when("Every", lambda args: 1 / args.get("steps", 5)),
        "random": _when("AtRandom", lambda args: args.get("probability", 0.5)),
        "large_gradient": _when("LargeGradient", lambda args: 0.5),
    },
)

#: The radius over time: take a :class:`~samsweep.optim.TrainingStep`, return a factor of rho.
RHO_SCHEDULES = Registry(
    "rho_schedule", Component, built_in("samsweep.optim.radius", "constant with_lr cosine linear")
)

#: The (direction, magnitude) corners of the design, by the names of their table rows.
CORNERS: Mapping[tuple[str, str], str] = {
    ("sgd", "sgd"): "sgd",
    ("sam", "sam"): "sam",
    ("sam", "sgd"): "samdirection",
    ("sgd", "sam"): "sammagnitude",
}

#: Names of the optimizer variants, in the order of the tables.
VARIANTS = ("sgd", "sgdhess", "sam", "samdirection", "sammagnitude", "asam")

#: Names of what differs from SAM in one value, by its key; in any other number it is called SAM.
FAMILY: Mapping[tuple[str, str], str] = {
    ("ascent", "adaptive"): "asam",
    ("ascent", "unnormalized"): "usam",
    ("ascent", "unified"): "unified_sam",
    ("ascent", "per_tensor"): "per_tensor_sam",
    ("ascent_direction", "random"): "random_sam",
    ("ascent_direction", "last_gradient"): "last_sam",
    ("ascent_direction", "momentum"): "msam",
    ("ascent_direction", "friendly"): "fsam",
    ("ascent_direction", "average"): "vasso",
    ("perturb", "norm_layers"): "sam_on",
    ("perturb", "not_norm_layers"): "sam_except_norm",
    ("when", "every"): "looksam",
    ("when", "random"): "sssam",
    ("when", "large_gradient"): "aesam",
}

#: Parameters that have a name together; others are chosen by patterns of theirs.
PARAMETERS = ("norm_layers", "not_norm_layers", "biases", "no_biases")
