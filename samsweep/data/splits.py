"""What loading a data set returns: whole splits as tensors, images as raw pixels.

Pixels stay uint8 until a batch is used, a quarter of the memory of float32. Mean and standard
deviation are in the same raw scale as the pixels (0 to 255; 0 to 16 for digits), so that
normalising is one subtraction and one division.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from samsweep.config import DATASETS, DataInfo
from samsweep.config.components import known_to_models
from samsweep.data.arrays import Arrays, info_of
from samsweep.numerics.device_transfer import to_device
from samsweep.numerics.seeding import generator

#: Of the permutation that sets validation images aside: the same in every cell of every study.
SPLIT_SEED = 0

#: Largest value of a pixel, digits aside.
WHITE = 255

#: Images counted at a time, so that a memory-mapped data set is never in memory at once.
_CHUNK = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Examples and their labels.

    Args:
        inputs: Shape (N, ...); of images raw pixels, uint8, shape (N, C, H, W).
        labels: Class indices, int64, shape (N,), or values to regress.
        in_memory: False where ``inputs`` is a view of a file (:mod:`samsweep.data.image_folder`).
            Such inputs stay on the host and only their batches go to the device.
    """

    inputs: Tensor
    labels: Tensor
    in_memory: bool = True

    def __len__(self) -> int:
        """Number of examples N."""
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on a device; inputs that are not in memory stay where they are."""
        inputs = self.inputs.to(device) if self.in_memory else self.inputs
        return Split(inputs=inputs, labels=self.labels.to(device), in_memory=self.in_memory)

    def share(self, fraction: float) -> Split:
        """The first examples, a fraction of all and at least two: each share holds the smaller."""
        number = max(2, round(len(self) * fraction))
        return Split(
            inputs=self.inputs[:number], labels=self.labels[:number], in_memory=self.in_memory
        )

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Some inputs and labels, on the device of the labels.

        Args:
            indices: int64, shape (B,), on any device.

        Returns:
            Inputs of shape (B, ...), images as raw pixels, and labels of shape (B, ...).
        """
        device = self.labels.device
        # Whole examples are copied at a time, which indexing does not.
        inputs = self.inputs.index_select(0, to_device(indices, self.inputs.device))
        return to_device(inputs, device), self.labels.index_select(0, to_device(indices, device))


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitData:
    """A data set, split and with the moments that normalise it.

    Args:
        train: Training examples, without those of ``val``.
        val: Validation examples, with clean labels.
        test: Test examples.
        mean: Per channel, in the raw scale of the pixels, float32, shape (C,); None of what is no
            image, which networks take as it is.
        std: Per channel, in the raw scale of the pixels, float32, shape (C,).
        num_classes: Number of classes, labels lie below it; of values to regress their number.
        num_tokens: Of inputs that are token ids: they lie below it.
        white: Largest value of a pixel, in the raw scale.
    """

    train: Split
    val: Split
    test: Split
    mean: Tensor | None
    std: Tensor | None
    num_classes: int
    num_tokens: int | None = None
    white: int = WHITE

    @property
    def known_to_models(self) -> dict[str, Any]:
        """What only the data know, by the names of a model's parameters."""
        return known_to_models(
            num_outputs=self.num_classes,
            input_shape=tuple(self.train.inputs.shape[1:]),
            num_tokens=self.num_tokens,
        )

    def to(self, device: torch.device | str) -> SplitData:
        """The same data on a device."""
        return replace(
            self,
            **{split: getattr(self, split).to(device) for split in ("train", "val", "test")},
            mean=None if self.mean is None else self.mean.to(device),
            std=None if self.std is None else self.std.to(device),
        )

    def normalize(self, images: Tensor) -> Tensor:
        """Raw pixels as a network takes them, see :func:`normalize`."""
        return normalize(images, self.mean, self.std)


def from_published(
    name: str,
    published: Split,
    test: Split | None = None,
    *,
    moments: tuple[Tensor, Tensor] | None = None,
) -> SplitData:
    """A data set of ``DATASETS`` as splits, of the sizes that stand there.

    Args:
        name: Its key.
        published: Its images; without those of ``test`` if that is given.
        test: Its test images, where they are published as such.
        moments: Mean and standard deviation; None is those of the images that are left.
    """
    info = DATASETS[name].info
    assert isinstance(info, DataInfo)
    if test is None:
        sizes = [info.num_train, info.num_val, info.num_test]
        train, val, test = partition(published, sizes)
    else:
        train, val = partition(published, [info.num_train, info.num_val])
    mean, std = moments or channel_moments(train.inputs)
    return SplitData(
        train=train, val=val, test=test, mean=mean, std=std, num_classes=info.num_outputs
    )


def from_arrays(arrays: Arrays) -> SplitData:
    """Checked arrays as splits; a tenth of the training examples is set aside if none are given."""

    def split(name: str) -> Split:
        inputs, labels = (torch.from_numpy(arrays[f"{axis}_{name}"]) for axis in "xy")
        return Split(inputs=inputs, labels=labels)

    info, given = info_of(arrays), "x_val" in arrays
    # In a random order also where nothing is set aside: the first examples are a sample.
    parts = partition(split("train"), [info.num_train] + [info.num_val] * (not given))
    train, val = (parts[0], split("val")) if given else parts
    is_image = train.inputs.dtype == torch.uint8
    mean, std = channel_moments(train.inputs) if is_image else (None, None)
    return SplitData(
        train=train,
        val=val,
        test=split("test"),
        mean=mean,
        std=std,
        num_classes=info.num_outputs,
        num_tokens=info.num_tokens,
    )


def normalize(images: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
    """(x - mean) / std for each channel, float32, shape (B, C, H, W); without both as it is.

    Args:
        images: Raw pixels, uint8, shape (B, C, H, W).
        mean: Raw scale, float32, shape (C,), on the images' device.
        std: The same.
    """
    if mean is None or std is None:
        return images
    # In place on the fresh float copy: same numbers, without two more of its size.
    return images.float().sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


def channel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) standard deviation of the pixels of each channel.

    They come from counts of the 256 pixel values. Counts are exact, so the result does not depend
    on chunks or threads.

    Args:
        images: Raw pixels on the CPU, uint8, shape (N, C, H, W).

    Returns:
        Mean and standard deviation, float32, shape (C,) each. The standard deviation of a
        constant channel is given as 1, so that normalising turns it into zeros.
    """
    counts = torch.stack([_pixel_counts(images[:, c]) for c in range(images.shape[1])]).double()
    values = torch.arange(256, dtype=torch.float64)
    total = counts.sum(dim=1)
    mean = counts @ values / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(dim=1) / total
    std = torch.where(variance > 0, variance.sqrt(), torch.ones_like(variance))
    return mean.float(), std.float()


def _pixel_counts(channel: Tensor) -> Tensor:
    """How often each pixel value occurs in (N, H, W) pixels, int64, shape (256,)."""
    counts = torch.zeros(256, dtype=torch.int64)
    for chunk in torch.split(channel, _CHUNK):
        counts += torch.bincount(chunk.flatten(), minlength=256)
    return counts


def partition(split: Split, sizes: list[int]) -> list[Split]:
    """Cut all images into disjoint splits of some sizes, in :func:`fixed_permutation`'s order."""
    parts = torch.split(fixed_permutation(len(split)), sizes)
    return [Split(inputs=split.inputs[part], labels=split.labels[part]) for part in parts]


def fixed_permutation(num_images: int) -> Tensor:
    """The order in which a data set is cut into splits, int64, shape (num_images,)."""
    return torch.randperm(num_images, generator=generator(SPLIT_SEED, "split"))
