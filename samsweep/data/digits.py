"""The embedded data set: scikit-learn's 1,797 real 8x8 images of digits, no download."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samsweep.data.splits import Split, SplitData, from_published


def load_digits() -> SplitData:
    """898 training, 180 validation and 719 test images of one channel, with clean labels.

    Source: test set of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak
    1998), as packaged by scikit-learn. Raw pixels lie between 0 and 16. Mean and standard
    deviation are those of the training images.
    """
    images, labels = _packaged()
    return replace(from_published("digits", Split(inputs=images, labels=labels)), white=16)


def _packaged() -> tuple[Tensor, Tensor]:
    """All images, uint8 (N, 1, 8, 8), and their labels, int64 (N,).

    From scikit-learn's file, since its import takes two thirds as long as torch's.
    """
    spec = find_spec("sklearn")
    assert spec is not None and spec.origin is not None, "scikit-learn is a dependency"
    file = Path(spec.origin).parent / "datasets/data/digits.csv.gz"
    if file.exists():
        table = np.loadtxt(file, delimiter=",")
        pixels, digits = table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    else:  # a version that keeps it elsewhere
        from sklearn import datasets

        bunch = datasets.load_digits()
        pixels, digits = bunch.images, bunch.target
    images = torch.from_numpy(pixels).to(torch.uint8).unsqueeze(1)
    return images, torch.from_numpy(digits).to(torch.int64)
