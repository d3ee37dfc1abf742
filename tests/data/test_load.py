import pytest
import torch

from samsweep.config import AugmentConfig, ConfigError, DatasetConfig
from samsweep.data import cifar
from samsweep.data.digits import load_digits
from samsweep.data.folder_tree import read_tree
from samsweep.data.load import load_dataset


def config(name, **values):
    return DatasetConfig(name=name, augment=AugmentConfig(), **values)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(name, tmp_path, monkeypatch):
    asked = []

    def fake(name, data_dir):
        asked.append((name, data_dir))
        return load_digits()

    monkeypatch.setattr(cifar, "load_cifar", fake)
    load_dataset(config(name), data_dir=tmp_path, path=None)
    assert asked == [(name, tmp_path)]


def test_folder_with_size_and_noise(tree, tmp_path):
    clean = load_dataset(config("image_folder", image_size=4), data_dir=tmp_path, path=tree)
    noisy = load_dataset(
        config("image_folder", image_size=4, label_noise=1.0), data_dir=tmp_path, path=tree
    )
    assert clean.train.inputs.shape == (22, 3, 4, 4)
    assert not torch.equal(noisy.train.labels, clean.train.labels)
    assert torch.equal(noisy.val.labels, clean.val.labels)
    assert torch.equal(noisy.test.labels, clean.test.labels)


def test_folder_without_path(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.path is missing"):
        load_dataset(config("image_folder"), data_dir=tmp_path, path=None)


def test_fingerprint_of_the_plan(tree, tmp_path):
    planned = read_tree(tree).fingerprint
    same = config("image_folder", fingerprint=planned)
    assert len(load_dataset(same, data_dir=tmp_path, path=tree).train) == 22
    other = config("image_folder", fingerprint="0" * 16)
    message = f"has the fingerprint {planned}, but this cell was planned on {'0' * 16}: restore"
    with pytest.raises(ConfigError, match=message):
        load_dataset(other, data_dir=tmp_path, path=tree)
