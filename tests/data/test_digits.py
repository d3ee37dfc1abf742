from pathlib import Path

import pytest
import torch
from sklearn import datasets

from samsweep.config import DATASETS, AugmentConfig, DataInfo, DatasetConfig
from samsweep.data.digits import load_digits
from samsweep.data.load import load_dataset


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_sizes_are_those_of_the_registry(digits):
    info = DATASETS["digits"].info
    assert isinstance(info, DataInfo)
    splits = (digits.train, digits.val, digits.test)
    assert [len(s) for s in splits] == [info.num_train, info.num_val, info.num_test]
    assert sum(len(s) for s in splits) == 1797
    for split in splits:
        assert split.inputs.shape == (len(split), info.channels, info.image_size, info.image_size)
        assert split.inputs.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.labels.unique().tolist() == list(range(10))
    assert digits.num_classes == info.num_outputs


def test_splits_together_are_the_packaged_data(digits):
    raw = datasets.load_digits()
    expected = sorted(
        (*image.flatten().astype(int), label)
        for image, label in zip(raw.images, raw.target, strict=True)
    )
    found = sorted(
        (*image.flatten().tolist(), label)
        for split in (digits.train, digits.val, digits.test)
        for image, label in zip(split.inputs, split.labels.tolist(), strict=True)
    )
    assert found == expected


def test_a_file_in_another_place_is_found_by_scikit_learn(digits, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    torch.manual_seed(123)  # which decides nothing
    again = load_digits()
    assert torch.equal(again.train.inputs, digits.train.inputs)
    assert torch.equal(again.train.labels, digits.train.labels)


def test_training_images_are_normalised_to_mean_0_and_sd_1(digits):
    pixels = digits.normalize(digits.train.inputs)
    assert pixels.dtype == torch.float32
    assert abs(pixels.mean().item()) < 1e-5
    assert abs(pixels.std(correction=0).item() - 1) < 1e-5


def test_noise_is_in_the_training_labels_only(digits):
    config = DatasetConfig(name="digits", augment=AugmentConfig(), label_noise=0.4)
    noisy = load_dataset(config, data_dir=Path("unused"), path=None)
    wrong = (noisy.train.labels != digits.train.labels).double().mean().item()
    # 0.4 * 0.9 with a standard deviation of 0.016.
    assert abs(wrong - 0.36) < 0.05
    assert torch.equal(noisy.val.labels, digits.val.labels)
    assert torch.equal(noisy.test.labels, digits.test.labels)
    assert torch.equal(noisy.train.inputs, digits.train.inputs)
