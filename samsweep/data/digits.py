"""The embedded data set: scikit-learn's 1,797 real 8x8 images of digits, no download."""

from __future__ import annotations

import torch

from samsweep.config import DATASETS
from samsweep.data.images import ImageData, Split, channel_moments, partition


def load_digits() -> ImageData:
    """898 training, 180 validation and 719 test images of one channel, with clean labels.

    Source: test set of the UCI "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak
    1998), as packaged by scikit-learn. Raw pixels lie between 0 and 16. Mean and standard
    deviation are those of the training images.
    """
    # Imported here: it takes longer than all the rest, and only this data set needs it.
    from sklearn import datasets

    info = DATASETS["digits"]
    assert info is not None
    raw = datasets.load_digits()
    images = torch.from_numpy(raw.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(raw.target).to(torch.int64)
    train, val, test = partition(
        Split(images=images, labels=labels), [info.num_train, info.num_val, info.num_test]
    )
    mean, std = channel_moments(train.images)
    return ImageData(
        train=train, val=val, test=test, mean=mean, std=std, num_classes=info.num_classes
    )
