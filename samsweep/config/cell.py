"""What is trained: a cell's identity, by which it is named and found again.

Two equal :class:`CellConfig` are one network, trained once. Keys that an optimizer does not use are
``None`` in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from samsweep.config.components import (
    ASCENTS,
    AUGMENTATIONS,
    BASES,
    COMBINATIONS,
    DATASETS,
    DIRECTIONS,
    LOSSES,
    METRICS,
    MODELS,
    OPTIMIZERS,
    RHO_SCHEDULES,
    SCHEDULES,
    VARIANTS,
    WHENS,
    Clip,
    Curvature,
    Granularity,
    Precision,
    Scaled,
    Source,
)
from samsweep.config.fields import (
    Arguments,
    Count,
    Frozen,
    Listed,
    Momentum,
    NonNegative,
    NonNegativeInt,
    Parameters,
    Perturbed,
    Positive,
    Probability,
    Seed,
)
from samsweep.config.registry import Component, Registry


class ModelConfig(Frozen):
    """The network.

    Args:
        name: A key of :data:`MODELS`, or any name beside a ``factory``.
        factory: Path of the callable that makes it.
        args: Its arguments; what only the data know, such as ``num_classes``, is passed beside.
    """

    name: str
    factory: str | None = None
    args: Arguments | None = None


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
        ascent_args: Of an ascent of one's own.
        combination: What makes the vector of g and h, a key of :data:`COMBINATIONS` or a path, in
            place of direction and magnitude.
        combination_args: Its arguments.
        ascent_direction: Along what to ascend, a key of :data:`DIRECTIONS` or a path; None is the
            gradient. This and all below are None where SAM is as it was published.
        ascent_direction_args: Its arguments.
        ascent_steps: Steps of rho / k of the ascent.
        perturb: Which parameters are perturbed; None is all.
        m: Examples of a part of the mini-batch with an epsilon of its own.
        when: At which steps to ascend, a key of :data:`WHENS` or a path; None is always.
        when_args: Its arguments.
        rho_schedule: The radius over time, a key of :data:`RHO_SCHEDULES` or a path.
        rho_schedule_args: Its arguments.
        same_draws: Whether both passes draw the same, dropout's masks among it.
        optimizer: A whole step in place of all of it, a key of :data:`OPTIMIZERS` or a path.
        optimizer_args: Its arguments.
    """

    name: str
    direction: Source = "sgd"
    magnitude: Source = "sgd"
    granularity: Granularity | None = None
    rho: NonNegative | None = None
    ascent: str | None = None
    eta: NonNegative | None = None
    scaled: Literal["weights"] | None = None
    curvature: Curvature | None = None
    ascent_args: Arguments | None = None
    combination: str | None = None
    combination_args: Arguments | None = None
    ascent_direction: str | None = None
    ascent_direction_args: Arguments | None = None
    ascent_steps: Count | None = None
    perturb: Perturbed | None = None
    m: Count | None = None
    when: str | None = None
    when_args: Arguments | None = None
    rho_schedule: str | None = None
    rho_schedule_args: Arguments | None = None
    same_draws: bool | None = None
    optimizer: str | None = None
    optimizer_args: Arguments | None = None

    @property
    def perturbs(self) -> bool:
        """Whether a second gradient at w + epsilon is taken."""
        return "sam" in (self.direction, self.magnitude) or self.combination is not None

    @property
    def compilable(self) -> bool:
        """Whether its steps differentiate once, which a compiled or recorded pass can."""
        return self.curvature is None and self.optimizer is None

    @property
    def departures(self) -> tuple[str, ...]:
        """What it has that plain SAM has not, in words, where its name does not say so."""
        return departures(vars(self))

    @property
    def passes(self) -> float:
        """Gradients that a step takes in the mean, a Hessian-vector product counted as two more.

        Of steps that the gradient decides about an assumption.
        """
        if self.curvature is not None:
            return 3.0
        if not self.perturbs:
            return 1.0
        direction = DIRECTIONS.find(self.ascent_direction or "gradient")
        takes_h = self.combination is None and self.direction == self.magnitude
        looks = self.when == "large_gradient" or bool((self.when_args or {}).get("reuse"))
        if takes_h and not direction.needs_gradient and not looks:
            return 1.0
        share = WHENS.find(self.when or "always").share(self.when_args or {})
        return 1.0 + share * (self.ascent_steps or 1)

    @property
    def args(self) -> tuple[Mapping[str, Any], ...]:
        """The arguments of all its components."""
        given = (
            self.optimizer_args,
            self.combination_args,
            self.ascent_args,
            self.ascent_direction_args,
            self.when_args,
            self.rho_schedule_args,
        )
        return tuple(args for args in given if args)

    @property
    def formula(self) -> str:
        """The vector handed to the base optimizer, as a formula in g, h and rho."""
        if self.optimizer is not None:
            return call_text(self.optimizer, self.optimizer_args)
        if self.curvature is not None:
            return {
                "hutchinson": "g + rho * abs(H z) * g, z Rademacher",
                "gauss_newton": "g + rho * abs(G z) * g, z Rademacher, G Gauss-Newton",
                "exact": "g + rho * H g",
            }[self.curvature]
        if not self.perturbs:
            return "g"
        return ", ".join([self._combination, "h = grad(w + epsilon)", *self._ascent_words])

    @property
    def _ascent_words(self) -> Iterator[str]:
        d = "g" if self.ascent_direction is None else "d"
        own = call_text(self.ascent or "", self.ascent_args)
        epsilon = {
            "plain": f"rho * {d} / ||{d}||",
            "adaptive": f"rho * T^2 {d} / ||T {d}||, T = abs(w) + eta{self._scaled_tensors}",
            "unnormalized": f"rho * {d}",
            "per_tensor": f"rho * {d}_t / ||{d}_t|| per parameter tensor",
        }.get(self.ascent or "plain", own)
        yield f"epsilon = {epsilon}"
        if self.ascent_direction is not None:
            yield f"d = {call_text(self.ascent_direction, self.ascent_direction_args)}"
        if self.ascent_steps is not None:
            yield f"in {self.ascent_steps} steps of rho / {self.ascent_steps}"
        if self.perturb is not None:
            chosen = (self.perturb,) if isinstance(self.perturb, str) else self.perturb
            yield f"of {' '.join(chosen)} alone"
        if self.m is not None:
            yield f"for each {self.m} examples"
        if self.when is not None:
            reuses = self.when == "every" and (self.when_args or {}).get("reuse")
            other = "g and what was new in the last h" if reuses else "g"
            yield f"when {call_text(self.when, self.when_args)}, else {other}"
        if self.rho_schedule is not None:
            yield f"rho {call_text(self.rho_schedule, self.rho_schedule_args)} over time"
        if self.same_draws:
            yield "with the same draws in all passes"

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
        if self.combination is not None:
            return call_text(self.combination, self.combination_args)
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
        policy: Random changes drawn by somebody else before all of these: ``randaugment`` (Cubuk et
            al. 2020, arXiv 1909.13719), ``trivialaugment`` (Müller & Hutter 2021, arXiv 2103.10158)
            or a path.
        policy_args: Its arguments.
        mixup: Parameter of the Beta distribution that two images of a batch, and their labels, are
            mixed with (Zhang et al. 2018, arXiv 1710.09412); null is without.
        cutmix: The same of the area that is cut from the other image (Yun et al. 2019, arXiv
            1905.04899); with both, each batch has one of them.
    """

    crop_padding: NonNegativeInt = 0
    flip: bool = False
    cutout: NonNegativeInt = 0
    cutout_prob: Probability | None = 0.5
    policy: str | None = None
    policy_args: Arguments | None = None
    mixup: Positive | None = None
    cutmix: Positive | None = None

    @model_validator(mode="after")
    def _probability_of_a_cutout(self) -> Self:
        if self.cutout and self.cutout_prob is None:
            raise ValueError(f"cutout={self.cutout} needs a cutout_prob between 0 and 1")
        return self

    def used(self) -> AugmentConfig:
        """The same, without the keys that have no effect."""
        unused = {} if self.cutout else {"cutout_prob": None}
        policy_args = (self.policy_args or None) if self.policy else None
        return self.model_copy(update=unused | {"policy_args": policy_args})

    @property
    def changes_images(self) -> bool:
        """Whether anything is turned on that only images can undergo."""
        return bool(self.crop_padding or self.flip or self.cutout or self.policy or self.cutmix)


class DatasetConfig(Frozen):
    """The training images, as far as they decide what is learnt.

    Args:
        name: A key of :data:`DATASETS`, or any name beside a ``factory``.
        augment: Random changes to training images.
        label_noise: Probability with which a training label is redrawn over all classes.
        image_size: Side that an image_folder's images are resized to, in pixels.
        fingerprint: Hash of the contents of data that only their user knows.
        factory: Path of the callable that loads it.
        args: Its arguments.
        train_fraction: Share of the training examples that is used; None is all of them.
    """

    name: str
    augment: AugmentConfig
    label_noise: Probability = 0.0
    image_size: Count | None = None
    fingerprint: str | None = None
    factory: str | None = None
    args: Arguments | None = None
    train_fraction: Probability | None = None


class GroupConfig(Frozen):
    """A parameter group with values of its own.

    Args:
        params: Its parameters: ``norm_layers``, ``not_norm_layers``, ``biases``, ``no_biases``, or
            patterns of names; those of an earlier group aside.
        lr: Peak learning rate; null is that of all.
        weight_decay: Of the base optimizer; null is that of all.
        rho: Radius: its part of epsilon is scaled by this over ``rho``; null is that of all.
        perturb: Whether it is perturbed.
    """

    params: Parameters
    lr: NonNegative | None = None
    weight_decay: NonNegative | None = None
    rho: NonNegative | None = None
    perturb: bool | None = None


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
        base_args: Further arguments of the base optimizer.
        lr_schedule_args: Arguments of the schedule.
        loss: Of a mini-batch, a key of :data:`LOSSES` or a path; None is the cross-entropy.
        loss_args: Its arguments.
        metric: What a network is scored by; None is the accuracy.
        metric_args: Its arguments.
        label_smoothing: Of the cross-entropy.
        nesterov: Whether sgd's momentum is Nesterov's.
        warmup_epochs: Epochs of linear warm-up before the schedule starts.
        clip_norm: Largest norm of all parameters' gradient together.
        clip: What is clipped: the ``combined`` vector, or the ``gradient`` g (and h) before.
        no_decay_on_norm: Whether norm layers and biases have no weight decay.
        groups: Parameter groups with values of their own.
        ema: Decay of the moving average of the weights, which is what is scored and kept.
    """

    base: str
    lr: NonNegative
    momentum: Momentum | None
    weight_decay: NonNegative
    lr_schedule: str
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    precision: Precision
    base_args: Arguments | None = None
    lr_schedule_args: Arguments | None = None
    loss: str | None = None
    loss_args: Arguments | None = None
    metric: str | None = None
    metric_args: Arguments | None = None
    label_smoothing: Probability | None = None
    nesterov: Literal[True] | None = None
    warmup_epochs: Positive | None = None
    clip_norm: Positive | None = None
    clip: Clip | None = None
    no_decay_on_norm: Literal[True] | None = None
    groups: Annotated[tuple[GroupConfig, ...], Listed] | None = None
    ema: Momentum | None = None

    @property
    def uses_plain_loss(self) -> bool:
        """Whether the loss is cross-entropy as it is."""
        return not (self.loss or self.loss_args or self.label_smoothing)


#: The tables of the kinds of components, and the kinds that measuring a trained network needs.
KINDS: Mapping[str, Registry[Any]] = {
    "model": MODELS,
    "dataset": DATASETS,
    "base": BASES,
    "lr_schedule": SCHEDULES,
    "loss": LOSSES,
    "metric": METRICS,
    "policy": AUGMENTATIONS,
    "optimizer": OPTIMIZERS,
    "combination": COMBINATIONS,
    "ascent": ASCENTS,
    "ascent_direction": DIRECTIONS,
    "when": WHENS,
    "rho_schedule": RHO_SCHEDULES,
}
MEASURING = ("model", "dataset", "loss", "policy")


class CellConfig(Frozen):
    """One point of the grid; its identity.

    Args:
        model: The network.
        variant: The optimizer variant.
        dataset: The training examples.
        recipe: How it is trained.
        seed: Of initialisation, batch order, augmentation and label noise.
        sources: Version, or fingerprint of the source, of every component that is not samsweep's,
            by its kind.
    """

    model: ModelConfig
    variant: Variant
    dataset: DatasetConfig
    recipe: RecipeConfig
    seed: Seed
    sources: Arguments | None = None

    def components(self, kinds: Collection[str] = KINDS) -> Iterator[tuple[str, Component]]:
        """The components of some kinds that it names, by their kinds.

        Raises:
            ConfigError: If one is not there any more.
        """
        for kind, name, factory in self._named(kinds):
            yield kind, KINDS[kind].find(name, factory)

    def names(self, kinds: Collection[str] = KINDS) -> Iterator[str]:
        """What stands for these components: names, or paths where they are made by those."""
        yield from (factory or name for _, name, factory in self._named(kinds))

    def _named(self, kinds: Collection[str]) -> Iterator[tuple[str, str, str | None]]:
        """Kind, name and factory of each component of these kinds."""
        variant, recipe = self.variant, self.recipe
        named = {
            "model": self.model.name,
            "dataset": self.dataset.name,
            "base": recipe.base,
            "lr_schedule": recipe.lr_schedule,
            "loss": recipe.loss,
            "metric": recipe.metric,
            "policy": self.dataset.augment.policy,
            "optimizer": variant.optimizer,
            "combination": variant.combination,
            "ascent": variant.ascent,
            "ascent_direction": variant.ascent_direction,
            "when": variant.when,
            "rho_schedule": variant.rho_schedule,
        }
        factories = {"model": self.model.factory, "dataset": self.dataset.factory}
        for kind, name in named.items():
            if name is not None and kind in kinds:
                yield kind, name, factories.get(kind)

    def sources_now(self, kinds: Collection[str] = KINDS) -> dict[str, str]:
        """What :attr:`sources` would be of these components as they are here and now.

        Raises:
            ConfigError: If one is not there any more.
        """
        found = ((kind, component.source) for kind, component in self.components(kinds))
        return {kind: source for kind, source in found if source is not None}

    def identity(self) -> dict[str, Any]:
        """The identity as plain JSON values, without the keys that are not used."""
        return self.model_dump(mode="json", exclude_none=True)


#: Fields of a variant that plain SAM is without.
SAM_FAMILY = tuple("ascent_direction ascent_steps perturb m when rho_schedule same_draws".split())


def departures(variant: Mapping[str, Any]) -> tuple[str, ...]:
    """See :attr:`Variant.departures`, of its fields.

    >>> departures({"name": "sam", "when": "every", "when_args": {"steps": 2}})
    ('when every(steps=2)',)
    """
    if variant["name"] not in VARIANTS:
        return ()
    named = [(key, variant.get(key)) for key in SAM_FAMILY]
    return tuple(
        f"{key.replace('_', ' ')} {_shown(value, variant.get(f'{key}_args'))}"
        for key, value in named
        if value is not None
    )


def _shown(value: object, args: Mapping[str, Any] | None) -> str:
    if isinstance(value, str):
        return call_text(value, args)
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def call_text(name: str, args: Mapping[str, Any] | None) -> str:
    """A component with its arguments as people write a call.

    >>> call_text("mylab.rules.half", {"alpha": 0.5})
    'half(alpha=0.5)'
    """
    listed = ", ".join(f"{key}={value}" for key, value in sorted((args or {}).items()))
    short = name.replace(":", ".").rpartition(".")[2]
    return f"{short}({listed})" if listed else short
