"""``conf/`` key by key: what Hydra composes, and the run that it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from samsweep.config.analysis import AnalysisOptions
from samsweep.config.cell import CellConfig, DatasetConfig, GroupConfig, RecipeConfig
from samsweep.config.components import (
    AUGMENTATIONS,
    BASES,
    MEASURES,
    PRUNERS,
    TRACKERS,
    Clip,
    DataInfo,
    Granularity,
    Precision,
)
from samsweep.config.conflicts import conflicts_of
from samsweep.config.errors import ConfigError
from samsweep.config.extras import lacking
from samsweep.config.fields import (
    NO_ARGUMENTS,
    Arguments,
    BaseName,
    Count,
    DeviceName,
    Epochs,
    Frozen,
    Listed,
    LossName,
    MetricName,
    Momentum,
    NonNegative,
    Positive,
    Probability,
    PrunerName,
    ScheduleName,
    Seed,
    StudyName,
)
from samsweep.config.groups import DatasetOptions, ModelOptions, OptOptions
from samsweep.config.run import (
    CheckpointConfig,
    OnCodeChange,
    PruningConfig,
    RunConfig,
    TrackingConfig,
)
from samsweep.config.sharpness import SharpnessConfig


def _listed(names: object) -> object:
    """One name as a list of it."""
    return [names] if isinstance(names, str) else names


@contextmanager
def _of_key(key: str) -> Iterator[None]:
    """Say of which key a name is that nothing answers to."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(*(f"{key}: {problem}" for problem in error.problems)) from None


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
        base_args: Further arguments of the base optimizer, ``base_args.betas=[0.9,0.99]``.
        lr: Peak learning rate; by default the data set's.
        momentum: Of the base optimizer; by default the data set's.
        weight_decay: Of the base optimizer; by default the data set's.
        lr_schedule: Cosine to 0, lowered at each step or each epoch, linear to 0, lowered in steps,
            or constant; registered, or a path. By default the data set's.
        lr_schedule_args: Arguments of the schedule: of step ``at``, shares of the epochs, and
            ``gamma``, the factor there.
        warmup_epochs: Epochs in which the learning rate first rises linearly from 0.
        epochs: Passes over the training images; by default the data set's.
        batch_size: Images of a step; the last, incomplete batch is dropped. By default the data
            set's.
        precision: Of the forward and backward passes: ``bfloat16`` is autocast; weights stay
            float32.
        loss: Of a mini-batch: cross_entropy, mse, registered, or a path.
        loss_args: Its arguments.
        metric: What a network is scored by: accuracy, r2, mae, registered, or a path.
        metric_args: Its arguments.
        label_smoothing: Share of a label that is spread over all classes; of cross_entropy.
        nesterov: Whether momentum is Nesterov's.
        clip_norm: Largest norm of the gradient of all parameters together; null is any.
        clip: What is clipped: the ``combined`` vector that the base optimizer is given, or the
            ``gradient``, g and h each.
        no_decay_on_norm: Whether norm layers and biases have no weight decay.
        groups: Parameter groups with values of their own, a list of mappings of ``params`` (names
            as of opt.perturb, or patterns), ``lr``, ``weight_decay``, ``rho`` and ``perturb``.
        ema: Decay per step of the moving average of the weights, which is then what is scored,
            kept and measured; null is the weights themselves.
        plugins: Modules that register components, imported first (docs/extending.md).
        device: Where a cell runs; ``auto`` is a GPU if there is one.
        num_threads: CPU threads of one operation; null is all cores, in a sweep a share of them.
        compile: Whether torch.compile makes one graph of both passes.
        cuda_graphs: Whether the kernels of a step on a GPU are recorded and launched at once: the
            same results, sooner.
        parts_at_once: Parts of ``opt.m`` examples that are one pass, in place of one after the
            other: sooner for small networks, for the memory of as many networks.
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
    epochs: Epochs
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
    groups: Annotated[tuple[GroupConfig, ...], Listed] = ()
    ema: Momentum | None = None

    plugins: Annotated[tuple[str, ...], Listed, BeforeValidator(_listed)] = ()

    device: DeviceName
    num_threads: Count | None
    compile: bool
    cuda_graphs: bool
    parts_at_once: Count = 1
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
        with _of_key("sharpness.measures"):
            for name in self.sharpness.measures:
                MEASURES.find(name)
        TRACKERS.find(self.tracking.name, self.tracking.factory)
        with _of_key("dataset.augment.policy"):
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
        if self.pruner is not None and (told := lacking(f"pruner={self.pruner}", "pruning")):
            raise ValueError(f"{told}, or set pruner=null")
        return self

    @model_validator(mode="after")
    def _can_track(self) -> Self:
        ours = self.tracking.name == "wandb" and self.tracking.factory is None
        if ours and (told := lacking("tracking=wandb", "wandb")):
            raise ValueError(f"{told}, or set tracking=none")
        return self

    def resolve(self, info: DataInfo) -> RunConfig:
        """The run that these options ask for.

        Args:
            info: Description of the data set.

        Raises:
            ConfigError: With one sentence for every value that does not fit the data.
        """
        problems = tuple(conflicts_of(self, info))
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
            parts_at_once=self.parts_at_once,
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
            groups=self._used_groups() or None,
            ema=self.ema or None,
        )

    def _used_groups(self) -> tuple[GroupConfig, ...]:
        """Those that say something, without what the optimizer does not use."""
        unused = () if self.opt.perturbs else ("rho", "perturb")
        groups = [group.model_copy(update=dict.fromkeys(unused)) for group in self.groups]
        return tuple(
            group for group in groups if group.model_dump(exclude_none=True, exclude={"params"})
        )
