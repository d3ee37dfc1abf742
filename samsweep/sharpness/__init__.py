"""Measures of flatness of any PyTorch classifier.

>>> from samsweep.sharpness import lambda_max
"""

from samsweep.sharpness.measuring_mode import measuring
from samsweep.sharpness.density import SpectralDensity, spectral_density
from samsweep.sharpness.eigenvalues import (
    Eigenvalues,
    adaptive_lambda_max,
    lambda_max,
    relative_flatness,
    top_eigenvalues,
)
from samsweep.sharpness.empirical_sam import EmpiricalSam, empirical_sam
from samsweep.sharpness.batch_norm_folding import Folding, find_folding
from samsweep.sharpness.hvp import (
    HVP,
    HessianOperator,
    Method,
    double_backward,
    forward_over_reverse,
)
from samsweep.sharpness.lanczos import Lanczos, lanczos, quadrature
from samsweep.sharpness.landscape import Landscape, filter_normalized, landscape
from samsweep.sharpness.measures import measure
from samsweep.sharpness.float64_loss import LossFn
from samsweep.sharpness.objective import BatchLoss, MeanLoss
from samsweep.sharpness.perturbations import average_case, sam_gap, worst_case
from samsweep.sharpness.results import Estimate
from samsweep.sharpness.trace import fisher_trace, ggn_trace, hessian_trace

__all__ = [
    "adaptive_lambda_max",
    # Eigenvalues of a model's Hessian
    "lambda_max",
    "top_eigenvalues",
    "Eigenvalues",
    "spectral_density",
    "SpectralDensity",
    "relative_flatness",
    "empirical_sam",
    "EmpiricalSam",
    # Traces
    "hessian_trace",
    "ggn_trace",
    "fisher_trace",
    # The loss at other weights
    "worst_case",
    "average_case",
    "sam_gap",
    "landscape",
    "Landscape",
    "filter_normalized",
    "Estimate",
    # The loss and its Hessian as an operator
    "MeanLoss",
    "BatchLoss",
    "LossFn",
    "HessianOperator",
    "Method",
    "HVP",
    "double_backward",
    "forward_over_reverse",
    "find_folding",
    "Folding",
    # Eigenvalues of any symmetric operator
    "lanczos",
    "Lanczos",
    "quadrature",
    # Conditions under which all of it is measured
    "measuring",
    # By name, for a record
    "measure",
]
