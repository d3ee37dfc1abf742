"""The groups of ``conf/``, one class each: what an option of a group can set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from samsweep.config.cell import SAM_FAMILY, AugmentConfig, ModelConfig, Variant
from samsweep.config.components import (
    ASCENTS,
    COMBINATIONS,
    CORNERS,
    DATASETS,
    DIRECTIONS,
    FAMILY,
    MODELS,
    OPTIMIZERS,
    RHO_SCHEDULES,
    VARIANTS,
    WHENS,
    Curvature,
    Granularity,
    Scaled,
    Source,
)
from samsweep.config.errors import unknown_name
from samsweep.config.fields import (
    NO_ARGUMENTS,
    Arguments,
    AscentName,
    CombinationName,
    Count,
    DirectionName,
    Epochs,
    FactoryPath,
    Frozen,
    ImageSize,
    Momentum,
    NonNegative,
    Perturbed,
    Probability,
    RhoScheduleName,
    ScheduleName,
    WhenName,
)
from samsweep.config.registry import Registry


class ModelOptions(Frozen):
    """An option of the ``model`` group.

    Args:
        factory: Path of a callable that makes the network, such as ``timm.create_model``.
        name: Of the network; beside a factory whatever it is to be called.
        args: Its arguments; what only the data know, such as ``num_classes``, is passed beside.
    """

    factory: FactoryPath | None = None
    name: str
    args: Arguments = NO_ARGUMENTS

    @field_validator("name")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        MODELS.find(name, info.data.get("factory"))
        return name

    def resolve(self) -> ModelConfig:
        """The part of a cell's identity."""
        return ModelConfig(name=self.name, factory=self.factory, args=self.args or None)


#: Values of keys that take no arguments.
_WITHOUT_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "ascent_direction": ("gradient", "last_gradient"),
    "when": ("always",),
    "rho_schedule": ("constant",),
}


class OptOptions(Frozen):
    """An option of the ``opt`` group; ``rho`` and ``granularity`` stand at the top level.

    g is the gradient at w, h the gradient of the same mini-batch at w + epsilon.

    Args:
        factory: Path of a callable that makes a whole optimizer (docs/extending.md).
        combination: What makes the vector of g and h, registered or a path, in place of
            ``direction`` and ``magnitude``.
        name: Of the optimizer, or ``hybrid`` for any combination of the values below; beside a
            factory, a combination, an ascent of one's own or a value below that plain SAM does not
            have whatever it is to be called.
        direction: Which gradient gives the direction: ``sgd`` is g, ``sam`` is h.
        magnitude: Which gradient gives the magnitude, likewise.
        ascent: How epsilon is made of a direction: ``plain`` (Foret et al. 2021, by the norm),
            ``adaptive`` (Kwon et al. 2021, scaled by the weights), ``unnormalized`` (USAM),
            ``unified`` (between it and plain), ``per_tensor``, registered, or a path.
        eta: Added to abs(w) in the adaptive ascent.
        scaled: What the adaptive ascent scales: ``weights`` is every parameter of that name,
            ``matrices`` leaves out those of norm layers.
        curvature: The estimate D of ``sgdhess``, which steps along g + rho * D * g.
        args: Arguments of a whole optimizer.
        combination_args: Arguments of the combination: ``alpha`` of gsam and saner, ``gamma`` of
            wsam.
        ascent_args: Arguments of an ascent: ``share`` of unified, between 0 (USAM) and 1 (SAM).
        ascent_direction: Direction of the perturbation: the ``gradient``, ``random``, the
            ``last_gradient``, the ``momentum`` (MSAM), ``friendly`` (F-SAM), the ``average``
            (VaSSO), registered, or a path.
        ascent_direction_args: Its arguments: ``sign`` of momentum, ``sigma`` and ``decay`` of
            friendly, ``theta`` of average.
        ascent_steps: Ascent steps of rho / k from w to w + epsilon.
        perturb: Which parameters are perturbed: ``all``, ``norm_layers`` (SAM-ON),
            ``not_norm_layers``, ``biases``, ``no_biases``, or a list of patterns of their names.
        m: The m of m-SAM: examples of each part of a mini-batch with a perturbation of its own;
            null is the whole mini-batch.
        when: At which steps w is perturbed; at the others the vector is g: ``always``, ``epochs``,
            ``every`` (k-th step, LookSAM), ``random`` (SS-SAM), ``large_gradient`` (AE-SAM),
            registered, or a path.
        when_args: Its arguments: ``first`` and ``last``, epochs done, of epochs; ``steps`` and
            ``reuse`` of every; ``probability`` of random; ``decay``, ``start`` and ``end`` of
            large_gradient.
        rho_schedule: The radius over time: ``constant``, ``with_lr``, ``cosine``, ``linear``,
            registered, or a path.
        rho_schedule_args: Its arguments: ``end``, what it ends with as a share of rho.
        same_draws: Whether all passes of a step draw the same, dropout's masks among it, and not
            each its own.
        granularity: Of this optimizer; null is the one at the top level.
    """

    factory: FactoryPath | None = None
    combination: CombinationName | None = None
    ascent: AscentName = "plain"
    ascent_direction: DirectionName = "gradient"
    ascent_steps: Count = 1
    perturb: Perturbed = "all"
    m: Count | None = None
    when: WhenName = "always"
    rho_schedule: RhoScheduleName = "constant"
    same_draws: bool = False
    name: str
    direction: Source = "sgd"
    magnitude: Source = "sgd"
    eta: NonNegative = 0.01
    scaled: Scaled = "weights"
    curvature: Curvature | None = None
    args: Arguments = NO_ARGUMENTS
    combination_args: Arguments = NO_ARGUMENTS
    ascent_args: Arguments = NO_ARGUMENTS
    ascent_direction_args: Arguments = NO_ARGUMENTS
    when_args: Arguments = NO_ARGUMENTS
    rho_schedule_args: Arguments = NO_ARGUMENTS
    granularity: Granularity | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        own = info.data.get("factory") or info.data.get("combination")
        differs = any(info.data.get(key) != usual for key, usual in PLAIN_SAM.items())
        if not own and not differs and info.data.get("ascent") in ("plain", "adaptive"):
            valid = (*VARIANTS, "hybrid", *OPTIMIZERS)
            if name not in valid:
                raise ValueError(unknown_name("opt", name, valid))
        return name

    @model_validator(mode="after")
    def _one_transform(self) -> Self:
        if self.name == "sgdhess" and self.curvature is None:
            raise ValueError("sgdhess needs a curvature: hutchinson, gauss_newton or exact")
        for key, usual in {"ascent": ("plain", "adaptive"), **_WITHOUT_ARGUMENTS}.items():
            value = getattr(self, key)
            if getattr(self, f"{key}_args") and value in usual:
                raise ValueError(f"{key}_args have no effect on {key}={value}: leave them out")
        if self.curvature is not None and (self.direction, self.magnitude) != ("sgd", "sgd"):
            raise ValueError(
                f"curvature={self.curvature} transforms the plain gradient: "
                "leave direction and magnitude at sgd"
            )
        return self

    @property
    def is_whole_step(self) -> bool:
        """Whether it is an optimizer of its own, in place of a rule for g and h."""
        return self.factory is not None or self.name in OPTIMIZERS

    @property
    def perturbs(self) -> bool:
        """Whether it takes a gradient at w + epsilon."""
        if self.is_whole_step or self.curvature is not None:
            return False
        return self.combination is not None or "sam" in (self.direction, self.magnitude)

    def resolve(self, *, rho: float, granularity: Granularity) -> Variant:
        """The variant that these values train, named as in the tables."""
        if self.is_whole_step:
            return Variant(
                name=self.name,
                rho=rho,
                optimizer=self.factory or self.name,
                optimizer_args=self.args or None,
            )
        if self.curvature is not None:
            return Variant(name="sgdhess", rho=rho, curvature=self.curvature)
        ascent = self._ascent_values(rho)
        if self.combination is not None:
            return Variant(
                name=self.combination if self._is_ours() else self.name,
                combination=self.combination,
                combination_args=self.combination_args or None,
                **ascent,
            )
        corner = CORNERS[self.direction, self.magnitude]
        if corner == "sgd":
            return Variant(name="sgd")
        return Variant(
            name=self._name_of(corner),
            direction=self.direction,
            magnitude=self.magnitude,
            granularity=None if corner == "sam" else self.granularity or granularity,
            **ascent,
        )

    def _name_of(self, corner: str) -> str:
        """The table row of a corner: by what it trains, whatever the option is called."""
        if not self._is_ours():
            return self.name
        values = {key: getattr(self, key) for key in ("ascent", *PLAIN_SAM)}
        usual = {"ascent": "plain", **PLAIN_SAM}
        departures = {key: value for key, value in values.items() if value != usual[key]}
        if corner != "sam" or len(departures) != 1:
            return "asam" if corner == "sam" and self.ascent == "adaptive" else corner
        ((key, value),) = departures.items()
        if key == "m":
            return "m_sam"
        if key == "ascent_steps":
            return "multi_step_sam"
        if value == "epochs":
            bounds = [name for name in ("first", "last") if self.when_args.get(name)]
            if len(bounds) != 1:
                return corner
            return "late_sam" if bounds == ["first"] else "early_sam"
        return FAMILY.get((key, value), corner) if isinstance(value, str) else corner

    def _is_ours(self) -> bool:
        """Whether every part that it names is samsweep's own."""
        parts: tuple[tuple[Registry[Any], str | None], ...] = (
            (ASCENTS, self.ascent),
            (DIRECTIONS, self.ascent_direction),
            (WHENS, self.when),
            (RHO_SCHEDULES, self.rho_schedule),
            (COMBINATIONS, self.combination),
        )
        return all(name is None or registry.find(name).ours for registry, name in parts)

    def _ascent_values(self, rho: float) -> dict[str, Any]:
        """What is used of how epsilon is found."""
        adaptive = self.ascent == "adaptive"
        return {
            "rho": rho,
            "ascent": self.ascent,
            "eta": self.eta if adaptive else None,
            "scaled": "weights" if adaptive and self.scaled == "weights" else None,
            "ascent_args": self.ascent_args or None,
            **{key: self._unusual(key, usual) for key, usual in PLAIN_SAM.items()},
            **{f"{key}_args": getattr(self, f"{key}_args") or None for key in _WITHOUT_ARGUMENTS},
        }

    def _unusual(self, key: str, usual: object) -> Any:
        """A value that plain SAM does not have, or None."""
        value = getattr(self, key)
        return None if value == usual else value


#: What SAM is as it was published, by the keys of :class:`OptOptions`; other values are its family.
PLAIN_SAM: Mapping[str, Any] = {key: OptOptions.model_fields[key].default for key in SAM_FAMILY}


class RecipeOptions(Frozen):
    """A data set's recipe: defaults of the values of the same names at the top level.

    Args:
        epochs: Default of ``epochs``.
        batch_size: Default of ``batch_size``.
        lr: Default of ``lr``.
        momentum: Default of ``momentum``.
        weight_decay: Default of ``weight_decay``.
        lr_schedule: Default of ``lr_schedule``.
    """

    epochs: Epochs
    batch_size: Count
    lr: NonNegative
    momentum: Momentum
    weight_decay: NonNegative
    lr_schedule: ScheduleName


class DatasetOptions(Frozen):
    """An option of the ``dataset`` group.

    Args:
        name: Of the data set.
        label_noise: Probability with which a training label is redrawn over all classes.
        augment: Random changes to training images.
        factory: Path of a callable that loads the data (docs/extending.md).
        args: Arguments of the data set.
        path: Of the data: for ``image_folder`` a folder with ``train/<class>/*.png`` and
            ``test/<class>/*.png``.
        image_size: Side in pixels to which the images of an ``image_folder`` are resized; null
            takes images of one size as they are.
        train_fraction: Share of the training examples that is used, the same in every cell.
        recipe: Defaults of how a network is trained on it.
    """

    factory: FactoryPath | None = None
    name: str
    args: Arguments = NO_ARGUMENTS
    label_noise: Probability = 0.0
    augment: AugmentConfig = AugmentConfig()
    path: str | None = None
    image_size: ImageSize | None = None
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    recipe: RecipeOptions

    @field_validator("name")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        DATASETS.find(name, info.data.get("factory"))
        return name
