"""What can be named in a configuration: each kind's components, ours and those of plugins.

Our own are listed here once, free of torch. Others come in through :mod:`samsweep.register`, into
the same tables; a name with dots is a factory by its path and needs no table.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from samsweep.config.errors import ConfigError, unknown_name
from samsweep.config.factory import (
    Factory,
    classes_of,
    is_path,
    load_factory,
    normal_path,
    source_of,
)

C = TypeVar("C", bound="Component")


@dataclass(frozen=True, kw_only=True)
class Component:
    """Something that a configuration can name, and how it is made.

    Args:
        factory: Makes it: a callable, or ``package.module.attribute``, imported when it is needed.
        args: Keyword arguments that it is always given.
        version: That a plugin declares in place of its source's fingerprint.
        ours: Whether it is samsweep's own, which ``RESULTS_VERSION`` stands for.
    """

    factory: Factory = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    ours: bool = False

    @property
    def source(self) -> str | None:
        """What a cell's identity holds of its source; None for our own.

        Raises:
            ConfigError: If its module cannot be found.
        """
        if self.ours or self.version:
            return None if self.ours else self.version
        # Arguments stand in the plugin, perhaps another module than the factory's.
        args = f" {json.dumps(self.args, sort_keys=True, default=str)}" if self.args else ""
        return source_of(self.factory) + args

    def load(self) -> Callable[..., Any]:
        """The callable.

        Raises:
            ConfigError: If it cannot be imported.
        """
        return load_factory(self.factory)

    def with_args(self, args: Mapping[str, Any] | None) -> dict[str, Any]:
        """What it is always given and, before that, what a configuration gives."""
        return {**self.args, **(args or {})}


class Registry(Mapping[str, C], Generic[C]):
    """The components of one kind, by name.

    Args:
        kind: What they are, for messages.
        component: Their class.
        ours: Those of samsweep.
    """

    def __init__(self, kind: str, component: type[C], ours: Mapping[str, C]) -> None:
        self.kind = kind
        self.component = component
        self._components = dict(ours)

    #: One of each kind.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __getitem__(self, name: str) -> C:
        """The component of a name that is registered."""
        return self._components[name]

    def __iter__(self) -> Iterator[str]:
        """The names: ours in the order of the tables, then others as they came."""
        return iter(self._components)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._components)

    def add(self, name: str, component: C) -> None:
        """Register a component.

        Raises:
            ConfigError: If the name has dots or is taken by another one, or its factory has no name
                of its own, such as a partial function.
        """
        there = self._components.get(name)
        if is_path(name):
            raise ConfigError(f"{self.kind} {name!r}: choose a name without dots or colons.")
        if not isinstance(component.factory, str) and not hasattr(
            component.factory, "__qualname__"
        ):
            raise ConfigError(
                f"{self.kind} {name!r} is made by a {type(component.factory).__name__}: register a "
                "function or class, and give its arguments with args={...}."
            )
        if there is not None and not _same(there, component):
            raise ConfigError(f"{self.kind} {name!r} is registered twice: choose another name.")
        self._components[name] = component

    def find(self, name: str, factory: str | None = None) -> C:
        """The component that a configuration names.

        Args:
            name: Registered, or a path.
            factory: A path that goes before the name.

        Raises:
            ConfigError: If nothing has that name.
        """
        if factory is not None or is_path(name):
            return self.component(factory=normal_path(factory or name))
        if name not in self:
            raise ConfigError(self.unknown(name))
        return self[name]

    def unknown(self, name: str) -> str:
        """The sentence about a name that nothing answers to."""
        own = "One of your own needs its plugin, plugins=[MODULE], or its path, MODULE.NAME."
        return f"{unknown_name(self.kind, name, self)} {own}"


def _same(there: Component, component: Component) -> bool:
    """Whether both are one factory, perhaps of a module that was imported twice."""
    names = [
        (getattr(c.factory, "__module__", ""), getattr(c.factory, "__qualname__", c.factory))
        for c in (there, component)
    ]
    return not there.ours and names[0] == names[1]


def _ours(module: str, names: str) -> dict[str, Component]:
    """Samsweep's own, each by the name of its function."""
    return {n: Component(factory=f"{module}.{n}", ours=True) for n in names.split()}


# --------------------------------------------------------------------------- models


def _resnet(block: str, depths: tuple[int, ...], widths: tuple[int, ...]) -> Component:
    return Component(
        factory="samsweep.models.resnet.ResNet",
        args={"block": block, "depths": depths, "widths": widths},
        ours=True,
    )


#: Take ``in_channels`` and ``num_classes``.
MODELS = Registry(
    "model",
    Component,
    {
        "resnet8": _resnet("basic", (1, 1, 1), (16, 32, 64)),
        "resnet20": _resnet("basic", (3, 3, 3), (16, 32, 64)),
        "resnet18": _resnet("basic", (2, 2, 2, 2), (64, 128, 256, 512)),
        "resnet34": _resnet("basic", (3, 4, 6, 3), (64, 128, 256, 512)),
        "resnet50": _resnet("bottleneck", (3, 4, 6, 3), (64, 128, 256, 512)),
        "wrn28_10": Component(
            factory="samsweep.models.wide_resnet.WideResNet",
            args={"depth": 28, "widen_factor": 10},
            ours=True,
        ),
    },
)

# --------------------------------------------------------------------------- data


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known of a data set without loading it.

    Args:
        num_outputs: What a network returns for an example: a number for each class, or the values
            to regress.
        input_shape: Of an example, without the batch; (channels, height, width) of an image.
        num_train: Training examples, without the validation split.
        num_val: Validation examples.
        num_test: Test examples.
        is_classification: Whether labels are classes.
        input_dtype: As torch calls it; ``uint8`` are pixels.
        label_shape: Of an example's values to regress; () is one value.
        num_tokens: Of inputs that are token ids: they lie below it.
        fingerprint: Hash of the contents, for data that only its user knows; else None.
    """

    num_outputs: int
    input_shape: tuple[int, ...]
    num_train: int
    num_val: int
    num_test: int
    is_classification: bool = True
    input_dtype: str = "uint8"
    label_shape: tuple[int, ...] = ()
    num_tokens: int | None = None
    fingerprint: str | None = None

    @property
    def image_size(self) -> int | None:
        """Height and width in pixels of square images; None of anything else."""
        return self.input_shape[-1] if len(self.input_shape) == 3 else None

    @property
    def channels(self) -> int | None:
        """Channels of an image; None of anything else."""
        return self.input_shape[0] if len(self.input_shape) == 3 else None


def known_to_models(
    *, num_outputs: int, input_shape: tuple[int, ...], num_tokens: int | None
) -> dict[str, Any]:
    """What only the data know, by the names of the parameters through which a model takes it."""
    is_image = len(input_shape) == 3
    names: dict[str, Any] = {
        **dict.fromkeys(("num_classes", "num_outputs"), num_outputs),
        "in_features": math.prod(input_shape),
        "input_shape": input_shape,
    }
    if is_image:
        names |= dict.fromkeys(("channels", "in_channels", "in_chans"), input_shape[0])
        names |= dict.fromkeys(("image_size", "img_size"), input_shape[-1])
    if num_tokens is not None:
        names |= dict.fromkeys(("num_tokens", "vocab_size"), num_tokens)
    return names


@dataclass(frozen=True, kw_only=True)
class DatasetComponent(Component):
    """A data set.

    Args:
        info: What is known of it without loading it, or what finds that out; None to load it once,
            in a process of its own, and remember.
        fingerprint: Of the contents, which is in the identity of cells: a text, or what gives one
            for the arguments that it has parameters for; None is a hash of the arrays, or what
            ``info`` says.
        download: What fetches it to ``data_dir`` where it is not there yet.
        splits: Whether the factory gives splits as tensors, which ours do, not arrays to be
            checked and split.
    """

    info: DataInfo | Factory | None = None
    fingerprint: str | Callable[..., str] | None = None
    download: Factory | None = None
    splits: bool = False


def _cifar(num_classes: int) -> DatasetComponent:
    info = DataInfo(
        num_outputs=num_classes,
        input_shape=(3, 32, 32),
        num_train=45_000,
        num_val=5_000,
        num_test=10_000,
    )
    return DatasetComponent(
        factory="samsweep.data.cifar.load_cifar",
        args={"name": f"cifar{num_classes}"},
        info=info,
        download="samsweep.data.cifar.download",
        splits=True,
        ours=True,
    )


def _torchvision(
    name: str, input_shape: tuple[int, int, int], num_published: int, num_test: int
) -> DatasetComponent:
    """Of ten classes; a tenth of the training images is set aside for validation."""
    num_val = round(num_published / 10)
    return DatasetComponent(
        factory="samsweep.data.torchvision_sets.load",
        args={"name": name},
        info=DataInfo(
            num_outputs=10,
            input_shape=input_shape,
            num_train=num_published - num_val,
            num_val=num_val,
            num_test=num_test,
        ),
        download="samsweep.data.torchvision_sets.download",
        splits=True,
        ours=True,
    )


DATASETS = Registry(
    "dataset",
    DatasetComponent,
    {
        "digits": DatasetComponent(
            factory="samsweep.data.digits.load_digits",
            splits=True,
            info=DataInfo(
                num_outputs=10, input_shape=(1, 8, 8), num_train=898, num_val=180, num_test=719
            ),
            ours=True,
        ),
        "cifar10": _cifar(10),
        "cifar100": _cifar(100),
        "svhn": _torchvision("svhn", (3, 32, 32), 73_257, 26_032),
        "fashion_mnist": _torchvision("fashion_mnist", (1, 28, 28), 60_000, 10_000),
        "stl10": _torchvision("stl10", (3, 96, 96), 5_000, 8_000),
        "image_folder": DatasetComponent(
            factory="samsweep.data.image_folder.load_folder",
            splits=True,
            info="samsweep.data.folder_tree.describe_folder",
            ours=True,
        ),
        "parquet": DatasetComponent(
            factory="samsweep.data.parquet.load_parquet",
            splits=True,
            info="samsweep.data.parquet.describe_parquet",
            ours=True,
        ),
        "arrays": DatasetComponent(
            factory="samsweep.data.arrays.load_arrays",
            info="samsweep.data.arrays.describe_arrays",
            ours=True,
        ),
    },
)

# --------------------------------------------------------------------------- optimization


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
    "combination", Component, _ours("samsweep.optim.combine", "gsam wsam saner")
)

#: How to climb from w: take parameters, a direction and rho, return epsilon.
ASCENTS = Registry(
    "ascent",
    Component,
    _ours("samsweep.optim.ascent", "plain adaptive unnormalized unified per_tensor"),
)


@dataclass(frozen=True, kw_only=True)
class DirectionComponent(Component):
    """Along what to climb: an :class:`~samsweep.optim.directions.AscentDirection`.

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
        "last_gradient": _direction("LastGradient", needs_gradient=False),
        "momentum": _direction("MomentumDirection", needs_gradient=False),
        "friendly": _direction("FriendlyDirection", takes_parts=False),
        "average": _direction("AverageDirection", takes_parts=False),
    },
)


@dataclass(frozen=True, kw_only=True)
class WhenComponent(Component):
    """At which steps to climb: an :class:`~samsweep.optim.when.Always`.

    Args:
        share: Of the steps that climb, from the arguments, for estimates.
    """

    share: Callable[[Mapping[str, Any]], float] = lambda args: 1.0


def _when(
    name: str, share: Callable[[Mapping[str, Any]], float] = lambda args: 1.0
) -> WhenComponent:
    return WhenComponent(factory=f"samsweep.optim.when.{name}", share=share, ours=True)


#: Take what they have parameters for of ``seed``.
WHENS = Registry(
    "when",
    WhenComponent,
    {
        "always": _when("Always"),
        "epochs": _when("Epochs"),
        "every": _when("Every", lambda args: 1 / args.get("steps", 5)),
        "random": _when("AtRandom", lambda args: args.get("probability", 0.5)),
        "large_gradient": _when("LargeGradient", lambda args: 0.5),
    },
)

#: The radius over time: take a :class:`~samsweep.optim.TrainingStep`, return a factor of rho.
RHO_SCHEDULES = Registry(
    "rho_schedule", Component, _ours("samsweep.optim.radius", "constant with_lr cosine linear")
)


@dataclass(frozen=True, kw_only=True)
class ScheduleComponent(Component):
    """The learning rate over time: takes ``epoch``, a number of epochs done, and ``epochs``.

    Args:
        per_step: Whether it moves at each step, not at each epoch.
    """

    per_step: bool = True


def _schedule(function: str, *, per_step: bool = True) -> ScheduleComponent:
    factory = f"samsweep.training.schedule.{function}"
    return ScheduleComponent(factory=factory, per_step=per_step, ours=True)


SCHEDULES = Registry(
    "lr_schedule",
    ScheduleComponent,
    {
        "cosine_per_step": _schedule("cosine"),
        "cosine_per_epoch": _schedule("cosine", per_step=False),
        "constant": _schedule("constant"),
        "linear": _schedule("linear"),
        "step": _schedule("step", per_step=False),
    },
)

# --------------------------------------------------------------------------- tasks


#: Take outputs (N, ...) and labels (N, ...), return the mean over the examples, 0-d.
LOSSES = Registry(
    "loss",
    Component,
    {
        "cross_entropy": Component(factory="torch.nn.functional.cross_entropy", ours=True),
        "mse": Component(factory="torch.nn.functional.mse_loss", ours=True),
    },
)


@dataclass(frozen=True, kw_only=True)
class MetricComponent(Component):
    """What a network is judged by: takes outputs and labels of a whole split, returns a number.

    Args:
        label: For people.
        unit: For people.
        higher_is_better: Which epoch is the best.
    """

    label: str = ""
    unit: str = ""
    higher_is_better: bool = True


METRICS = Registry(
    "metric",
    MetricComponent,
    {
        "accuracy": MetricComponent(
            factory="samsweep.training.metrics.accuracy", label="accuracy", unit="%", ours=True
        ),
        "r2": MetricComponent(factory="samsweep.training.metrics.r2", label="R²", ours=True),
        "mae": MetricComponent(
            factory="samsweep.training.metrics.mae",
            label="mean absolute error",
            higher_is_better=False,
            ours=True,
        ),
    },
)

#: Random changes to a batch of raw images: take uint8 (B, C, H, W), return the same; torch's global
#: generator is seeded for them.
AUGMENTATIONS = Registry(
    "augmentation",
    Component,
    {
        "randaugment": Component(factory="torchvision.transforms.v2.RandAugment", ours=True),
        "trivialaugment": Component(
            factory="torchvision.transforms.v2.TrivialAugmentWide", ours=True
        ),
    },
)

#: Take ``config``, ``record`` and ``folder``, return a :class:`~samsweep.tracking.Tracker`.
TRACKERS = Registry(
    "tracking",
    Component,
    {
        "none": Component(factory="samsweep.tracking.NoTracker", ours=True),
        "wandb": Component(factory="samsweep.tracking.wandb_tracker.WandbTracker", ours=True),
    },
)

# --------------------------------------------------------------------------- pruners


@dataclass(frozen=True, kw_only=True)
class PrunerComponent(Component):
    """What ends hopeless cells early: returns an ``optuna.pruners.BasePruner``.

    Args:
        replays: Whether it keeps what it compares by in the trials as they report, so that the
            reports of other cells have to be played to it one after the other.
    """

    replays: bool = True


def _pruner(name: str, *, replays: bool = False) -> PrunerComponent:
    return PrunerComponent(factory=f"optuna.pruners.{name}Pruner", replays=replays, ours=True)


#: By Optuna's names; its other classes by their paths.
PRUNERS = Registry(
    "pruner",
    PrunerComponent,
    {
        "median": _pruner("Median"),
        "percentile": _pruner("Percentile"),
        "threshold": _pruner("Threshold"),
        "successive_halving": _pruner("SuccessiveHalving", replays=True),
        "hyperband": _pruner("Hyperband", replays=True),
    },
)

# --------------------------------------------------------------------------- measures


@dataclass(frozen=True, kw_only=True)
class MeasureInfo(Component):
    """A measure of flatness: takes a model, inputs and labels, returns a number or named values.

    Args:
        label: For people.
        settings: The keys of :class:`SharpnessConfig` that decide its value, with dots where one of
            a section does; of those that are left out, other values give the same measurement.
        headline: The entry of its result that tables show; None where only a figure can.
    """

    label: str = ""
    settings: tuple[str, ...] = ("num_examples", "weights", "seed")
    headline: str | None = None


#: Which images and weights: these decide every measure's value.
_FIXED = ("num_examples", "weights")
_DRAWN = (*_FIXED, "seed")
_EIGEN = (*_DRAWN, "tolerance", "max_hvps")
_ASCENT = ("worst_case.num_steps", "worst_case.batch_size")


def _eigenvalue(name: str, label: str) -> MeasureInfo:
    return MeasureInfo(ours=True, label=label, settings=_EIGEN, headline=name)


def _trace(name: str, label: str) -> MeasureInfo:
    return MeasureInfo(ours=True, label=label, settings=(*_DRAWN, "trace"), headline=name)


def _worst_case(name: str, rho: str, label: str) -> MeasureInfo:
    settings = (*_FIXED, f"worst_case.{rho}", *_ASCENT)
    return MeasureInfo(ours=True, label=label, settings=settings, headline=name)


def _average_case(name: str, rho: str, label: str) -> MeasureInfo:
    settings = (*_DRAWN, f"average_case.{rho}", "average_case.num_samples")
    return MeasureInfo(ours=True, label=label, settings=settings, headline=name)


def _landscape(num_points: str, label: str) -> MeasureInfo:
    settings = (*_DRAWN, "landscape.radius", f"landscape.{num_points}")
    return MeasureInfo(ours=True, label=label, settings=settings)


#: Measures of flatness, in the order of the tables. L is the mean loss over the fixed examples, H
#: its Hessian, d the number of parameters, D = diag(abs(w)).
MEASURES = Registry(
    "measure",
    MeasureInfo,
    {
        "lambda_max": _eigenvalue("lambda_max", "lambda_max"),
        "top5": _eigenvalue("lambda_max", "lambda_max"),
        "relative_flatness": _eigenvalue("relative_flatness", "||w||² lambda_max"),
        "adaptive_lambda_max": _eigenvalue("adaptive_lambda_max", "lambda_max of D H D"),
        "trace": _trace("trace", "trace of H"),
        "ggn_trace": _trace("ggn_trace", "trace of the Gauss-Newton matrix"),
        "fisher_trace": _trace("fisher_trace", "trace of the Fisher matrix"),
        "worst_case_l2": _worst_case("worst_case_l2", "rho_l2", "worst case in an l2 ball"),
        "worst_case_linf": _worst_case("worst_case_linf", "rho_linf", "worst case in an linf ball"),
        "adaptive_worst_case_l2": _worst_case(
            "adaptive_worst_case_l2", "adaptive_rho_l2", "worst case in an adaptive l2 ball"
        ),
        "adaptive_worst_case_linf": _worst_case(
            "adaptive_worst_case_linf", "adaptive_rho_linf", "worst case in an adaptive linf ball"
        ),
        "average_case": _average_case("average_case", "rho", "average case"),
        "adaptive_average_case": _average_case(
            "adaptive_average_case", "adaptive_rho", "adaptive average case"
        ),
        "sam_gap": MeasureInfo(
            ours=True, label="SAM gap", settings=(*_FIXED, "sam_gap"), headline="sam_gap"
        ),
        "spectral_density": MeasureInfo(
            ours=True, label="spectral density", settings=(*_DRAWN, "spectral_density")
        ),
        "landscape_1d": _landscape("num_points_1d", "landscape, a line"),
        "landscape_2d": _landscape("num_points_2d", "landscape, a plane"),
        "empirical_sam": MeasureInfo(
            ours=True,
            label="the study's sharpness",
            settings=("weights", "seed", "tolerance", "max_hvps", "empirical_sam"),
            headline="empirical_sam",
        ),
    },
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

#: Outcomes and contrasts that a preset may name beforehand; the analysis computes them.
OUTCOMES = (
    "test_accuracy",
    "best_test_accuracy",
    "log_lambda_max",
    "train_loss",
    "generalization_gap",
    "test_loss",
    "weight_norm",
)
CONTRASTS = (
    "magnitude_minus_direction",
    "direction",
    "magnitude",
    "interaction",
    "direction_at_sgd_magnitude",
    "direction_at_sam_magnitude",
    "magnitude_at_sgd_direction",
    "magnitude_at_sam_direction",
)

#: Parameters that have a name together; others are chosen by patterns of theirs.
PARAMETERS = ("norm_layers", "not_norm_layers", "biases", "no_biases")

Source = Literal["sgd", "sam"]
Granularity = Literal["element", "tensor", "global"]
Scaled = Literal["weights", "matrices"]
Curvature = Literal["hutchinson", "gauss_newton", "exact"]
Precision = Literal["float32", "bfloat16"]
Clip = Literal["combined", "gradient"]

#: By the kind's name in the messages and in :mod:`samsweep.register`.
REGISTRIES: Mapping[str, Registry[Any]] = {
    "model": MODELS,
    "dataset": DATASETS,
    "base": BASES,
    "optimizer": OPTIMIZERS,
    "combination": COMBINATIONS,
    "ascent": ASCENTS,
    "ascent_direction": DIRECTIONS,
    "when": WHENS,
    "rho_schedule": RHO_SCHEDULES,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "metric": METRICS,
    "augmentation": AUGMENTATIONS,
    "tracker": TRACKERS,
    "pruner": PRUNERS,
    "measure": MEASURES,
}
