"""The boundary: every value a run can be given, checked once and frozen.

Three kinds of values, from the outside in:

* :class:`Options` mirrors ``conf/`` key by key. Hydra composes it, :meth:`Options.resolve` turns
  it into a
* :class:`RunConfig`: how and where one cell runs (device, measurements, tracking, paths), around a
* :class:`CellConfig`: what is trained. It is the cell's *identity*: two equal ``CellConfig`` are
  one network, trained once. Keys that an optimizer does not use are ``None`` in it.

Everything is free of torch, so that planning a sweep stays quick. The registries below
(:data:`MODELS`, :data:`DATASETS`, :data:`BASES`, :data:`MEASURES`) are the single list of valid
names; the layers above look their implementations up by these names.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

# --------------------------------------------------------------------------- errors


class ConfigError(ValueError):
    """A value that cannot be run, told in one sentence per problem.

    Args:
        problems: Sentences that each name the value, what is allowed and the remedy.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """The sentence about a name that nothing answers to, with the nearest valid one."""
    valid = sorted(choices)
    if not valid:
        return f"{kind} {name!r} is unknown."
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{kind} {name!r} is unknown: {hint}choose one of {', '.join(valid)}."


# --------------------------------------------------------------------------- registries


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """A residual network with a CIFAR stem (He et al. 2016, arXiv 1512.03385).

    Args:
        block: Residual block, torchvision's ``BasicBlock`` or ``Bottleneck``.
        depths: Number of blocks of each stage.
        widths: Channels of each stage before the block's expansion.
    """

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WideResNetSpec:
    """A pre-activation wide residual network (Zagoruyko & Komodakis 2016, arXiv 1605.07146).

    Args:
        depth: Number of convolutions, 6n + 4.
        widen_factor: Multiple of the widths 16, 32, 64.
    """

    depth: int
    widen_factor: int


MODELS: Mapping[str, ResNetSpec | WideResNetSpec] = {
    "resnet8": ResNetSpec(block="basic", depths=(1, 1, 1), widths=(16, 32, 64)),
    "resnet20": ResNetSpec(block="basic", depths=(3, 3, 3), widths=(16, 32, 64)),
    "resnet18": ResNetSpec(block="basic", depths=(2, 2, 2, 2), widths=(64, 128, 256, 512)),
    "resnet34": ResNetSpec(block="basic", depths=(3, 4, 6, 3), widths=(64, 128, 256, 512)),
    "resnet50": ResNetSpec(block="bottleneck", depths=(3, 4, 6, 3), widths=(64, 128, 256, 512)),
    "wrn28_10": WideResNetSpec(depth=28, widen_factor=10),
}


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known of a data set without loading it.

    Args:
        num_classes: Number of classes.
        channels: Channels of an image.
        image_size: Height and width in pixels.
        num_train: Training images, without the validation split.
        num_val: Validation images, split off the training set.
        num_test: Test images.
        fingerprint: Hash of the contents, for data that only its user knows; else None.
    """

    num_classes: int
    channels: int
    image_size: int
    num_train: int
    num_val: int
    num_test: int
    fingerprint: str | None = None


def _cifar(*, num_classes: int) -> DataInfo:
    return DataInfo(
        num_classes=num_classes,
        channels=3,
        image_size=32,
        num_train=45_000,
        num_val=5_000,
        num_test=10_000,
    )


#: An ``image_folder`` is described from disk (:mod:`samsweep.data.folder_tree`), hence None.
DATASETS: Mapping[str, DataInfo | None] = {
    "digits": DataInfo(
        num_classes=10, channels=1, image_size=8, num_train=898, num_val=180, num_test=719
    ),
    "cifar10": _cifar(num_classes=10),
    "cifar100": _cifar(num_classes=100),
    "image_folder": None,
}

#: The torch optimizers that can sit underneath, with the keys that each uses beside
#: ``lr`` and ``weight_decay``.
BASES: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adam": (),
    "adamw": (),
    "rmsprop": ("momentum",),
}


@dataclass(frozen=True, kw_only=True)
class MeasureInfo:
    """What is known of a measure of flatness without taking it.

    Args:
        label: For people.
        settings: The keys of :class:`SharpnessConfig` that decide its value, with dots where one of
            a section does; of those that are left out, other values give the same measurement.
        headline: The entry of its result that tables show; None where only a figure can.
    """

    label: str
    settings: tuple[str, ...]
    headline: str | None = None


#: Which images and weights: these decide every measure's value.
_FIXED = ("num_examples", "weights")
_DRAWN = (*_FIXED, "seed")
_EIGEN = (*_DRAWN, "tolerance", "max_hvps")
_ASCENT = ("worst_case.num_steps", "worst_case.batch_size")


def _eigenvalue(name: str, label: str) -> MeasureInfo:
    return MeasureInfo(label=label, settings=_EIGEN, headline=name)


def _trace(name: str, label: str) -> MeasureInfo:
    return MeasureInfo(label=label, settings=(*_DRAWN, "trace"), headline=name)


def _worst_case(name: str, rho: str, label: str) -> MeasureInfo:
    settings = (*_FIXED, f"worst_case.{rho}", *_ASCENT)
    return MeasureInfo(label=label, settings=settings, headline=name)


def _average_case(name: str, rho: str, label: str) -> MeasureInfo:
    settings = (*_DRAWN, f"average_case.{rho}", "average_case.num_samples")
    return MeasureInfo(label=label, settings=settings, headline=name)


def _landscape(num_points: str, label: str) -> MeasureInfo:
    settings = (*_DRAWN, "landscape.radius", f"landscape.{num_points}")
    return MeasureInfo(label=label, settings=settings)


#: Measures of flatness, in the order of the tables. L is the mean loss over the fixed examples, H
#: its Hessian, d the number of parameters, D = diag(abs(w)).
MEASURES: Mapping[str, MeasureInfo] = {
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
    "sam_gap": MeasureInfo(label="SAM gap", settings=(*_FIXED, "sam_gap"), headline="sam_gap"),
    "spectral_density": MeasureInfo(
        label="spectral density", settings=(*_DRAWN, "spectral_density")
    ),
    "landscape_1d": _landscape("num_points_1d", "landscape, a line"),
    "landscape_2d": _landscape("num_points_2d", "landscape, a plane"),
    "empirical_sam": MeasureInfo(
        label="the study's sharpness",
        settings=("weights", "seed", "tolerance", "max_hvps", "empirical_sam"),
        headline="empirical_sam",
    ),
}

#: The (direction, magnitude) corners of the design, by the names of their table rows.
CORNERS: Mapping[tuple[str, str], str] = {
    ("sgd", "sgd"): "sgd",
    ("sam", "sam"): "sam",
    ("sam", "sgd"): "samdirection",
    ("sgd", "sam"): "sammagnitude",
}

#: Names of the optimizer variants, in the order of the tables.
VARIANTS = ("sgd", "sgdhess", "sam", "samdirection", "sammagnitude", "asam")

#: Outcomes and contrasts that a preset may name beforehand. The analysis computes them, above.
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

Source = Literal["sgd", "sam"]
Granularity = Literal["element", "tensor", "global"]
Ascent = Literal["plain", "adaptive"]
Scaled = Literal["weights", "matrices"]
Curvature = Literal["hutchinson", "gauss_newton", "exact"]
LrSchedule = Literal["cosine_per_step", "cosine_per_epoch", "constant"]
Precision = Literal["float32", "bfloat16"]


# --------------------------------------------------------------------------- field types

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


def _one_of(kind: str, choices: Iterable[str]) -> AfterValidator:
    valid = tuple(choices)

    def check(name: str) -> str:
        if name not in valid:
            raise ValueError(unknown_name(kind, name, valid))
        return name

    return AfterValidator(check)


def _some_of(kind: str, choices: Iterable[str]) -> BeforeValidator:
    """A list of names, each of which is known."""
    valid = tuple(choices)

    def check(names: object) -> tuple[str, ...]:
        listed = _listed(names, f"choose some of {', '.join(valid)}")
        for name in listed:
            if name not in valid:
                raise ValueError(unknown_name(kind, str(name), valid))
        return listed

    return BeforeValidator(check)


def _numbers_from_0(numbers: object) -> tuple[float, ...]:
    """A list of numbers that can be radii."""
    remedy = "choose numbers from 0 on, such as [0.1, 0.2]"
    for number in (listed := _listed(numbers, remedy)):
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not (is_number and 0 <= number < math.inf):
            raise ValueError(f"{number!r} is no radius: {remedy}")
    return listed


def _listed(values: object, remedy: str) -> tuple[Any, ...]:
    """What a list has, at least one value and each once."""
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError(f"should be a list of at least one, in brackets: {remedy}")
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise ValueError(f"{twice[0]} stands there twice: name it once")
    return tuple(values)


ModelName = Annotated[str, _one_of("model", MODELS)]
DatasetName = Annotated[str, _one_of("dataset", DATASETS)]
BaseName = Annotated[str, _one_of("base optimizer", BASES)]
MeasureName = Annotated[str, _one_of("measure", MEASURES)]
OptName = Annotated[str, _one_of("opt", (*VARIANTS, "hybrid"))]

Count = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), _Rounded]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _Rounded]
Probability = Annotated[float, Field(ge=0, le=1), _Rounded]
Momentum = Annotated[float, Field(ge=0, lt=1), _Rounded]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
DeviceName = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
#: A study is a folder's name, never a path.
StudyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


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
            problems = (_sentence(cls, detail, prefix) for detail in error.errors())
            raise ConfigError(*problems) from None


# --------------------------------------------------------------------------- identity


class ModelConfig(Frozen):
    """The network.

    Args:
        name: A key of :data:`MODELS`.
    """

    name: ModelName


class Variant(Frozen):
    """The optimizer variant: which vector is handed to the base optimizer.

    g is the gradient at w, h the gradient of the same mini-batch at w + epsilon. Keys that the
    variant does not use are None, so that equal trainings have equal identities.

    Args:
        name: Row of the tables (:data:`VARIANTS`).
        direction: Where the sign (or unit vector) comes from: ``sgd`` is g, ``sam`` is h.
        magnitude: Where the absolute value (or norm) comes from.
        granularity: What direction and magnitude mean: signs and absolute values of elements,
            or unit vectors and norms of each tensor or of all parameters together.
        rho: Radius of the perturbation; the factor of the curvature term for ``sgdhess``.
        ascent: ``plain`` (Foret et al. 2021) or ``adaptive`` (Kwon et al. 2021).
        eta: Added to abs(w) in the adaptive ascent.
        scaled: What the adaptive ascent scales: ``weights`` is every parameter with that name, as
            in the code of Kwon et al.; None, as all cells had it before there was a choice, only
            tensors of two or more dimensions, which leaves out norm layers.
        curvature: What ``sgdhess`` multiplies g with.
    """

    name: Annotated[str, _one_of("variant", VARIANTS)]
    direction: Source = "sgd"
    magnitude: Source = "sgd"
    granularity: Granularity | None = None
    rho: NonNegative | None = None
    ascent: Ascent | None = None
    eta: NonNegative | None = None
    scaled: Literal["weights"] | None = None
    curvature: Curvature | None = None

    @property
    def perturbs(self) -> bool:
        """Whether a second gradient at w + epsilon is taken."""
        return "sam" in (self.direction, self.magnitude)

    @property
    def compilable(self) -> bool:
        """Whether its steps differentiate once, which a compiled or recorded pass can."""
        return self.curvature is None

    @property
    def formula(self) -> str:
        """The vector handed to the base optimizer, as a formula in g, h and rho."""
        if self.curvature is not None:
            return {
                "hutchinson": "g + rho * abs(H z) * g, z Rademacher",
                "gauss_newton": "g + rho * abs(G z) * g, z Rademacher, G Gauss-Newton",
                "exact": "g + rho * H g",
            }[self.curvature]
        if not self.perturbs:
            return "g"
        ascent = (
            "epsilon = rho * g / ||g||"
            if self.ascent == "plain"
            else f"epsilon = rho * T^2 g / ||T g||, T = abs(w) + eta{self._scaled_tensors}"
        )
        return f"{self._combination}, h = grad(w + epsilon), {ascent}"

    @property
    def scales(self) -> Scaled | None:
        """What the adaptive ascent scales; None without it."""
        if self.ascent != "adaptive":
            return None
        return self.scaled or "matrices"

    @property
    def _scaled_tensors(self) -> str:
        return "" if self.scaled is None else " on weights, 1 elsewhere"

    @property
    def _combination(self) -> str:
        symbol = {"sgd": "g", "sam": "h"}
        a, b = symbol[self.direction], symbol[self.magnitude]
        if a == b:
            return a
        return {
            "element": f"sign({a}) * abs({b})",
            "tensor": f"{a} * ||{b}_t|| / ||{a}_t|| per parameter tensor",
            "global": f"{a} * ||{b}|| / ||{a}||",
        }[self.granularity or "element"]


class AugmentConfig(Frozen):
    """Random changes to training images, each drawn per image.

    Args:
        crop_padding: Zero pixels added on every side before a crop to the image's size.
        flip: Whether to mirror left-right with probability 1/2.
        cutout: Side of the square set to the mean, in pixels; 0 turns it off (DeVries & Taylor
            2017, arXiv 1708.04552).
        cutout_prob: Probability of the cutout; None in the identity of a cell without one.
    """

    crop_padding: NonNegativeInt = 0
    flip: bool = False
    cutout: NonNegativeInt = 0
    cutout_prob: Probability | None = 0.5

    @model_validator(mode="after")
    def _probability_of_a_cutout(self) -> Self:
        if self.cutout and self.cutout_prob is None:
            raise ValueError(f"cutout={self.cutout} needs a cutout_prob between 0 and 1")
        return self

    def used(self) -> AugmentConfig:
        """The same, without the keys that have no effect."""
        return self if self.cutout else self.model_copy(update={"cutout_prob": None})


class DatasetConfig(Frozen):
    """The training images, as far as they decide what is learnt.

    Args:
        name: A key of :data:`DATASETS`.
        augment: Random changes to training images.
        label_noise: Probability with which a training label is redrawn over all classes.
        image_size: Side that an image_folder's images are resized to, in pixels.
        fingerprint: Hash of an image_folder's relative paths and contents.
    """

    name: DatasetName
    augment: AugmentConfig
    label_noise: Probability = 0.0
    image_size: Count | None = None
    fingerprint: str | None = None


class RecipeConfig(Frozen):
    """How the network is trained, whatever the variant.

    Args:
        base: The torch optimizer that takes the step (:data:`BASES`).
        lr: Peak learning rate.
        momentum: Of the base optimizer; None where it has none.
        weight_decay: Of the base optimizer, added after mixing.
        lr_schedule: Cosine to 0 per step or per epoch, or constant.
        epochs: Passes over the training images.
        batch_size: Images per step; the last incomplete batch is dropped.
        precision: Of the forward and backward passes; weights are float32. ``float32`` is as torch
            has it: on a GPU convolutions may use TF32. ``bfloat16`` is autocast.
    """

    base: BaseName
    lr: NonNegative
    momentum: Momentum | None
    weight_decay: NonNegative
    lr_schedule: LrSchedule
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    precision: Precision


class CellConfig(Frozen):
    """One point of the grid; its identity."""

    model: ModelConfig
    variant: Variant
    dataset: DatasetConfig
    recipe: RecipeConfig
    seed: Seed

    def identity(self) -> dict[str, Any]:
        """The identity as plain JSON values, without the keys that are not used."""
        return self.model_dump(mode="json", exclude_none=True)


# --------------------------------------------------------------------------- how a cell runs


class TraceConfig(Frozen):
    """Random probes of ``trace``, ``ggn_trace`` and ``fisher_trace``.

    Args:
        num_samples: Probes. The standard errors of Gauss-Newton's and Fisher's traces fall with
            their square root, that of the Hessian's faster.
    """

    num_samples: Annotated[int, Field(ge=2)]


class SpectralDensityConfig(Frozen):
    """Stochastic Lanczos quadrature.

    Args:
        num_vectors: Random starting vectors.
        num_steps: Lanczos steps from each: nodes of its quadrature.
    """

    num_vectors: Annotated[int, Field(ge=2)]
    num_steps: Annotated[int, Field(ge=2)]


class WorstCaseConfig(Frozen):
    """The balls of the worst-case measures, and the projected gradient ascent in them.

    Args:
        rho_l2: Radius, of the norm of all parameters together.
        rho_linf: Radius, of each parameter.
        adaptive_rho_l2: Radius where each parameter's change counts relative to its size.
        adaptive_rho_linf: Largest relative change of a parameter.
        num_steps: Steps of ascent on each batch.
        batch_size: Images of a batch, m: each has its own worst perturbation.
    """

    rho_l2: Positive
    rho_linf: Positive
    adaptive_rho_l2: Positive
    adaptive_rho_linf: Positive
    num_steps: Count
    batch_size: Count


class AverageCaseConfig(Frozen):
    """Gaussian noise on the parameters.

    Args:
        rho: Its standard deviation.
        adaptive_rho: Its standard deviation relative to each parameter's size.
        num_samples: Draws, the same for every network of one shape.
    """

    rho: Positive
    adaptive_rho: Positive
    num_samples: Annotated[int, Field(ge=2)]


class SamGapConfig(Frozen):
    """One step of SAM's ascent.

    Args:
        rho: Radius.
        batch_size: Images of a batch, each of which has its own ascent.
    """

    rho: Positive
    batch_size: Count


class LandscapeConfig(Frozen):
    """Slices of the loss along random filter-normalised directions.

    Args:
        radius: How far they reach on both sides, in filter norms.
        num_points_1d: Points of the line; odd, so that the weights themselves are one.
        num_points_2d: Points of each side of the plane, odd likewise.
    """

    radius: Positive
    num_points_1d: Annotated[int, Field(ge=3)]
    num_points_2d: Annotated[int, Field(ge=3)]

    @model_validator(mode="after")
    def _odd(self) -> Self:
        for name in ("num_points_1d", "num_points_2d"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(
                    f"{name}={getattr(self, name)}: choose an odd number, so that the weights "
                    "themselves are a point"
                )
        return self


class EmpiricalSamConfig(Frozen):
    """The study's protocol: eigenvalues of single batches of augmented training images.

    Args:
        num_batches: Batches.
        batch_size: Images of each; at most all training images.
        num_eigenvalues: Of each batch's Hessian; those that are positive are averaged.
    """

    num_batches: Count
    batch_size: Count
    num_eigenvalues: Count


class SharpnessConfig(Frozen):
    """What is measured from the final weights.

    The last seven are settings of single measures.

    Args:
        measures: Names from :data:`MEASURES`.
        num_examples: Fixed, un-augmented training images, at most; all when there are fewer.
        weights: ``last`` epoch's or ``best`` validation accuracy's.
        tolerance: Error of each eigenvalue to reach, relative to the largest.
        max_hvps: Hessian-vector products after which what was reached is reported as it is.
        seed: Of everything that is drawn: starting vectors, probes, noise, directions.
        physical_batch_size: Images per micro-batch; changes memory and speed, not the value.
        trace: Of ``trace``, ``ggn_trace`` and ``fisher_trace``.
        spectral_density: Of ``spectral_density``.
        worst_case: Of the four balls.
        average_case: Of ``average_case`` and ``adaptive_average_case``.
        sam_gap: Of ``sam_gap``.
        landscape: Of ``landscape_1d`` and ``landscape_2d``.
        empirical_sam: Of ``empirical_sam``.
    """

    measures: Annotated[tuple[MeasureName, ...], Field(strict=False)]
    num_examples: Count
    weights: Literal["last", "best"]
    tolerance: Positive
    max_hvps: Count
    seed: Seed
    physical_batch_size: Count
    trace: TraceConfig
    spectral_density: SpectralDensityConfig
    worst_case: WorstCaseConfig
    average_case: AverageCaseConfig
    sam_gap: SamGapConfig
    landscape: LandscapeConfig
    empirical_sam: EmpiricalSamConfig

    def fitted(self, num_train: int) -> SharpnessConfig:
        """The same, asking for no more images than there are.

        Args:
            num_train: Training images.
        """
        num_examples = min(self.num_examples, num_train)
        most = {"empirical_sam": num_train, "worst_case": num_examples, "sam_gap": num_examples}
        sections = {}
        for name, number in most.items():
            section = getattr(self, name)
            batch_size = min(section.batch_size, number)
            sections[name] = section.model_copy(update={"batch_size": batch_size})
        return self.model_copy(update={"num_examples": num_examples, **sections})


class TrackingConfig(Frozen):
    """Where progress is reported beside the record.

    Args:
        name: ``none`` or ``wandb``.
        mode: W&B's mode; offline needs neither account nor network.
        project: W&B project.
        entity: W&B team or user; None is the account's default.
    """

    name: Literal["none", "wandb"]
    mode: Literal["offline", "online"] = "offline"
    project: str = "samsweep"
    entity: str | None = None


class CheckpointConfig(Frozen):
    """When a resumable state is written, whichever comes first.

    Args:
        every_steps: Period in optimizer steps; None turns it off.
        every_seconds: Period in seconds; None turns it off.
        keep: Whether checkpoints stay after completion.
    """

    every_steps: Count | None
    every_seconds: Positive | None
    keep: bool


class RunConfig(Frozen):
    """One cell and how it runs here: nothing outside ``cell`` changes what is learnt."""

    cell: CellConfig
    study: StudyName
    data_dir: Path
    data_path: Path | None
    device: DeviceName
    num_threads: Count | None
    # Launches before it was there are read too.
    compile: bool = False
    cuda_graphs: bool = True
    sharpness: SharpnessConfig
    tracking: TrackingConfig
    checkpoint: CheckpointConfig
    diagnostics_every: Count

    @property
    def compiles(self) -> bool:
        """Whether a compiler is asked for, and the variant's steps can be compiled."""
        return self.compile and self.cell.variant.compilable


# --------------------------------------------------------------------------- conf/, key by key


def conf_dir() -> Path:
    """The folder of configurations: inside an installed package, beside one in a checkout."""
    package = Path(__file__).parent
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


class OptOptions(Frozen):
    """An option of the ``opt`` group; ``rho`` and ``granularity`` stand at the top level."""

    name: OptName
    direction: Source = "sgd"
    magnitude: Source = "sgd"
    ascent: Ascent = "plain"
    eta: NonNegative = 0.01
    scaled: Scaled = "weights"
    curvature: Curvature | None = None

    @model_validator(mode="after")
    def _one_transform(self) -> Self:
        if self.name == "sgdhess" and self.curvature is None:
            raise ValueError("sgdhess needs a curvature: hutchinson, gauss_newton or exact")
        if self.curvature is not None and (self.direction, self.magnitude) != ("sgd", "sgd"):
            raise ValueError(
                f"curvature={self.curvature} transforms the plain gradient: "
                "leave direction and magnitude at sgd"
            )
        return self

    def resolve(self, *, rho: float, granularity: Granularity) -> Variant:
        """The variant that these values train, named as in the tables."""
        if self.curvature is not None:
            return Variant(name="sgdhess", rho=rho, curvature=self.curvature)
        corner = CORNERS[self.direction, self.magnitude]
        if corner == "sgd":
            return Variant(name="sgd")
        adaptive = self.ascent == "adaptive"
        return Variant(
            name="asam" if adaptive and corner == "sam" else corner,
            direction=self.direction,
            magnitude=self.magnitude,
            granularity=None if corner == "sam" else granularity,
            rho=rho,
            ascent=self.ascent,
            eta=self.eta if adaptive else None,
            scaled="weights" if adaptive and self.scaled == "weights" else None,
        )


class RecipeOptions(Frozen):
    """A data set's recipe; it only feeds the interpolations of the top-level values."""

    epochs: Count
    batch_size: Count
    lr: NonNegative
    momentum: Momentum
    weight_decay: NonNegative
    lr_schedule: LrSchedule


class DatasetOptions(Frozen):
    """An option of the ``dataset`` group."""

    name: DatasetName
    label_noise: Probability = 0.0
    augment: AugmentConfig
    path: str | None = None
    image_size: Count | None = None
    recipe: RecipeOptions


class Confirmatory(Frozen):
    """The tests that a study names beforehand: every combination of these.

    Args:
        outcomes: Of :data:`OUTCOMES`.
        granularities: Of direction and magnitude.
        rhos: Radii.
        effects: Of :data:`CONTRASTS`.
    """

    outcomes: Annotated[tuple[str, ...], _some_of("outcome", OUTCOMES)]
    granularities: Annotated[
        tuple[Granularity, ...], _some_of("granularity", get_args(Granularity))
    ]
    rhos: Annotated[tuple[NonNegative, ...], BeforeValidator(_numbers_from_0)]
    effects: Annotated[tuple[str, ...], _some_of("effect", CONTRASTS)] = (
        "magnitude_minus_direction",
    )

    @property
    def num_tests(self) -> int:
        """Tests of one model."""
        parts = (self.outcomes, self.granularities, self.rhos, self.effects)
        return math.prod(len(part) for part in parts)


class AnalysisOptions(Frozen):
    """What a preset says of the analysis; no part of any cell's identity."""

    confirmatory: Confirmatory


class Options(Frozen):
    """The composed configuration, flat as the user writes it."""

    model: ModelConfig
    opt: OptOptions
    dataset: DatasetOptions
    sharpness: SharpnessConfig
    tracking: TrackingConfig

    study: StudyName
    seed: Seed
    rho: NonNegative
    granularity: Granularity

    base: BaseName
    lr: NonNegative
    momentum: Momentum
    weight_decay: NonNegative
    lr_schedule: LrSchedule
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    precision: Precision

    device: DeviceName
    num_threads: Count | None
    compile: bool
    cuda_graphs: bool
    data_dir: str
    checkpoint_every_steps: Count | None
    checkpoint_every_seconds: Positive | None
    keep_checkpoints: bool
    diagnostics_every: Count

    dry_run: bool
    fail_fast: bool
    detach: bool
    on_code_change: Literal["warn", "refuse"]
    analysis: AnalysisOptions | None = None

    def resolve(self, info: DataInfo) -> RunConfig:
        """The run that these options ask for.

        Args:
            info: Description of the data set.

        Raises:
            ConfigError: With one sentence for every value that does not fit the data.
        """
        problems = tuple(self._misfits(info))
        if problems:
            raise ConfigError(*problems)
        path = None if self.dataset.path is None else Path(self.dataset.path).absolute()
        return self.run_of(self._cell(info), num_train=info.num_train, data_path=path)

    def run_of(self, cell: CellConfig, *, num_train: int, data_path: Path | None) -> RunConfig:
        """How these options run a cell, whatever they say of what is trained.

        Args:
            cell: What is trained.
            num_train: Training images of its data set.
            data_path: Absolute path of an image_folder's images; None for other data sets.
        """
        return RunConfig(
            cell=cell,
            study=self.study,
            data_dir=Path(self.data_dir).absolute(),
            data_path=data_path,
            device=self.device,
            num_threads=self.num_threads,
            compile=self.compile,
            cuda_graphs=self.cuda_graphs,
            sharpness=self.sharpness.fitted(num_train),
            tracking=self.tracking,
            checkpoint=CheckpointConfig(
                every_steps=self.checkpoint_every_steps,
                every_seconds=self.checkpoint_every_seconds,
                keep=self.keep_checkpoints,
            ),
            diagnostics_every=self.diagnostics_every,
        )

    def _cell(self, info: DataInfo) -> CellConfig:
        return CellConfig(
            model=self.model,
            variant=self.opt.resolve(rho=self.rho, granularity=self.granularity),
            dataset=DatasetConfig(
                name=self.dataset.name,
                augment=self.dataset.augment.used(),
                label_noise=self.dataset.label_noise,
                image_size=self.dataset.image_size,
                fingerprint=info.fingerprint,
            ),
            recipe=RecipeConfig(
                base=self.base,
                lr=self.lr,
                momentum=self.momentum if "momentum" in BASES[self.base] else None,
                weight_decay=self.weight_decay,
                lr_schedule=self.lr_schedule,
                epochs=self.epochs,
                batch_size=self.batch_size,
                precision=self.precision,
            ),
            seed=self.seed,
        )

    def _misfits(self, info: DataInfo) -> Iterable[str]:
        if self.batch_size > info.num_train:
            yield (
                f"batch_size={self.batch_size} is larger than the {info.num_train} training "
                f"images of {self.dataset.name}: choose between 2 and {info.num_train}."
            )
        size = info.image_size
        if self.dataset.augment.cutout > size:
            yield (
                f"dataset.augment.cutout={self.dataset.augment.cutout} is larger than the "
                f"{size}x{size} images of {self.dataset.name}: choose between 0 and {size}."
            )


#: What the keys that have a pattern may be, in words.
_PATTERNS = {
    "study": "a folder name of letters, digits, '.', '_' and '-', not a path",
    "device": "auto, cpu, cuda or cuda:1",
}


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
        message = f"should be {_PATTERNS[key]}"
    return f"{key}={_shown(detail['input'])}: {message}."


def sibling_keys(schema: type[BaseModel], key: str) -> list[str]:
    """Full names of the keys that are valid where the dotted ``key`` is not."""
    *parents, _ = key.split(".")
    fields = schema.model_fields
    for parent in parents:
        inner = fields[parent].annotation if parent in fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        fields = inner.model_fields
    return [".".join([*parents, name]) for name in fields]


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
