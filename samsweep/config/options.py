"""``conf/``, key by key: what Hydra composes, and the run that it asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from samsweep.config.cell import (
    AugmentConfig,
    CellConfig,
    DatasetConfig,
    ModelConfig,
    RecipeConfig,
    Variant,
)
from samsweep.config.errors import ConfigError
from samsweep.config.fields import (
    BaseName,
    ContrastName,
    Count,
    DatasetName,
    DeviceName,
    EachOnce,
    Frozen,
    Listed,
    Momentum,
    NonNegative,
    OptName,
    OutcomeName,
    Positive,
    Probability,
    Seed,
    StudyName,
)
from samsweep.config.registry import (
    BASES,
    CORNERS,
    Ascent,
    Curvature,
    DataInfo,
    Granularity,
    LrSchedule,
    Precision,
    Scaled,
    Source,
)
from samsweep.config.run import CheckpointConfig, RunConfig, TrackingConfig
from samsweep.config.sharpness import SharpnessConfig


def conf_dir() -> Path:
    """The folder of configurations: inside an installed package, beside one in a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


class OptOptions(Frozen):
    """An option of the ``opt`` group; ``rho`` and ``granularity`` stand at the top level.

    g is the gradient at w, h the gradient of the same mini-batch at w + epsilon.

    Args:
        name: Of the optimizer, or ``hybrid`` for any combination of the values below.
        direction: Which gradient gives the direction: ``sgd`` is g, ``sam`` is h.
        magnitude: Which gradient gives the magnitude, likewise.
        ascent: How epsilon is found: ``plain`` (Foret et al. 2021) or ``adaptive`` (Kwon et al.
            2021, scaled by the weights).
        eta: Added to abs(w) in the adaptive ascent.
        scaled: What the adaptive ascent scales: ``weights`` is every parameter of that name,
            ``matrices`` leaves out those of norm layers.
        curvature: The estimate D of ``sgdhess``, which steps along g + rho * D * g.
    """

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
    """A data set's recipe: defaults of the values of the same names at the top level.

    Args:
        epochs: Default of ``epochs``.
        batch_size: Default of ``batch_size``.
        lr: Default of ``lr``.
        momentum: Default of ``momentum``.
        weight_decay: Default of ``weight_decay``.
        lr_schedule: Default of ``lr_schedule``.
    """

    epochs: Count
    batch_size: Count
    lr: NonNegative
    momentum: Momentum
    weight_decay: NonNegative
    lr_schedule: LrSchedule


class DatasetOptions(Frozen):
    """An option of the ``dataset`` group.

    Args:
        name: Of the data set.
        label_noise: Probability with which a training label is redrawn over all classes.
        augment: Random changes to training images.
        path: Folder with ``train/<class>/*.png`` and ``test/<class>/*.png``; of ``image_folder``.
        image_size: Side in pixels to which the images of an ``image_folder`` are resized; null
            takes images of one size as they are.
        recipe: Defaults of how a network is trained on it.
    """

    name: DatasetName
    label_noise: Probability = 0.0
    augment: AugmentConfig
    path: str | None = None
    image_size: Count | None = None
    recipe: RecipeOptions


class Confirmatory(Frozen):
    """The tests that a study names beforehand: every combination of these.

    Args:
        outcomes: Outcomes of the confirmatory tests.
        granularities: Granularities of the confirmatory tests.
        rhos: Radii of the confirmatory tests.
        effects: Contrasts of the confirmatory tests.
    """

    outcomes: Annotated[tuple[OutcomeName, ...], Listed, EachOnce]
    granularities: Annotated[tuple[Granularity, ...], Listed, EachOnce]
    rhos: Annotated[tuple[NonNegative, ...], Listed, EachOnce]
    effects: Annotated[tuple[ContrastName, ...], Listed, EachOnce] = ("magnitude_minus_direction",)

    @property
    def num_tests(self) -> int:
        """Tests of one model."""
        parts = (self.outcomes, self.granularities, self.rhos, self.effects)
        return math.prod(len(part) for part in parts)


class AnalysisOptions(Frozen):
    """What a preset fixes of the analysis; no part of any cell's identity.

    Args:
        confirmatory: The tests that a study names beforehand.
    """

    confirmatory: Confirmatory


class Options(Frozen):
    """The composed configuration, flat as the user writes it.

    Args:
        model: The network.
        opt: The optimizer: which vector is handed to the base optimizer.
        dataset: The images, with the recipe that a network is trained by.
        sharpness: What is measured from the trained weights.
        tracking: Where progress is logged beside the record.
        study: Folder of the cells, ``multirun/<study>/cells``.
        seed: Of initialisation, batch order, augmentation and label noise.
        rho: Radius of the perturbation, as a norm of all parameters; ``sgd`` does not use it.
        granularity: What direction and magnitude are taken of: of each ``element`` (sign and
            absolute value), of each ``tensor`` or of the ``global`` gradient (unit vector and
            norm); ``samdirection``, ``sammagnitude`` and ``hybrid`` use it.
        base: The torch optimizer that takes the step.
        lr: Peak learning rate; by default the data set's.
        momentum: Of the base optimizer; by default the data set's.
        weight_decay: Of the base optimizer; by default the data set's.
        lr_schedule: Cosine to 0, lowered at each step or each epoch, or constant; by default the
            data set's.
        epochs: Passes over the training images; by default the data set's.
        batch_size: Images of a step; the last, incomplete batch is dropped. By default the data
            set's.
        precision: Of the forward and backward passes: ``bfloat16`` is autocast; weights stay
            float32.
        device: Where a cell runs; ``auto`` is a GPU if there is one.
        num_threads: CPU threads of one operation; null is all cores, in a sweep a share of them.
        compile: Whether torch.compile makes one graph of both passes.
        cuda_graphs: Whether the kernels of a step on a GPU are recorded and launched at once: the
            same results, sooner.
        data_dir: Folder of downloaded data sets.
        checkpoint_every_steps: Optimizer steps between checkpoints; null is by time alone.
        checkpoint_every_seconds: Seconds between checkpoints; null is by steps alone.
        keep_checkpoints: Whether checkpoints stay once a cell is complete.
        diagnostics_every: Steps between two records of diagnostics of g and h.
        dry_run: Whether to print the plan and what it will cost, and do nothing.
        fail_fast: Whether the first cell that fails ends the sweep.
        detach: Whether to return once everything is submitted to the cluster.
        on_code_change: What a queued job does if the source is no longer what it was submitted
            with: ``warn`` and run, or ``refuse``.
        analysis: The tests that a preset names beforehand (docs/analysis.md).
    """

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
        """How these options run a cell, whatever they have of what is trained.

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
