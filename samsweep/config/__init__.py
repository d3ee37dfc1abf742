"""The boundary: every value a run can be given, checked once and frozen.

From the outside in: :class:`Options` mirrors ``conf/`` key by key, Hydra composes it;
:meth:`Options.resolve` turns it into a :class:`RunConfig`, how and where one cell runs, around a
:class:`CellConfig`, what is trained. Everything is free of torch, so that planning stays quick.
"""

from samsweep.config.errors import ConfigError, unknown_name
from samsweep.config.analysis import CONTRASTS, OUTCOMES, AnalysisOptions, Confirmatory
from samsweep.config.conf_folders import conf_dir
from samsweep.config.components import (
    ASCENTS,
    AUGMENTATIONS,
    BASES,
    COMBINATIONS,
    CORNERS,
    Clip,
    Curvature,
    DATASETS,
    DIRECTIONS,
    DataInfo,
    DatasetComponent,
    Granularity,
    LOSSES,
    MEASURES,
    METRICS,
    MODELS,
    MeasureInfo,
    MetricComponent,
    OPTIMIZERS,
    RHO_SCHEDULES,
    PRUNERS,
    Precision,
    REGISTRIES,
    SCHEDULES,
    ScheduleComponent,
    Source,
    TRACKERS,
    VARIANTS,
    WHENS,
)
from samsweep.config.registry import Component, Registry
from samsweep.config.fields import Count, Frozen, rounded, sibling_keys, with_arguments_added
from samsweep.config.cell import (
    AugmentConfig,
    CellConfig,
    DatasetConfig,
    ModelConfig,
    RecipeConfig,
    Variant,
)
from samsweep.config.sharpness import SharpnessConfig
from samsweep.config.run import CheckpointConfig, PruningConfig, RunConfig, TrackingConfig
from samsweep.config.describe import Key, described
from samsweep.config.groups import OptOptions
from samsweep.config.options import Options

__all__ = [
    "ASCENTS",
    "AUGMENTATIONS",
    "AugmentConfig",
    "BASES",
    "COMBINATIONS",
    "CONTRASTS",
    "CORNERS",
    "CellConfig",
    "CheckpointConfig",
    "Clip",
    "Component",
    "ConfigError",
    "Count",
    "Curvature",
    "DATASETS",
    "DIRECTIONS",
    "DataInfo",
    "DatasetComponent",
    "DatasetConfig",
    "Frozen",
    "Granularity",
    "Key",
    "LOSSES",
    "MEASURES",
    "METRICS",
    "MODELS",
    "MeasureInfo",
    "MetricComponent",
    "ModelConfig",
    "OPTIMIZERS",
    "RHO_SCHEDULES",
    "OUTCOMES",
    "PRUNERS",
    "Precision",
    "PruningConfig",
    "REGISTRIES",
    "RecipeConfig",
    "Registry",
    "RunConfig",
    "SCHEDULES",
    "ScheduleComponent",
    "SharpnessConfig",
    "Source",
    "TRACKERS",
    "TrackingConfig",
    "VARIANTS",
    "WHENS",
    "Variant",
    "described",
    "rounded",
    "sibling_keys",
    "with_arguments_added",
    "unknown_name",
    "AnalysisOptions",
    "Confirmatory",
    "OptOptions",
    "Options",
    "conf_dir",
]
