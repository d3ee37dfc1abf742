import pytest
import torch

from samsweep.data.splits import Split, SplitData, channel_moments, normalize, partition


def random_images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def test_moments_equal_those_of_float64_pixels():
    images = random_images(30, 3, 7, 7)
    mean, std = channel_moments(images)
    pixels = images.double()
    torch.testing.assert_close(mean, pixels.mean(dim=(0, 2, 3)).float())
    torch.testing.assert_close(std, pixels.std(dim=(0, 2, 3), correction=0).float())


def test_moments_do_not_depend_on_chunks(monkeypatch):
    images = random_images(30, 3, 7, 7)
    whole = channel_moments(images)
    monkeypatch.setattr("samsweep.data.splits._CHUNK", 7)
    for a, b in zip(whole, channel_moments(images), strict=True):
        assert torch.equal(a, b)


def test_constant_channel_is_normalised_to_zero():
    images = torch.full((4, 1, 5, 5), 9, dtype=torch.uint8)
    mean, std = channel_moments(images)
    assert std.tolist() == [1.0]
    assert torch.equal(normalize(images, mean, std), torch.zeros(4, 1, 5, 5))


def test_partition_uses_every_image_once_and_keeps_labels_beside_images():
    images = torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1)
    parts = partition(Split(inputs=images, labels=torch.arange(50)), [30, 15, 5])
    assert [len(part) for part in parts] == [30, 15, 5]
    assert sorted(torch.cat([part.labels for part in parts]).tolist()) == list(range(50))
    for part in parts:
        assert torch.equal(part.inputs.flatten().long(), part.labels)


@pytest.mark.parametrize("in_memory", [True, False])
def test_batch_picks_images_and_labels(in_memory):
    images = random_images(10, 1, 4, 4)
    split = Split(inputs=images, labels=torch.arange(10), in_memory=in_memory)
    batch, labels = split.batch(torch.tensor([7, 2]))
    assert torch.equal(batch, images[[7, 2]])
    assert labels.tolist() == [7, 2]


def test_only_labels_of_a_memory_mapped_split_move():
    images = random_images(10, 1, 4, 4)
    held = Split(inputs=images, labels=torch.arange(10)).to("meta")
    mapped = Split(inputs=images, labels=torch.arange(10), in_memory=False).to("meta")
    assert (held.inputs.device.type, held.labels.device.type) == ("meta", "meta")
    assert (mapped.inputs.device.type, mapped.labels.device.type) == ("cpu", "meta")
    assert not mapped.in_memory


def test_data_moves_as_a_whole():
    split = Split(inputs=random_images(2, 1, 4, 4), labels=torch.arange(2))
    moments = torch.ones(1)
    data = SplitData(
        train=split, val=split, test=split, mean=moments, std=moments, num_classes=2
    ).to("meta")
    tensors = [data.mean, data.std, data.train.inputs, data.val.labels, data.test.inputs]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert data.normalize(data.train.inputs).shape == (2, 1, 4, 4)
