"""Register components of one's own: what a plugin calls, and what samsweep's tables are made of.

In a module of one's own::

    from samsweep import register

    @register.model("tiny_cnn")
    def tiny_cnn(*, in_channels, num_classes, width=32): ...

    register.base("lion8", "mylab.optim.Lion8")          # a path: imported when it is needed
    register.measure("weight_l1", label="||w||_1")(weight_l1)

Each takes a name and a factory, a callable or its path, or decorates one. A plugin that gives paths
keeps planning free of whatever its components import. ``version`` stands for the source in the
identity of cells: without it, a change of the factory's module, or of a module beside it that it
imports, makes other cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from samsweep.config import DataInfo, SharpnessConfig, described
from samsweep.config.components import (
    ASCENTS,
    AUGMENTATIONS,
    BASES,
    COMBINATIONS,
    DATASETS,
    DIRECTIONS,
    LOSSES,
    MEASURES,
    METRICS,
    MODELS,
    OPTIMIZERS,
    PRUNERS,
    RHO_SCHEDULES,
    SCHEDULES,
    TRACKERS,
    WHENS,
)
from samsweep.config.errors import ConfigError, unknown_name
from samsweep.config.factory import Factory
from samsweep.config.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])


class _Register:
    """Adds to one registry.

    Args:
        registry: Which.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry

    @overload
    def __call__(self, name: str, factory: Factory, **known: Any) -> None: ...

    @overload
    def __call__(self, name: str, **known: Any) -> Callable[[F], F]: ...

    def __call__(
        self, name: str, factory: Factory | None = None, **known: Any
    ) -> Callable[[F], F] | None:
        """Register a factory under a name, or return what does so to the function below it.

        Args:
            name: Of the component, as configurations have it.
            factory: A callable, or ``package.module.attribute``.
            known: What is known of it: ``version``, ``args`` that it is always given, and the
                fields of the kind's class in :mod:`samsweep.config.components`.

        Raises:
            ConfigError: If the name is taken.
        """

        def add(function: F) -> F:
            self._registry.add(name, self._component(name, function, known))
            return function

        if factory is None:
            return add
        self._registry.add(name, self._component(name, factory, known))
        return None

    def _component(self, name: str, factory: Factory, known: Mapping[str, Any]) -> Any:
        fields = [field.name for field in dataclasses.fields(self._registry.component)]
        taken = [field for field in fields if field not in ("factory", "ours")]
        what = f"{self._registry.kind} {name!r}"
        for key in known:
            if key not in taken:
                raise ConfigError(
                    f"{what} is registered with {key}, which means nothing: choose among "
                    f"{', '.join(taken)}."
                )
        if not isinstance(known.get("args", {}), Mapping):
            raise ConfigError(
                f"{what} is registered with args={known['args']!r}: give a mapping of its keyword "
                "arguments, args={...}."
            )
        info = known.get("info")
        if info is not None and not isinstance(info, DataInfo | str) and not callable(info):
            raise ConfigError(
                f"{what} has a {type(info).__name__} as info: give a DataInfo, or what makes one."
            )
        if "settings" in known:
            valid = sorted(key.name for key in described(SharpnessConfig))
            for key in known["settings"]:
                if key not in valid:
                    raise ConfigError(unknown_name(f"{what}: setting", key, valid))
        return self._registry.component(factory=factory, **known)


#: A network: takes what it has parameters for of ``num_classes``, ``in_channels``, ``image_size``,
#: ``input_shape``, ...; see :attr:`~samsweep.config.DataInfo.known_to_models`.
model = _Register(MODELS)
#: Training, validation and test examples (docs/extending.md); ``info`` says what can be known of
#: them without loading.
dataset = _Register(DATASETS)
#: An optimizer that can sit underneath, with torch's interface.
base = _Register(BASES)
#: A whole step: takes the base optimizer, and what it has parameters for of rho, model and seed.
optimizer = _Register(OPTIMIZERS)
#: A vector from g and h.
combination = _Register(COMBINATIONS)
#: A perturbation from parameters, gradients and rho.
ascent = _Register(ASCENTS)
#: Along what to ascend: an :class:`~samsweep.optim.AscentDirection`.
ascent_direction = _Register(DIRECTIONS)
#: At which steps to ascend: an :class:`~samsweep.optim.Always`.
when = _Register(WHENS)
#: A factor of rho from a :class:`~samsweep.optim.TrainingStep`.
rho_schedule = _Register(RHO_SCHEDULES)
#: The learning rate's factor from ``epoch`` and ``epochs``.
lr_schedule = _Register(SCHEDULES)
#: A mean loss from outputs and labels.
loss = _Register(LOSSES)
#: A number from outputs and labels of a split.
metric = _Register(METRICS)
#: Changes of a batch of raw images.
augmentation = _Register(AUGMENTATIONS)
#: A tracker from ``config``, ``record`` and ``folder``.
tracker = _Register(TRACKERS)
#: What ends hopeless cells early: a pruner of Optuna's kind.
pruner = _Register(PRUNERS)
#: A number, or named values, from a model, inputs and labels.
measure = _Register(MEASURES)
