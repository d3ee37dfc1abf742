"""What the tables know of each measure of flatness beside its numbers.

A record may come from another version of the code: a measure that
:data:`~samsweep.config.MEASURES` does not list is shown as what its result says.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from samsweep.config import MEASURES
from samsweep.records.identity import short_hash
from samsweep.records.schema import Measurement

LARGEST = "lambda_max"

#: What each headline number is, in sentences for the legend of its table.
MEANINGS: Mapping[str, str] = {
    "lambda_max": "lambda_max is the largest eigenvalue of the Hessian of the training loss.",
    "relative_flatness": (
        "||w||² lambda_max: the largest eigenvalue of the Hessian H of the training loss, times "
        "the squared norm of all weights."
    ),
    "adaptive_lambda_max": (
        "The largest eigenvalue of D H D, H the Hessian of the training loss and D = diag(abs(w)): "
        "the curvature in relative changes of the weights, which no rescaling changes."
    ),
    "trace": "The trace of the Hessian of the training loss, estimated with random probes.",
    "ggn_trace": (
        "The trace of the Gauss-Newton matrix of the training loss, estimated with random probes."
    ),
    "fisher_trace": (
        "The trace of the Fisher matrix, whose labels are drawn from the network's own "
        "predictions, estimated with random probes."
    ),
    "worst_case_l2": (
        "How far the loss of a batch rises, at most, within rho of the weights (Euclidean norm), "
        "as found by projected gradient ascent; mean over batches, in nats."
    ),
    "worst_case_linf": (
        "How far the loss of a batch rises, at most, where each weight moves by up to rho, as "
        "found by projected gradient ascent; mean over batches, in nats."
    ),
    "adaptive_worst_case_l2": (
        "How far the loss of a batch rises, at most, within rho of the weights, each weight's "
        "change taken relative to its size (Euclidean norm), as found by projected gradient "
        "ascent; mean over batches, in nats."
    ),
    "adaptive_worst_case_linf": (
        "How far the loss of a batch rises, at most, where each weight moves by up to rho times "
        "its size, as found by projected gradient ascent; mean over batches, in nats."
    ),
    "average_case": (
        "How far the loss rises on average under Gaussian noise of standard deviation rho on each "
        "weight, in nats."
    ),
    "adaptive_average_case": (
        "How far the loss rises on average under Gaussian noise on each weight, of standard "
        "deviation rho times the weight's size, in nats."
    ),
    "sam_gap": (
        "The loss of a batch after one step of SAM's ascent of length rho, less the loss before; "
        "mean over batches, in nats."
    ),
    "empirical_sam": (
        "The study's own sharpness: the mean of those of the largest eigenvalues of the Hessians "
        "of single batches of augmented training images that are positive."
    ),
}


def settings_key(measurement: Measurement) -> str:
    """A key of the measure and its settings.

    Raises:
        ValueError: If the settings cannot be written as JSON.
    """
    return f"{measurement.name}-{short_hash(measurement.settings)}"


def gives_largest_eigenvalue(name: str) -> bool:
    """Whether a measure is not known to be of another quantity than the largest eigenvalue."""
    return name not in MEASURES or MEASURES[name].headline == LARGEST


def with_numbers(measurements: pd.DataFrame) -> pd.DataFrame:
    """The measurements that tables show: not those that are known for figures alone."""
    for_figures = [name for name, each in MEASURES.items() if each.ours and each.headline is None]
    return measurements[~measurements["name"].isin(for_figures)]


def of_largest_eigenvalue(measurements: pd.DataFrame) -> pd.DataFrame:
    """The measurements that are not known to be of another quantity than lambda_max."""
    others = [name for name in MEASURES if not gives_largest_eigenvalue(name)]
    others += own_measures(measurements)
    return measurements[~measurements["name"].isin(others)]


def own_measures(measurements: pd.DataFrame) -> list[str]:
    """Names that are not registered here, of measurements that found no largest eigenvalue."""
    unknown = measurements[~measurements["name"].isin(list(MEASURES))]
    of_largest = unknown.loc[unknown["quantity"] == LARGEST, "name"]
    return sorted({str(name) for name in unknown["name"]}.difference(of_largest))
