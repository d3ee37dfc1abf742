import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from samsweep.config import AugmentConfig
from samsweep.data.augment import Draws, augment, draw
from samsweep.data.splits import normalize

STUDY = AugmentConfig(crop_padding=4, flip=True, cutout=16, cutout_prob=0.5)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_batch(num_images, channels, size):
    shape = (num_images, channels, size, size)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator(1))
    mean = 100 + 10 * torch.arange(channels, dtype=torch.float32)
    std = 50 + 7 * torch.arange(channels, dtype=torch.float32)
    return images, mean, std


def slow_augment(images, draws, config, mean, std):
    """The same, one image and one pixel at a time, written from the definition."""
    size = images.shape[2]
    done = []
    for i, image in enumerate(images):
        if draws.crop_offsets is not None:
            top, left = draws.crop_offsets[i].tolist()
            pad = config.crop_padding
            padded = torch.zeros(len(image), size + 2 * pad, size + 2 * pad, dtype=torch.uint8)
            padded[:, pad : pad + size, pad : pad + size] = image
            image = padded[:, top : top + size, left : left + size]
        if draws.flips is not None and draws.flips[i]:
            image = torch.stack([image[:, :, size - 1 - j] for j in range(size)], dim=2)
        pixels = (image.float() - mean[:, None, None]) / std[:, None, None]
        if draws.cutouts is not None and draws.cutouts[i]:
            assert draws.cutout_corners is not None
            top, left = draws.cutout_corners[i].tolist()
            for row in range(max(top, 0), min(top + config.cutout, size)):
                for column in range(max(left, 0), min(left + config.cutout, size)):
                    pixels[:, row, column] = 0
        done.append(pixels)
    return torch.stack(done)


@given(
    config=st.builds(
        AugmentConfig,
        crop_padding=st.integers(0, 12),
        flip=st.booleans(),
        cutout=st.integers(0, 9),
        cutout_prob=st.sampled_from([0.0, 0.5, 1.0]),
    ),
    shape=st.sampled_from([(5, 1, 8), (5, 2, 9), (5, 3, 17)]),
    seed=st.integers(0, 1000),
)
@example(config=STUDY, shape=(19, 3, 32), seed=0)
def test_equals_one_image_at_a_time(config, shape, seed):
    images, mean, std = random_batch(*shape)
    before = images.clone()
    draws = draw(config, shape[0], shape[2], generator(seed))
    fast = augment(images, draws, config, mean, std)
    assert fast.dtype == torch.float32
    assert torch.equal(fast, slow_augment(images, draws, config, mean, std))
    assert torch.equal(images, before)


def test_nothing_turned_on_only_normalises():
    images, mean, std = random_batch(4, 3, 8)
    state = generator()
    draws = draw(AugmentConfig(), 4, 8, state)
    found = augment(images, draws, AugmentConfig(), mean, std)
    assert torch.equal(found, normalize(images, mean, std))
    assert torch.equal(state.get_state(), generator().get_state())


def test_padding_is_zero_in_raw_pixels():
    config = AugmentConfig(crop_padding=2)
    images, mean, std = random_batch(1, 3, 8)
    draws = Draws(crop_offsets=torch.tensor([[0, 4]]))
    batch = augment(images, draws, config, mean, std)
    black = -mean / std
    assert torch.equal(batch[0, :, 0, 0], black)
    assert torch.equal(batch[0, :, 7, 7], black)
    assert torch.equal(batch[0, :, 2, 0], normalize(images, mean, std)[0, :, 0, 2])


def test_draws_are_reproducible_and_leave_the_global_generator():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two = (draw(STUDY, 256, 32, generator(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("crop_offsets", "flips", "cutouts", "cutout_corners"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    other = draw(STUDY, 256, 32, generator(4))
    assert other.crop_offsets is not None
    assert one.crop_offsets is not None
    assert not torch.equal(other.crop_offsets, one.crop_offsets)


def drawn(**config):
    return draw(AugmentConfig(**config), 20_000, 32, generator())


def assert_uniform(values, number, within):
    for column in values.unbind(1):
        shares = torch.bincount(column) / len(values)
        assert len(shares) == number
        assert (shares - 1 / number).abs().max() < within


@pytest.mark.parametrize(("side", "first"), [(16, -8), (5, -2), (1, 0)])
def test_crops_and_corners_of_cutouts_are_uniform(side, first):
    found = drawn(crop_padding=4, cutout=side)
    assert_uniform(found.crop_offsets, 9, within=0.01)
    assert_uniform(found.cutout_corners - first, 32, within=0.008)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_shares_of_flips_and_cutouts(probability):
    found = drawn(flip=True, cutout=16, cutout_prob=probability)
    assert abs(found.flips.double().mean() - 0.5) < 0.015
    within = 0.015 * (0 < probability < 1) + 1e-12
    assert abs(found.cutouts.double().mean() - probability) < within


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_pixels():
    config = STUDY
    images, mean, std = random_batch(64, 3, 32)
    draws = draw(config, 64, 32, generator())
    on_cpu = augment(images, draws, config, mean, std)
    on_gpu = augment(images.cuda(), draws, config, mean.cuda(), std.cuda())
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-6, atol=1e-6)
