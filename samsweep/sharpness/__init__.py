"""Measures of flatness of any PyTorch classifier.

>>> from samsweep.sharpness import lambda_max
"""

from samsweep.sharpness.conditions import measuring
from samsweep.sharpness.eigenvalues import Eigenvalues, lambda_max, top_eigenvalues
from samsweep.sharpness.hvp import HVP, BatchLoss, HessianOperator, LossFn, double_backward
from samsweep.sharpness.lanczos import Lanczos, lanczos
from samsweep.sharpness.measure import measure

__all__ = [
    # Measures of a model
    "lambda_max",
    "top_eigenvalues",
    "Eigenvalues",
    # The Hessian as an operator
    "HessianOperator",
    "double_backward",
    "BatchLoss",
    "HVP",
    "LossFn",
    # Eigenvalues of any symmetric operator
    "lanczos",
    "Lanczos",
    # Conditions under which all of it is measured
    "measuring",
    # By name, for a record
    "measure",
]
