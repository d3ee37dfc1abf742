"""Checked, frozen values: the base of every configuration, and the types of its fields."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from samsweep.config.components import (
    ASCENTS,
    BASES,
    COMBINATIONS,
    DIRECTIONS,
    LOSSES,
    METRICS,
    PARAMETERS,
    PRUNERS,
    RHO_SCHEDULES,
    SCHEDULES,
    WHENS,
)
from samsweep.config.errors import ConfigError, unknown_name
from samsweep.config.factory import is_path, normal_path
from samsweep.config.registry import Registry

#: Significant digits of a float that names a cell, a column or a measurement.
_DIGITS = 12


def rounded(value: float) -> float:
    """A number as it names things: to 12 significant digits, and never minus zero.

    >>> rounded(0.1 + 0.1 + 0.1), rounded(-0.0)
    (0.3, 0.0)
    """
    return float(f"{value:.{_DIGITS}g}") + 0.0


def _rounded_if_float(value: object) -> object:
    return rounded(value) if isinstance(value, float) else value


#: Sums of a range, such as 0.30000000000000004, name the same cell as the number that is meant.
_Rounded = BeforeValidator(_rounded_if_float)


def _plain_json(value: Any) -> Any:
    """JSON values with their floats rounded, as arguments of components name things.

    Whole numbers stay as they are written, since they are handed on so: 1 and 1.0 are two cells.

    Raises:
        ValueError: If there is anything else, or a number that JSON does not have.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("must be finite")
        return rounded(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | tuple):
        return [_plain_json(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): _plain_json(inner) for key, inner in value.items()}
    raise ValueError("must be numbers, texts, lists and mappings")


class _Arguments(dict[str, Any]):
    """Keyword arguments that a frozen value holds, which has to be hashable."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


#: Keyword arguments of a component; none of them.
Arguments = Annotated[Mapping[str, Any], BeforeValidator(_plain_json), AfterValidator(_Arguments)]
NO_ARGUMENTS: Mapping[str, Any] = _Arguments()

#: Keys under which arguments of components stand, which ``conf/`` cannot list, keys of
#: a grid, and those that options of the ``opt`` and ``dataset`` groups leave out.
_ARGUMENTS = re.compile(
    r"(model|opt|dataset|tracking|sharpness)\.args[.=]"
    r"|(base|lr_schedule|loss|metric|pruner)_args[.=]"
    r"|opt\.[a-z_]+_args[.=]|dataset\.augment\.policy_args[.=]"
    r"|opt\.(combination|ascent|ascent_direction|ascent_steps|perturb|m|when|rho_schedule)="
    r"|opt\.same_draws="
    r"|opt\.(direction|magnitude|eta|scaled|granularity)="
    r"|dataset\.(train_fraction|augment\.(policy|mixup|cutmix))="
    r"|hydra\.sweeper\.zip[.=]"
)


def with_arguments_added(override: str) -> str:
    """An override of an argument as Hydra sets a key that no option has.

    >>> with_arguments_added("base_args.betas=[0.9,0.99]"), with_arguments_added("lr=0.1")
    ('++base_args.betas=[0.9,0.99]', 'lr=0.1')
    """
    return f"++{override}" if _ARGUMENTS.match(override) else override


@dataclass(frozen=True)
class OneOf:
    """Refuses a name that is not among the choices.

    Args:
        kind: What the name is of.
        names: The valid names; of a registry also the paths of factories.
    """

    kind: str
    names: Iterable[str]

    @property
    def choices(self) -> tuple[str, ...]:
        """The valid names."""
        return tuple(self.names)

    def __call__(self, name: str) -> str:
        """The name itself.

        Raises:
            ValueError: If it is none of the choices.
        """
        if isinstance(self.names, Registry):
            self.names.find(name)
        elif name not in self.choices:
            raise ValueError(unknown_name(self.kind, name, self.choices))
        return name


def one_of(kind: str, choices: Iterable[str]) -> AfterValidator:
    """Refuses a name that is not among the choices."""
    return AfterValidator(OneOf(kind, choices))


def component(registry: Registry[Any]) -> AfterValidator:
    """Refuses a name that is neither registered nor a factory's path."""
    return AfterValidator(OneOf(registry.kind, registry))


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("name at least one")
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value} stands there twice: name it once")
    return values


#: Of a list in YAML, whose entries keep their types; and of one with each value once, at least one.
Listed = Field(strict=False)
EachOnce = AfterValidator(_each_once)


def _path(factory: str) -> str:
    """One spelling of a factory's path.

    Raises:
        ValueError: If it is none.
    """
    if not is_path(factory):
        raise ValueError("write it as package.module.attribute")
    return normal_path(factory)


FactoryPath = Annotated[str, AfterValidator(_path)]
#: Of components: registered, or a factory's path.
BaseName = Annotated[str, component(BASES)]
LossName = Annotated[str, component(LOSSES)]
MetricName = Annotated[str, component(METRICS)]
ScheduleName = Annotated[str, component(SCHEDULES)]
AscentName = Annotated[str, component(ASCENTS)]
CombinationName = Annotated[str, component(COMBINATIONS)]
PrunerName = Annotated[str, component(PRUNERS)]
DirectionName = Annotated[str, component(DIRECTIONS)]
WhenName = Annotated[str, component(WHENS)]
RhoScheduleName = Annotated[str, component(RHO_SCHEDULES)]


def _parameters(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """One of the names, or patterns, which have a dot or a wildcard.

    Raises:
        ValueError: If it is neither, or none.
    """
    if not value:
        raise ValueError("name at least one")
    for name in (value,) if isinstance(value, str) else value:
        if name not in PARAMETERS and not set(name) & set(".*?["):
            own = "or patterns of the parameters' names such as 'layer3.*'"
            raise ValueError(f"{unknown_name('parameters', name, PARAMETERS)} {own}")
    return value


#: Some of a network's parameters.
_Names = str | Annotated[tuple[str, ...], Listed]
Parameters = Annotated[_Names, AfterValidator(_parameters)]
Perturbed = Annotated[
    _Names, AfterValidator(lambda names: names if names == "all" else _parameters(names))
]


Count = Annotated[int, Field(ge=1)]
#: Beyond are slips of the keyboard, which no machine could hold or finish.
Epochs = Annotated[int, Field(ge=1, le=1_000_000)]
ImageSize = Annotated[int, Field(ge=1, le=4096)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), _Rounded]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _Rounded]
Probability = Annotated[float, Field(ge=0, le=1), _Rounded]
Momentum = Annotated[float, Field(ge=0, lt=1), _Rounded]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

_DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_STUDY = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
#: What the values that follow a pattern can be, in words.
PATTERNS = {
    _DEVICE: "auto, cpu, cuda or cuda:1",
    _VARIABLE: "a name of letters, digits and '_'",
    _STUDY: "a folder name of letters, digits, '.', '_' and '-', not a path",
}
DeviceName = Annotated[str, Field(pattern=_DEVICE)]
#: Of a variable of the environment.
VariableName = Annotated[str, Field(pattern=_VARIABLE)]
#: A study is a folder's name, never a path.
StudyName = Annotated[str, Field(pattern=_STUDY)]


class Frozen(BaseModel):
    """An immutable value that refuses unknown keys and converts no types behind one's back."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, prefix: str = "") -> Self:
        """Check plain values.

        Args:
            values: By the names of the fields.
            prefix: What stands before those names where the user writes them.

        Raises:
            ConfigError: With one sentence for every value that is wrong.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise refusal(cls, error, prefix) from None


def refusal(schema: type[BaseModel], error: ValidationError, prefix: str = "") -> ConfigError:
    """Everything that pydantic found wrong, in a sentence each."""
    return ConfigError(*(_sentence(schema, detail, prefix) for detail in error.errors()))


def _sentence(schema: type[BaseModel], detail: ErrorDetails, prefix: str) -> str:
    """One pydantic error as a sentence with key, value, what is allowed and the remedy."""
    path = ".".join(str(part) for part in detail["loc"])
    key = (prefix + path).removesuffix(".") or "the configuration"
    if detail["type"] == "extra_forbidden":
        return unknown_name("key", key, sibling_keys(schema, key))
    if detail["type"] == "missing":
        return f"{key} is missing: set {key}=VALUE."
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    if detail["type"] == "string_pattern_mismatch":
        message = f"should be {PATTERNS[detail['ctx']['pattern']]}"
    if isinstance(detail["input"], Mapping):
        # Of several keys together, which the message names.
        place = f"{prefix}{path}".removesuffix(".")
        return f"{place}: {message}." if place else f"{message}."
    return f"{key}={_shown(detail['input'])}: {message}."


def sibling_keys(schema: type[BaseModel], key: str) -> list[str]:
    """Full names of the keys that are valid where the dotted ``key`` is not."""
    *parents, _ = key.split(".")
    fields = schema.model_fields
    for parent in parents:
        if parent.isdigit():  # a place in a list of what the key before it is of
            continue
        inner = fields[parent].annotation if parent in fields else None
        inner = next(iter(get_args(inner)), inner)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        fields = inner.model_fields
    return [".".join([*parents, name]) for name in fields]


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
