"""One batch through what may not fit, before a sweep starts: components and arguments of users."""

from __future__ import annotations

import math
import traceback
from pathlib import Path

import torch
from torch import Tensor

from samsweep.config import (
    BASES,
    MEASURES,
    TRACKERS,
    CellConfig,
    ConfigError,
    RunConfig,
    SharpnessConfig,
)
from samsweep.config.factory import prepared
from samsweep.data.dataset_info import describe
from samsweep.data.load import load_dataset
from samsweep.optim import Length, TrainingStep
from samsweep.records.identity import short_hash
from samsweep.records.provenance import code_fingerprint
from samsweep.system.cache import cached_file, keep
from samsweep.training.evaluate import evaluate
from samsweep.training.probe import random_examples
from samsweep.training.trainer import Trainer

#: Examples of the batch; a class or two may be in it, and batch norm needs two.
_NUM_EXAMPLES = 4
#: What makes each measure of ours as cheap as it can be.
_LEAST = {
    "trace": {"num_samples": 2},
    "spectral_density": {"num_vectors": 2, "num_steps": 2},
    "worst_case": {"num_steps": 1},
    "average_case": {"num_samples": 2},
    "landscape": {"num_points_1d": 3, "num_points_2d": 3},
    "empirical_sam": {"num_batches": 1, "num_eigenvalues": 1},
}


def try_out(run: RunConfig) -> None:
    """Take one step and score the network, on random examples of the data's shape.

    What went well is not tried again; nothing is left behind but that.

    Raises:
        ConfigError: With what does not fit.
    """
    if _is_known_to_fit(run):
        return
    identity = run.cell.identity()
    identity["variant"].pop("rho", None)
    tracker = run.tracking.model_dump(mode="json", include={"factory", "name", "args"})
    measures = {name: MEASURES.find(name).source for name in run.sharpness.measures}
    sharpness = run.sharpness.model_dump(mode="json") | {"sources": measures}
    code = code_fingerprint()
    tried = {
        "code": code,
        "cell": identity | {"seed": 0},
        "sharpness": sharpness,
        "tracker": tracker,
    }
    file = cached_file("trials", short_hash(tried))
    if file.exists():
        return
    try:
        _try_out(run)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{_described(run)}: one batch was tried and raised {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}{_place(error)}."
        ) from error
    except SystemExit as ended:
        raise ConfigError(
            f"{_described(run)}: one batch was tried and ended the process ({ended}): raise an "
            "error in place of sys.exit."
        ) from ended
    keep(file, "")


def _is_known_to_fit(run: RunConfig) -> bool:
    """Whether everything is samsweep's own, without arguments of the user."""
    recipe, variant = run.cell.recipe, run.cell.variant
    args = (recipe.base_args, recipe.lr_schedule_args, recipe.loss_args, recipe.metric_args)
    return (
        run.cell.sources is None
        and recipe.base in BASES
        # Arrays may be no images.
        and run.cell.dataset.name != "arrays"
        # Patterns may match none of a network's parameters.
        and variant.perturb is None
        # Batch norm cannot normalise one example.
        and variant.m != 1
        and recipe.groups is None
        and not any((*args, *variant.args, run.cell.model.args, run.cell.dataset.augment.policy))
        and all(MEASURES.find(name).ours for name in run.sharpness.measures)
        and TRACKERS.find(run.tracking.name, run.tracking.factory).ours
    )


def _try_out(run: RunConfig) -> None:
    info = describe(run.cell.dataset, run.data_path)
    if run.cell.sources and "dataset" in run.cell.sources:
        load_dataset(run.cell.dataset, data_dir=run.data_dir, path=run.data_path)
    data = random_examples(info, _batch_size(run.cell))
    cell = run.cell.model_copy(
        update={"recipe": run.cell.recipe.model_copy(update={"batch_size": len(data.train)})}
    )
    trainer = Trainer(cell, data, diagnostics_every=1)
    _check_schedules(cell, trainer)
    trainer.model.eval()
    with torch.no_grad():
        outputs = trainer.model(data.normalize(data.train.inputs))
    _check_outputs(run, outputs, data.train.labels, info.num_outputs)
    score = evaluate(trainer.evaluated, data, data.test, trainer.task)
    trainer.model.train()
    # What follows the base optimizer's state finds it after the first step.
    for _ in range(1 if cell.variant.ascent_direction is None else 2):
        trainer.step = 0
        trainer.take_step(torch.arange(len(data.train)))
    for key, value in (
        (f"metric={cell.recipe.metric or 'accuracy'}", score.accuracy),
        (f"loss={cell.recipe.loss or 'cross_entropy'}", trainer.train_loss),
    ):
        if not math.isfinite(value):
            raise ConfigError(
                f"{_described(run)}: {key} of a batch of random examples is {value}: a number is "
                "wanted, of a network as it starts."
            )
    _try_measures(run, trainer)
    _try_tracker(run)


def _batch_size(cell: CellConfig) -> int:
    """Of the batch that is tried: of m-SAM a whole number of parts."""
    part = cell.variant.m or 1
    return min(part * math.ceil(_NUM_EXAMPLES / part), cell.recipe.batch_size)


def _check_schedules(cell: CellConfig, trainer: Trainer) -> None:
    """At each epoch: one that fails in the middle would fail every cell there."""
    length = Length(1, cell.recipe.epochs)
    radius = getattr(trainer.optimizer, "radius", None)
    for epoch in range(cell.recipe.epochs):
        lr = trainer.learning_rate.at(epoch=epoch, step=0)
        found = {f"lr_schedule={cell.recipe.lr_schedule}": lr}
        if radius is not None:
            share = lr / cell.recipe.lr if cell.recipe.lr else 1.0
            now = TrainingStep(step=epoch, lr_share=share, length=length)
            found[f"opt.rho_schedule={cell.variant.rho_schedule}"] = radius(now)
        for key, value in found.items():
            if not 0 <= value < math.inf:
                raise ConfigError(
                    f"{key} gives {value} in epoch {epoch + 1}: return a finite factor of at "
                    "least 0."
                )


def _try_tracker(run: RunConfig) -> None:
    """Whether it can be made; it is not, since that may begin a run somewhere."""
    tracking = run.tracking
    component = TRACKERS.find(tracking.name, tracking.factory)
    if not component.ours:
        given = component.with_args(tracking.args)
        prepared(
            f"tracking={tracking.name}", component.factory, given, ("config", "record", "folder")
        )


def _place(error: BaseException) -> str:
    """Where a user's own code raised, or called what did: its file and line."""
    own = Path(__file__).parents[1]
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename)
        if "site-packages" not in file.parts and own not in file.parents and file.is_file():
            place = f" ({file}, line {frame.lineno})"
    return place


def _check_outputs(run: RunConfig, outputs: object, labels: Tensor, num_outputs: int) -> None:
    """Only where a plain loss says what outputs have to be."""
    model = f"model={run.cell.model.name}"
    if not isinstance(outputs, Tensor):
        raise ConfigError(f"{model} gives {type(outputs).__name__}: return a tensor of outputs.")
    expected: set[tuple[int, ...]] = {(len(labels), num_outputs)}
    if labels.is_floating_point():
        expected = {tuple(labels.shape), (len(labels), num_outputs)}
    if run.cell.recipe.loss in (None, "mse") and tuple(outputs.shape) not in expected:
        raise ConfigError(
            f"{model} gives outputs of shape {tuple(outputs.shape)} for {len(labels)} examples of "
            f"{run.cell.dataset.name}: return {(len(labels), num_outputs)}."
        )


def _try_measures(run: RunConfig, trainer: Trainer) -> None:
    from samsweep.sharpness.measures import measure

    data = trainer.data
    # Ours may meet a network without second derivatives, or of other outputs: a product tells.
    short = _least(run.sharpness.fitted(len(data.train)))
    for name in run.sharpness.measures:
        measure(
            name,
            short if MEASURES.find(name).ours else run.sharpness,
            trainer.model.eval(),
            data.normalize(data.train.inputs),
            data.train.labels,
            loss_fn=None if run.cell.recipe.uses_plain_loss else trainer.task.loss,
        )


def _least(settings: SharpnessConfig) -> SharpnessConfig:
    sections = {
        name: getattr(settings, name).model_copy(update=values) for name, values in _LEAST.items()
    }
    return settings.model_copy(update={"max_hvps": 2, **sections})


def _described(run: RunConfig) -> str:
    cell = run.cell
    names = [f"model={cell.model.name}", f"opt={cell.variant.name}", f"dataset={cell.dataset.name}"]
    return " ".join(names)
