"""The names that values can have: networks, data sets, base optimizers, variants, measures.

Each is listed here once, free of torch; the layers above look their implementations up by these
names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """A residual network with a CIFAR stem (He et al. 2016, arXiv 1512.03385).

    Args:
        block: Residual block, torchvision's ``BasicBlock`` or ``Bottleneck``.
        depths: Number of blocks of each stage.
        widths: Channels of each stage before the block's expansion.
    """

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WideResNetSpec:
    """A pre-activation wide residual network (Zagoruyko & Komodakis 2016, arXiv 1605.07146).

    Args:
        depth: Number of convolutions, 6n + 4.
        widen_factor: Multiple of the widths 16, 32, 64.
    """

    depth: int
    widen_factor: int


MODELS: Mapping[str, ResNetSpec | WideResNetSpec] = {
    "resnet8": ResNetSpec(block="basic", depths=(1, 1, 1), widths=(16, 32, 64)),
    "resnet20": ResNetSpec(block="basic", depths=(3, 3, 3), widths=(16, 32, 64)),
    "resnet18": ResNetSpec(block="basic", depths=(2, 2, 2, 2), widths=(64, 128, 256, 512)),
    "resnet34": ResNetSpec(block="basic", depths=(3, 4, 6, 3), widths=(64, 128, 256, 512)),
    "resnet50": ResNetSpec(block="bottleneck", depths=(3, 4, 6, 3), widths=(64, 128, 256, 512)),
    "wrn28_10": WideResNetSpec(depth=28, widen_factor=10),
}


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """What is known of a data set without loading it.

    Args:
        num_classes: Number of classes.
        channels: Channels of an image.
        image_size: Height and width in pixels.
        num_train: Training images, without the validation split.
        num_val: Validation images, split off the training set.
        num_test: Test images.
        fingerprint: Hash of the contents, for data that only its user knows; else None.
    """

    num_classes: int
    channels: int
    image_size: int
    num_train: int
    num_val: int
    num_test: int
    fingerprint: str | None = None


def _cifar(*, num_classes: int) -> DataInfo:
    return DataInfo(
        num_classes=num_classes,
        channels=3,
        image_size=32,
        num_train=45_000,
        num_val=5_000,
        num_test=10_000,
    )


#: An ``image_folder`` is described from disk (:mod:`samsweep.data.folder_tree`), hence None.
DATASETS: Mapping[str, DataInfo | None] = {
    "digits": DataInfo(
        num_classes=10, channels=1, image_size=8, num_train=898, num_val=180, num_test=719
    ),
    "cifar10": _cifar(num_classes=10),
    "cifar100": _cifar(num_classes=100),
    "image_folder": None,
}

#: The torch optimizers that can sit underneath, with the keys that each uses beside
#: ``lr`` and ``weight_decay``.
BASES: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adam": (),
    "adamw": (),
    "rmsprop": ("momentum",),
}


@dataclass(frozen=True, kw_only=True)
class MeasureInfo:
    """What is known of a measure of flatness without taking it.

    Args:
        label: For people.
        settings: The keys of :class:`SharpnessConfig` that decide its value, with dots where one of
            a section does; of those that are left out, other values give the same measurement.
        headline: The entry of its result that tables show; None where only a figure can.
    """

    label: str
    settings: tuple[str, ...]
    headline: str | None = None


#: Which images and weights: these decide every measure's value.
_FIXED = ("num_examples", "weights")
_DRAWN = (*_FIXED, "seed")
_EIGEN = (*_DRAWN, "tolerance", "max_hvps")
_ASCENT = ("worst_case.num_steps", "worst_case.batch_size")


def _eigenvalue(name: str, label: str) -> MeasureInfo:
    return MeasureInfo(label=label, settings=_EIGEN, headline=name)


def _trace(name: str, label: str) -> MeasureInfo:
    return MeasureInfo(label=label, settings=(*_DRAWN, "trace"), headline=name)


def _worst_case(name: str, rho: str, label: str) -> MeasureInfo:
    settings = (*_FIXED, f"worst_case.{rho}", *_ASCENT)
    return MeasureInfo(label=label, settings=settings, headline=name)


def _average_case(name: str, rho: str, label: str) -> MeasureInfo:
    settings = (*_DRAWN, f"average_case.{rho}", "average_case.num_samples")
    return MeasureInfo(label=label, settings=settings, headline=name)


def _landscape(num_points: str, label: str) -> MeasureInfo:
    settings = (*_DRAWN, "landscape.radius", f"landscape.{num_points}")
    return MeasureInfo(label=label, settings=settings)


#: Measures of flatness, in the order of the tables. L is the mean loss over the fixed examples, H
#: its Hessian, d the number of parameters, D = diag(abs(w)).
MEASURES: Mapping[str, MeasureInfo] = {
    "lambda_max": _eigenvalue("lambda_max", "lambda_max"),
    "top5": _eigenvalue("lambda_max", "lambda_max"),
    "relative_flatness": _eigenvalue("relative_flatness", "||w||² lambda_max"),
    "adaptive_lambda_max": _eigenvalue("adaptive_lambda_max", "lambda_max of D H D"),
    "trace": _trace("trace", "trace of H"),
    "ggn_trace": _trace("ggn_trace", "trace of the Gauss-Newton matrix"),
    "fisher_trace": _trace("fisher_trace", "trace of the Fisher matrix"),
    "worst_case_l2": _worst_case("worst_case_l2", "rho_l2", "worst case in an l2 ball"),
    "worst_case_linf": _worst_case("worst_case_linf", "rho_linf", "worst case in an linf ball"),
    "adaptive_worst_case_l2": _worst_case(
        "adaptive_worst_case_l2", "adaptive_rho_l2", "worst case in an adaptive l2 ball"
    ),
    "adaptive_worst_case_linf": _worst_case(
        "adaptive_worst_case_linf", "adaptive_rho_linf", "worst case in an adaptive linf ball"
    ),
    "average_case": _average_case("average_case", "rho", "average case"),
    "adaptive_average_case": _average_case(
        "adaptive_average_case", "adaptive_rho", "adaptive average case"
    ),
    "sam_gap": MeasureInfo(label="SAM gap", settings=(*_FIXED, "sam_gap"), headline="sam_gap"),
    "spectral_density": MeasureInfo(
        label="spectral density", settings=(*_DRAWN, "spectral_density")
    ),
    "landscape_1d": _landscape("num_points_1d", "landscape, a line"),
    "landscape_2d": _landscape("num_points_2d", "landscape, a plane"),
    "empirical_sam": MeasureInfo(
        label="the study's sharpness",
        settings=("weights", "seed", "tolerance", "max_hvps", "empirical_sam"),
        headline="empirical_sam",
    ),
}

#: The (direction, magnitude) corners of the design, by the names of their table rows.
CORNERS: Mapping[tuple[str, str], str] = {
    ("sgd", "sgd"): "sgd",
    ("sam", "sam"): "sam",
    ("sam", "sgd"): "samdirection",
    ("sgd", "sam"): "sammagnitude",
}

#: Names of the optimizer variants, in the order of the tables.
VARIANTS = ("sgd", "sgdhess", "sam", "samdirection", "sammagnitude", "asam")

#: Outcomes and contrasts that a preset may name beforehand; the analysis computes them.
OUTCOMES = (
    "test_accuracy",
    "best_test_accuracy",
    "log_lambda_max",
    "train_loss",
    "generalization_gap",
    "test_loss",
    "weight_norm",
)
CONTRASTS = (
    "magnitude_minus_direction",
    "direction",
    "magnitude",
    "interaction",
    "direction_at_sgd_magnitude",
    "direction_at_sam_magnitude",
    "magnitude_at_sgd_direction",
    "magnitude_at_sam_direction",
)

Source = Literal["sgd", "sam"]
Granularity = Literal["element", "tensor", "global"]
Ascent = Literal["plain", "adaptive"]
Scaled = Literal["weights", "matrices"]
Curvature = Literal["hutchinson", "gauss_newton", "exact"]
LrSchedule = Literal["cosine_per_step", "cosine_per_epoch", "constant"]
Precision = Literal["float32", "bfloat16"]
