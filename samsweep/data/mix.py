"""Changes to a batch that are not samsweep's own crops and flips: policies, mixup and cutmix."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from samsweep.config import AUGMENTATIONS, AugmentConfig, ConfigError
from samsweep.config.factory import bound
from samsweep.data.splits import WHITE
from samsweep.numerics.seeding import derive_seed


def apply_policy(
    images: Tensor, config: AugmentConfig, seed: int, *counters: int, white: int = WHITE
) -> Tensor:
    """Raw images, each changed by the policy as its draws decide.

    Args:
        images: uint8, shape (B, C, H, W).
        config: Names the policy.
        seed: Of the cell.
        counters: What the draws depend on beside it: epoch and step.
        white: Largest value of a pixel; policies know :data:`~samsweep.data.splits.WHITE` alone,
            to which images are scaled for them, and back to whole numbers.

    Raises:
        ConfigError: If the policy gives other types or shapes.
    """
    if config.policy is None:
        return images
    component = AUGMENTATIONS.find(config.policy)
    policy = bound(
        f"dataset.augment.policy={config.policy}",
        component.factory,
        component.with_args(config.policy_args),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "policy", *counters))
        # A policy draws once for what it is given: each image is given alone.
        given = _scaled(images, WHITE / white)
        changed = torch.cat([policy(image) for image in torch.split(given, 1)])
    if changed.dtype != images.dtype or changed.shape != images.shape:
        raise ConfigError(
            f"dataset.augment.policy={config.policy} makes {changed.dtype} of shape "
            f"{tuple(changed.shape)} of images of {images.dtype} and {tuple(images.shape)}: return "
            "images of the same type and shape."
        )
    return _scaled(changed, white / WHITE)


def _scaled(images: Tensor, factor: float) -> Tensor:
    return images if factor == 1 else (images * factor).round().to(images.dtype)


def mix(
    inputs: Tensor,
    labels: Tensor,
    config: AugmentConfig,
    num_classes: int,
    seed: int,
    *counters: int,
) -> tuple[Tensor, Tensor]:
    """Inputs mixed with those of the batch in another order, and labels as shares of classes.

    Mixup (Zhang et al. 2018, arXiv 1710.09412) takes lambda x_i + (1 - lambda) x_j; cutmix (Yun et
    al. 2019, arXiv 1905.04899) cuts a rectangle of x_j into x_i. Lambda is drawn once for a batch.

    Args:
        inputs: Normalised, shape (B, ...); images for cutmix.
        labels: Classes (B,), or values to regress, which are mixed as they are.
        config: Parameters of the Beta distributions.
        num_classes: Number of classes.
        seed: Of the cell.
        counters: What the draws depend on beside it: epoch and step.
    """
    if config.mixup is None and config.cutmix is None:
        return inputs, labels
    draws = np.random.default_rng(derive_seed(seed, "mix", *counters))
    cuts = config.mixup is None or (config.cutmix is not None and draws.random() < 0.5)
    alpha = config.cutmix if cuts else config.mixup
    assert alpha is not None
    share = float(draws.beta(alpha, alpha))
    other = torch.from_numpy(draws.permutation(len(inputs))).to(inputs.device)
    if cuts:
        inputs, share = _cut(inputs, inputs[other], share, draws)
    else:
        inputs = inputs * share + inputs[other] * (1 - share)
    if not labels.is_floating_point():
        labels = one_hot(labels, num_classes).to(inputs.dtype)
    return inputs, labels * share + labels[other] * (1 - share)


def _cut(
    inputs: Tensor, others: Tensor, share: float, draws: np.random.Generator
) -> tuple[Tensor, float]:
    """A rectangle of the other images in these, and the share of the area that is left."""
    height, width = inputs.shape[-2:]
    sides = [round(size * (1 - share) ** 0.5 / 2) for size in (height, width)]
    row, column = int(draws.integers(height)), int(draws.integers(width))
    rows = slice(max(0, row - sides[0]), min(height, row + sides[0]))
    columns = slice(max(0, column - sides[1]), min(width, column + sides[1]))
    mixed = inputs.clone()
    mixed[..., rows, columns] = others[..., rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1.0 - area / (height * width)
