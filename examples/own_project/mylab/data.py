"""Scikit-learn's wines: 178 real ones, 13 numbers each, three classes."""

from typing import Any

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split


def wine() -> dict[str, np.ndarray[Any, Any]]:
    """Standardised by the training examples, of which samsweep sets a tenth aside."""
    x, y = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=71, random_state=0, stratify=y
    )
    mean, std = x_train.mean(axis=0), x_train.std(axis=0)
    return {
        "x_train": (x_train - mean) / std,
        "y_train": y_train,
        "x_test": (x_test - mean) / std,
        "y_test": y_test,
    }
