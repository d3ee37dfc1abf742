"""What is trained: a cell's identity, by which it is named and found again.

Two equal :class:`CellConfig` are one network, trained once. Keys that an optimizer does not use are
``None`` in it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from samsweep.config.fields import (
    BaseName,
    Count,
    DatasetName,
    Frozen,
    ModelName,
    Momentum,
    NonNegative,
    NonNegativeInt,
    Probability,
    Seed,
    one_of,
)
from samsweep.config.registry import (
    VARIANTS,
    Ascent,
    Curvature,
    Granularity,
    LrSchedule,
    Precision,
    Scaled,
    Source,
)


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

    name: Annotated[str, one_of("variant", VARIANTS)]
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
