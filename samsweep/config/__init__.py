"""The boundary: every value a run can be given, checked once and frozen.

From the outside in: :class:`Options` mirrors ``conf/`` key by key, Hydra composes it;
:meth:`Options.resolve` turns it into a :class:`RunConfig`, how and where one cell runs, around a
:class:`CellConfig`, what is trained. Everything is free of torch, so that planning stays quick.
"""

from samsweep.config.errors import ConfigError, unknown_name
from samsweep.config.registry import (
    Ascent,
    CONTRASTS,
    CORNERS,
    Curvature,
    DATASETS,
    DataInfo,
    Granularity,
    MEASURES,
    MODELS,
    OUTCOMES,
    Precision,
    ResNetSpec,
    Source,
    VARIANTS,
    WideResNetSpec,
)
from samsweep.config.fields import Count, Frozen, rounded, sibling_keys
from samsweep.config.cell import (
    AugmentConfig,
    CellConfig,
    DatasetConfig,
    ModelConfig,
    RecipeConfig,
    Variant,
)
from samsweep.config.sharpness import SharpnessConfig
from samsweep.config.run import CheckpointConfig, RunConfig, TrackingConfig
from samsweep.config.describe import Key, described
from samsweep.config.options import AnalysisOptions, Confirmatory, OptOptions, Options, conf_dir

__all__ = [
    "AnalysisOptions",
    "Ascent",
    "AugmentConfig",
    "CONTRASTS",
    "CORNERS",
    "CellConfig",
    "CheckpointConfig",
    "ConfigError",
    "Confirmatory",
    "Count",
    "Curvature",
    "DATASETS",
    "DataInfo",
    "DatasetConfig",
    "Frozen",
    "Granularity",
    "Key",
    "MEASURES",
    "MODELS",
    "OUTCOMES",
    "ModelConfig",
    "OptOptions",
    "Options",
    "Precision",
    "RecipeConfig",
    "ResNetSpec",
    "RunConfig",
    "SharpnessConfig",
    "Source",
    "TrackingConfig",
    "VARIANTS",
    "Variant",
    "WideResNetSpec",
    "conf_dir",
    "described",
    "rounded",
    "sibling_keys",
    "unknown_name",
]
