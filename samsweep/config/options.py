"""``conf/``, key by key: what Hydra composes, and the run that it asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from samsweep.config.cell import (
    AugmentConfig,
    CellConfig,
    DatasetConfig,
    ModelConfig,
    RecipeConfig,
    Variant,
)
from samsweep.config.errors import ConfigError, unknown_name
from samsweep.config.fields import (
    NO_ARGUMENTS,
    Arguments,
    AscentName,
    BaseName,
    CombinationName,
    ContrastName,
    Count,
    DeviceName,
    EachOnce,
    FactoryPath,
    Frozen,
    Listed,
    LossName,
    MetricName,
    Momentum,
    NonNegative,
    OutcomeName,
    Positive,
    Probability,
    PrunerName,
    ScheduleName,
    Seed,
    StudyName,
)
from samsweep.config.registry import (
    AUGMENTATIONS,
    BASES,
    CORNERS,
    DATASETS,
    MEASURES,
    MODELS,
    OPTIMIZERS,
    PRUNERS,
    TRACKERS,
    VARIANTS,
    Clip,
    Curvature,
    DataInfo,
    Granularity,
    Precision,
    Scaled,
    Source,
)
from samsweep.config.run import (
    CheckpointConfig,
    OnCodeChange,
    PruningConfig,
    RunConfig,
    TrackingConfig,
)
from samsweep.config.sharpness import SharpnessConfig


def conf_dir() -> Path:
    """The folder of configurations: inside an installed package, beside one in a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "conf"
    return shipped if shipped.is_dir() else package.parent / "conf"


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


class OptOptions(Frozen):
    """An option of the ``opt`` group; ``rho`` and ``granularity`` stand at the top level.

    g is the gradient at w, h the gradient of the same mini-batch at w + epsilon.

    Args:
        factory: Path of a callable that makes a whole optimizer (docs/extending.md).
        combination: What makes the vector of g and h, registered or a path, in place of
            ``direction`` and ``magnitude``.
        name: Of the optimizer, or ``hybrid`` for any combination of the values below; beside a
            factory, a combination or an ascent of one's own whatever it is to be called.
        direction: Which gradient gives the direction: ``sgd`` is g, ``sam`` is h.
        magnitude: Which gradient gives the magnitude, likewise.
        ascent: How epsilon is found: ``plain`` (Foret et al. 2021) or ``adaptive`` (Kwon et al.
            2021, scaled by the weights), registered, or a path.
        eta: Added to abs(w) in the adaptive ascent.
        scaled: What the adaptive ascent scales: ``weights`` is every parameter of that name,
            ``matrices`` leaves out those of norm layers.
        curvature: The estimate D of ``sgdhess``, which steps along g + rho * D * g.
        args: Arguments of a whole optimizer.
        combination_args: Arguments of the combination.
        ascent_args: Arguments of an ascent of one's own.
    """

    factory: FactoryPath | None = None
    combination: CombinationName | None = None
    ascent: AscentName = "plain"
    name: str
    direction: Source = "sgd"
    magnitude: Source = "sgd"
    eta: NonNegative = 0.01
    scaled: Scaled = "weights"
    curvature: Curvature | None = None
    args: Arguments = NO_ARGUMENTS
    combination_args: Arguments = NO_ARGUMENTS
    ascent_args: Arguments = NO_ARGUMENTS

    @field_validator("name")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        own = info.data.get("factory") or info.data.get("combination")
        if not own and info.data.get("ascent") in ("plain", "adaptive"):
            valid = (*VARIANTS, "hybrid", *OPTIMIZERS)
            if name not in valid:
                raise ValueError(unknown_name("opt", name, valid))
        return name

    @model_validator(mode="after")
    def _one_transform(self) -> Self:
        if self.name == "sgdhess" and self.curvature is None:
            raise ValueError("sgdhess needs a curvature: hutchinson, gauss_newton or exact")
        if self.ascent_args and self.ascent in ("plain", "adaptive"):
            raise ValueError(f"ascent_args have no effect on ascent={self.ascent}: leave them out")
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
        climb = self._climb(rho)
        if self.combination is not None:
            return Variant(
                name=self.name,
                combination=self.combination,
                combination_args=self.combination_args or None,
                **climb,
            )
        corner = CORNERS[self.direction, self.magnitude]
        if corner == "sgd":
            return Variant(name="sgd")
        return Variant(
            name=self._name_of(corner),
            direction=self.direction,
            magnitude=self.magnitude,
            granularity=None if corner == "sam" else granularity,
            **climb,
        )

    def _name_of(self, corner: str) -> str:
        """The table row of a corner."""
        if self.ascent not in ("plain", "adaptive"):
            return self.name
        return "asam" if self.ascent == "adaptive" and corner == "sam" else corner

    def _climb(self, rho: float) -> dict[str, Any]:
        """What is used of how epsilon is found."""
        adaptive = self.ascent == "adaptive"
        return {
            "rho": rho,
            "ascent": self.ascent,
            "eta": self.eta if adaptive else None,
            "scaled": "weights" if adaptive and self.scaled == "weights" else None,
            "ascent_args": self.ascent_args or None,
        }


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
    image_size: Count | None = None
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    recipe: RecipeOptions

    @field_validator("name")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        DATASETS.find(name, info.data.get("factory"))
        return name


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
        base: The optimizer that takes the step: any of torch's or of pytorch_optimizer's by its
            name in lower case, registered, or a path.
        base_args: Further arguments of it, ``base_args.betas=[0.9,0.99]``.
        lr: Peak learning rate; by default the data set's.
        momentum: Of the base optimizer; by default the data set's.
        weight_decay: Of the base optimizer; by default the data set's.
        lr_schedule: Cosine to 0, lowered at each step or each epoch, linear to 0, lowered in steps,
            or constant; registered, or a path. By default the data set's.
        lr_schedule_args: Its arguments, ``lr_schedule_args.gamma=0.2``.
        warmup_epochs: Epochs in which the learning rate first rises linearly from 0.
        epochs: Passes over the training images; by default the data set's.
        batch_size: Images of a step; the last, incomplete batch is dropped. By default the data
            set's.
        precision: Of the forward and backward passes: ``bfloat16`` is autocast; weights stay
            float32.
        loss: Of a mini-batch: cross_entropy, mse, registered, or a path.
        loss_args: Its arguments.
        metric: What a network is judged by: accuracy, r2, mae, registered, or a path.
        metric_args: Its arguments.
        label_smoothing: Share of a label that is spread over all classes; of cross_entropy.
        nesterov: Whether momentum is Nesterov's.
        clip_norm: Largest norm of the gradient of all parameters together; null is any.
        clip: What is clipped: the ``combined`` vector that the base optimizer is given, or the
            ``gradient``, g and h each.
        no_decay_on_norm: Whether norm layers and biases have no weight decay.
        ema: Decay per step of the moving average of the weights, which is then what is judged,
            kept and measured; null is the weights themselves.
        plugins: Modules that register components, imported first (docs/extending.md).
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
        pruner: What ends a cell after an epoch if it is hopeless beside the other cells of its
            study: a pruner of Optuna's, registered, or a path; null trains every cell to the last
            epoch, pruned ones too.
        pruner_args: Its arguments, ``pruner_args.n_startup_trials=5``; a trial is a cell, a step an
            epoch, from 0.
        dry_run: Whether to print the plan and what it will cost, and do nothing.
        fail_fast: Whether the first cell that fails ends the sweep.
        detach: Whether to return once everything is submitted to the cluster.
        on_code_change: What is done if a queued job's source, or that of a component of one's own,
            is no longer what it was planned with: ``warn`` and run, or ``refuse``.
        analysis: The tests that a preset names beforehand (docs/analysis.md).
    """

    model: ModelOptions
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
    lr_schedule: ScheduleName
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    precision: Precision

    base_args: Arguments = NO_ARGUMENTS
    lr_schedule_args: Arguments = NO_ARGUMENTS
    warmup_epochs: NonNegative = 0.0
    loss: LossName = "cross_entropy"
    loss_args: Arguments = NO_ARGUMENTS
    metric: MetricName = "accuracy"
    metric_args: Arguments = NO_ARGUMENTS
    label_smoothing: Probability = 0.0
    nesterov: bool = False
    clip_norm: Positive | None = None
    clip: Clip = "combined"
    no_decay_on_norm: bool = False
    ema: Momentum | None = None

    plugins: Annotated[tuple[str, ...], Listed] = ()

    device: DeviceName
    num_threads: Count | None
    compile: bool
    cuda_graphs: bool
    data_dir: str
    checkpoint_every_steps: Count | None
    checkpoint_every_seconds: Positive | None
    keep_checkpoints: bool
    diagnostics_every: Count
    pruner: PrunerName | None = None
    pruner_args: Arguments = NO_ARGUMENTS

    dry_run: bool
    fail_fast: bool
    detach: bool
    on_code_change: OnCodeChange
    analysis: AnalysisOptions | None = None

    @model_validator(mode="after")
    def _names(self) -> Self:
        """Names in classes that records hold too, which are read whatever is registered."""
        for name in self.sharpness.measures:
            MEASURES.find(name)
        TRACKERS.find(self.tracking.name, self.tracking.factory)
        if self.dataset.augment.policy is not None:
            AUGMENTATIONS.find(self.dataset.augment.policy)
        return self

    @model_validator(mode="after")
    def _can_prune(self) -> Self:
        if self.pruner is None and self.pruner_args:
            raise ValueError(
                f"pruner_args ({', '.join(self.pruner_args)}) have no effect without a pruner: set "
                f"one of {', '.join(PRUNERS)}, or leave them out"
            )
        if self.pruner is not None and find_spec("optuna") is None:
            raise ValueError(
                f"pruner={self.pruner} needs Optuna, which is not installed: "
                "pip install 'samsweep[pruning]', or set pruner=null"
            )
        return self

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
            plugins=self.plugins,
            on_code_change=self.on_code_change,
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
            pruning=None
            if self.pruner is None
            else PruningConfig(name=self.pruner, args=self.pruner_args),
            diagnostics_every=self.diagnostics_every,
        )

    def _cell(self, info: DataInfo) -> CellConfig:
        dataset, fraction = self.dataset, self.dataset.train_fraction
        cell = CellConfig(
            model=self.model.resolve(),
            variant=self.opt.resolve(rho=self.rho, granularity=self.granularity),
            dataset=DatasetConfig(
                name=dataset.name,
                augment=dataset.augment.used(),
                label_noise=dataset.label_noise,
                image_size=dataset.image_size,
                fingerprint=info.fingerprint,
                factory=dataset.factory,
                args=dataset.args or None,
                train_fraction=None if fraction == 1.0 else fraction,
            ),
            recipe=self._recipe(),
            seed=self.seed,
        )
        return cell.model_copy(update={"sources": cell.sources_now() or None})

    def _recipe(self) -> RecipeConfig:
        """Values that are not used, or are what all cells once had, are None."""
        base, clips = BASES.find(self.base), self.clip_norm is not None
        return RecipeConfig(
            base=self.base,
            lr=self.lr,
            momentum=self.momentum if base.uses_momentum else None,
            weight_decay=self.weight_decay,
            lr_schedule=self.lr_schedule,
            epochs=self.epochs,
            batch_size=self.batch_size,
            precision=self.precision,
            base_args=self.base_args or None,
            lr_schedule_args=self.lr_schedule_args or None,
            loss=None if self.loss == "cross_entropy" else self.loss,
            loss_args=self.loss_args or None,
            metric=None if self.metric == "accuracy" else self.metric,
            metric_args=self.metric_args or None,
            label_smoothing=self.label_smoothing or None,
            nesterov=True if self.nesterov else None,
            warmup_epochs=self.warmup_epochs or None,
            clip_norm=self.clip_norm,
            clip=self.clip if clips else None,
            no_decay_on_norm=True if self.no_decay_on_norm and self.weight_decay else None,
            ema=self.ema or None,
        )

    def _misfits(self, info: DataInfo) -> Iterable[str]:
        name, augment = self.dataset.name, self.dataset.augment
        if self.batch_size > info.num_train:
            yield (
                f"batch_size={self.batch_size} is larger than the {info.num_train} training "
                f"examples of {name}: choose between 2 and {info.num_train}."
            )
        size = info.image_size
        if size is not None and augment.cutout > size:
            yield (
                f"dataset.augment.cutout={augment.cutout} is larger than the "
                f"{size}x{size} images of {name}: choose between 0 and {size}."
            )
        if augment.changes_images and info.input_dtype != "uint8":
            yield (
                f"dataset.augment: {name} has no raw images (uint8) to change: "
                "turn crop_padding, flip, cutout, policy and cutmix off."
            )
        if augment.mixup and info.input_dtype.startswith("int"):
            yield f"dataset.augment.mixup={augment.mixup}: {name} has ids, which cannot be mixed."
        yield from self._misfits_of_task(info)
        if self.warmup_epochs >= self.epochs:
            yield (
                f"warmup_epochs={self.warmup_epochs:g} leaves nothing of epochs={self.epochs}: "
                f"choose less than {self.epochs}."
            )
        own = ["lr", "weight_decay", *(["nesterov"] if self.base == "sgd" else [])]
        own += ["momentum"] if BASES.find(self.base).uses_momentum else []
        for key, value in self.base_args.items():
            if key in own:
                yield f"base_args.{key}={value}: {key} is a key of its own, set {key}={value}."
        if self.clip_norm is not None and self.clip == "gradient" and self.opt.is_whole_step:
            yield (
                f"clip=gradient: the gradients of opt={self.opt.name} are its own, "
                "choose clip=combined."
            )
        if self.nesterov and not (self.base == "sgd" and self.momentum > 0):
            yield (
                f"nesterov=true needs base=sgd with a momentum, not base={self.base} with "
                f"momentum={self.momentum:g}."
            )

    def _misfits_of_task(self, info: DataInfo) -> Iterable[str]:
        name = self.dataset.name
        if not info.is_classification:
            if self.loss == "cross_entropy" or self.metric == "accuracy":
                yield (
                    f"{name} has values to regress, not classes: set loss=mse metric=r2, or others "
                    "that fit."
                )
            if self.dataset.label_noise:
                yield f"dataset.label_noise={self.dataset.label_noise}: {name} has no classes."
        elif self.loss == "mse" or self.metric in ("r2", "mae"):
            yield (
                f"loss={self.loss} metric={self.metric}: {name} has classes, not values to "
                "regress: set loss=cross_entropy metric=accuracy, or others that fit."
            )
        if "label_smoothing" in self.loss_args:
            value = self.loss_args["label_smoothing"]
            yield (
                f"loss_args.label_smoothing={value}: label_smoothing is a key of its own, "
                f"set label_smoothing={value}."
            )
        if self.loss != "cross_entropy" and self.label_smoothing:
            yield (
                f"label_smoothing={self.label_smoothing} is of loss=cross_entropy: "
                f"leave it out with loss={self.loss}."
            )
