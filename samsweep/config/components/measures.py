"""Measures of flatness."""

from __future__ import annotations

from dataclasses import dataclass

from samsweep.config.registry import Component, Registry


@dataclass(frozen=True, kw_only=True)
class MeasureInfo(Component):
    """A measure of flatness: takes a model, inputs and labels, returns a number or named values.

    Args:
        label: For people.
        settings: The keys of :class:`SharpnessConfig` that decide its value, with dots where one of
            a section does; of those that are left out, other values give the same measurement.
        headline: The entry of its result that tables show; None where only a figure can.
        of_plain_cross_entropy: Whether it is of no other loss.
    """

    label: str = ""
    settings: tuple[str, ...] = ("num_examples", "weights", "seed")
    headline: str | None = None
    of_plain_cross_entropy: bool = False


#: Which images and weights: these decide every measure's value.
_FIXED = ("num_examples", "weights")
_DRAWN = (*_FIXED, "seed")
_EIGEN = (*_DRAWN, "tolerance", "max_hvps")
_ASCENT = ("worst_case.num_steps", "worst_case.batch_size")


def _eigenvalue(name: str, label: str) -> MeasureInfo:
    return MeasureInfo(ours=True, label=label, settings=_EIGEN, headline=name)


def _trace(name: str, label: str, *, of_plain_cross_entropy: bool = False) -> MeasureInfo:
    return MeasureInfo(
        ours=True,
        label=label,
        settings=(*_DRAWN, "trace"),
        headline=name,
        of_plain_cross_entropy=of_plain_cross_entropy,
    )


def _worst_case(name: str, rho: str, label: str) -> MeasureInfo:
    settings = (*_FIXED, f"worst_case.{rho}", *_ASCENT)
    return MeasureInfo(ours=True, label=label, settings=settings, headline=name)


def _average_case(name: str, rho: str, label: str) -> MeasureInfo:
    settings = (*_DRAWN, f"average_case.{rho}", "average_case.num_samples")
    return MeasureInfo(ours=True, label=label, settings=settings, headline=name)


def _landscape(num_points: str, label: str) -> MeasureInfo:
    settings = (*_DRAWN, "landscape.radius", f"landscape.{num_points}")
    return MeasureInfo(ours=True, label=label, settings=settings)


#: Measures of flatness, in the order of the tables. L is the mean loss over the fixed examples, H
#: its Hessian, d the number of parameters, D = diag(abs(w)).
MEASURES = Registry(
    "measure",
    MeasureInfo,
    {
        "lambda_max": _eigenvalue("lambda_max", "lambda_max"),
        "top5": _eigenvalue("lambda_max", "lambda_max"),
        "relative_flatness": _eigenvalue("relative_flatness", "||w||² lambda_max"),
        "adaptive_lambda_max": _eigenvalue("adaptive_lambda_max", "lambda_max of D H D"),
        "trace": _trace("trace", "trace of H"),
        "ggn_trace": _trace(
            "ggn_trace", "trace of the Gauss-Newton matrix", of_plain_cross_entropy=True
        ),
        "fisher_trace": _trace(
            "fisher_trace", "trace of the Fisher matrix", of_plain_cross_entropy=True
        ),
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
        "sam_gap": MeasureInfo(
            ours=True, label="SAM gap", settings=(*_FIXED, "sam_gap"), headline="sam_gap"
        ),
        "spectral_density": MeasureInfo(
            ours=True, label="spectral density", settings=(*_DRAWN, "spectral_density")
        ),
        "landscape_1d": _landscape("num_points_1d", "landscape, a line"),
        "landscape_2d": _landscape("num_points_2d", "landscape, a plane"),
        "empirical_sam": MeasureInfo(
            ours=True,
            label="the study's sharpness",
            settings=("weights", "seed", "tolerance", "max_hvps", "empirical_sam"),
            headline="empirical_sam",
            of_plain_cross_entropy=True,
        ),
    },
)
