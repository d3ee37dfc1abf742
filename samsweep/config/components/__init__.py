"""What samsweep itself has of each kind, free of torch: names, factories, facts for planning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samsweep.config.components.datasets import (
    DATASETS,
    DataInfo,
    DatasetComponent,
    known_to_models,
)
from samsweep.config.components.measures import (
    MEASURES,
    MeasureInfo,
)
from samsweep.config.components.models import MODELS
from samsweep.config.components.optimizers import (
    ASCENTS,
    BASES,
    BaseComponent,
    COMBINATIONS,
    CORNERS,
    Curvature,
    DIRECTIONS,
    DirectionComponent,
    FAMILY,
    Granularity,
    OPTIMIZERS,
    PARAMETERS,
    RHO_SCHEDULES,
    Scaled,
    Source,
    VARIANTS,
    WHENS,
    WhenComponent,
)
from samsweep.config.components.training import (
    AUGMENTATIONS,
    Clip,
    LOSSES,
    METRICS,
    MetricComponent,
    PRUNERS,
    Precision,
    PrunerComponent,
    SCHEDULES,
    ScheduleComponent,
    TRACKERS,
)
from samsweep.config.registry import Registry

__all__ = [
    "REGISTRIES",
    "ASCENTS",
    "AUGMENTATIONS",
    "BASES",
    "BaseComponent",
    "COMBINATIONS",
    "CORNERS",
    "Clip",
    "Curvature",
    "DATASETS",
    "DIRECTIONS",
    "DataInfo",
    "DatasetComponent",
    "DirectionComponent",
    "FAMILY",
    "Granularity",
    "LOSSES",
    "MEASURES",
    "METRICS",
    "MODELS",
    "MeasureInfo",
    "MetricComponent",
    "OPTIMIZERS",
    "PARAMETERS",
    "PRUNERS",
    "Precision",
    "PrunerComponent",
    "RHO_SCHEDULES",
    "SCHEDULES",
    "Scaled",
    "ScheduleComponent",
    "Source",
    "TRACKERS",
    "VARIANTS",
    "WHENS",
    "WhenComponent",
    "known_to_models",
]

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
