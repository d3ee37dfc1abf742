"""Policies, mixup and cutmix: reproducible draws, and the formulas of their papers."""

import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from samsweep.config import AugmentConfig
from samsweep.data.digits import load_digits
from samsweep.data.mix import apply_policy, mix
from samsweep.numerics.seeding import derive_seed

#: Each image is one number, each number once: what is pasted shows whence it came.
INPUTS = torch.arange(6.0)[:, None, None, None].expand(6, 1, 8, 10)
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.fixture
def images():
    draws = torch.Generator().manual_seed(0)
    return torch.randint(256, (5, 3, 12, 12), dtype=torch.uint8, generator=draws)


@pytest.mark.parametrize(
    ("policy", "theirs"),
    [("randaugment", v2.RandAugment), ("trivialaugment", v2.TrivialAugmentWide)],
)
def test_a_policy_is_torchvisions_on_each_image(images, policy, theirs):
    config = AugmentConfig(policy=policy)
    found = apply_policy(images, config, 7, 1, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(7, "policy", 1, 2))
        transform = theirs()
        expected = torch.stack([transform(image) for image in images])
    assert torch.equal(found, expected)
    assert found.dtype == torch.uint8
    assert not torch.equal(found, images)


@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment"])
def test_a_policys_draws_depend_on_seed_epoch_and_step_alone(images, policy):
    config = AugmentConfig(policy=policy)
    first = apply_policy(images, config, 7, 1, 2)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    before = torch.random.get_rng_state()
    assert torch.equal(apply_policy(images, config, 7, 1, 2), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    for others in ((8, 1, 2), (7, 2, 2), (7, 1, 3)):
        assert not torch.equal(apply_policy(images, config, *others), first)


def test_a_policy_is_given_digits_as_it_knows_images():
    """Inverting is 16 - x of pixels that end at 16, as it is 255 - x of others."""
    digits = load_digits()
    images = digits.train.inputs[:5]
    config = AugmentConfig(policy="torchvision.transforms.v2.RandomInvert", policy_args={"p": 1.0})
    inverted = apply_policy(images, config, 0, 0, 0, white=digits.to("cpu").white)
    assert torch.equal(inverted, 16 - images)
    assert torch.equal(apply_policy(images, config, 0, 0, 0), 255 - images)
    nothing = AugmentConfig(policy="randaugment", policy_args={"num_ops": 0})
    assert torch.equal(apply_policy(images, nothing, 0, 0, 0, white=digits.white), images)


def test_a_policy_draws_for_each_image(images):
    same = images[:1].expand(20, -1, -1, -1)
    found = apply_policy(same, AugmentConfig(policy="trivialaugment"), 0, 0, 0)
    assert len({image.numpy().tobytes() for image in found}) > 10


def test_arguments_of_a_policy(images):
    config = AugmentConfig(policy="randaugment", policy_args={"num_ops": 0})
    assert torch.equal(apply_policy(images, config, 7, 1, 2), images)


@pytest.mark.parametrize("step", range(5))
def test_mixup_is_its_formula(step):
    mixed, labels = mix(INPUTS, LABELS, AugmentConfig(mixup=0.4), 4, 0, 0, step)
    draws = np.random.default_rng(derive_seed(0, "mix", 0, step))
    share, other = draws.beta(0.4, 0.4), torch.from_numpy(draws.permutation(6))
    torch.testing.assert_close(mixed, share * INPUTS + (1 - share) * INPUTS[other])
    one_hot = F.one_hot(LABELS, 4).float()
    torch.testing.assert_close(labels, share * one_hot + (1 - share) * one_hot[other])
    torch.testing.assert_close(labels.sum(1), torch.ones(6))


@pytest.mark.parametrize("step", range(20))
def test_cutmix_shares_labels_by_the_area_that_was_pasted(step):
    mixed, labels = mix(INPUTS, LABELS, AugmentConfig(cutmix=1.0), 4, 0, 0, step)
    one_hot = F.one_hot(LABELS, 4).float()
    for index in range(6):
        pasted = mixed[index, 0] != index
        left = 1 - pasted.float().mean()
        if not pasted.any():
            continue
        (other,) = set(mixed[index, 0][pasted].tolist())
        rows, columns = (pasted.any(dim=axis).nonzero().flatten() for axis in (1, 0))
        box = pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.all()
        expected = left * one_hot[index] + (1 - left) * one_hot[int(other)]
        torch.testing.assert_close(labels[index], expected)


def test_the_pasted_area_is_one_minus_lambda_on_average():
    """Of squares inside the image, whose sides are sqrt(1 - lambda) (Yun et al. 2019)."""
    large = torch.arange(2.0)[:, None, None, None].expand(2, 1, 64, 64)
    for step in range(300):
        draws = np.random.default_rng(derive_seed(0, "mix", 0, step))
        share = draws.beta(1.0, 1.0)
        if list(draws.permutation(2)) == [0, 1]:
            continue
        row, column = draws.integers(64), draws.integers(64)
        half = round(64 * (1 - share) ** 0.5 / 2)
        mixed, _ = mix(large, torch.tensor([0, 1]), AugmentConfig(cutmix=1.0), 2, 0, 0, step)
        if half <= min(row, column) and max(row, column) + half <= 64:
            assert mixed[0].mean().item() == pytest.approx(1 - share, abs=0.03)


def test_with_both_each_batch_has_one_of_them_as_often():
    config, cut = AugmentConfig(mixup=1.0, cutmix=1.0), 0
    for step in range(200):
        mixed, _ = mix(INPUTS, LABELS, config, 4, 0, 0, step)
        cut += bool(torch.equal(mixed, mixed.round()))
    assert 70 < cut < 130


def test_nothing_is_changed_without(images):
    inputs, labels = mix(INPUTS, LABELS, AugmentConfig(), 4, 0, 0, 0)
    assert inputs is INPUTS
    assert labels is LABELS
    assert apply_policy(images, AugmentConfig(), 0) is images


def test_values_to_regress_are_mixed_as_they_are():
    values = torch.linspace(0, 1, 6)
    mixed, labels = mix(INPUTS, values, AugmentConfig(mixup=1.0), 1, 0, 0, 0)
    torch.testing.assert_close(labels, mixed[:, 0, 0, 0] / 5)
