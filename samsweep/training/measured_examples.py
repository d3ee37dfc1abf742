"""The images on which a trained network is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from samsweep.config import CellConfig, SharpnessConfig
from samsweep.data.augment import augment, draw
from samsweep.data.mix import apply_policy
from samsweep.data.splits import SplitData
from samsweep.numerics.seeding import generator


def measured_examples(
    name: str, settings: SharpnessConfig, cell: CellConfig, data: SplitData
) -> tuple[Tensor, Tensor]:
    """Normalised training images, with the labels that were trained on.

    The measure ``empirical_sam`` takes shuffled and augmented batches, one after the other, every
    other the first ``num_examples`` images as they are. Shapes are (N, C, H, W) and (N,), on the
    data's device or on the CPU.
    """
    if name == "empirical_sam":
        return _augmented_batches(settings, cell, data)
    images, labels = data.train.batch(torch.arange(settings.num_examples))
    return data.normalize(images), labels


def _augmented_batches(
    settings: SharpnessConfig, cell: CellConfig, data: SplitData
) -> tuple[Tensor, Tensor]:
    """Batches as training has them: shuffled anew for every pass over the images."""
    num_batches, batch_size = settings.empirical_sam.num_batches, settings.empirical_sam.batch_size
    per_pass = len(data.train) // batch_size
    draws = generator(settings.seed, "empirical_sam")
    order = torch.cat(
        [
            torch.randperm(len(data.train), generator=draws)[: per_pass * batch_size]
            for _ in range(-(-num_batches // per_pass))
        ]
    )
    batches: list[tuple[Tensor, Tensor]] = []
    for indices in torch.split(order[: num_batches * batch_size], batch_size):
        images, labels = data.train.batch(indices)
        images = apply_policy(
            images, cell.dataset.augment, settings.seed, len(batches), white=data.white
        )
        changes = draw(cell.dataset.augment, len(images), images.shape[-1], draws)
        augmented = augment(images, changes, cell.dataset.augment, data.mean, data.std)
        # Together they may be more than a device holds; a measure moves each when it is due.
        batches.append((augmented.cpu(), labels.cpu()))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return images, labels
