"""What else a training is made of: schedules, losses, metrics, augmentations, trackers, pruners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from samsweep.config.registry import Component, Registry

Precision = Literal["float32", "bfloat16"]
Clip = Literal["combined", "gradient"]


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
    """What a network is scored by: takes outputs and labels of a whole split, returns a number.

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
