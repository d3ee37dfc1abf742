import hashlib
import io
import pickle
import tarfile
import threading
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.datasets import CIFAR10, CIFAR100, utils

from samsweep.config import ConfigError, DataInfo, DatasetComponent
from samsweep.data import cifar, load

NUM_TRAIN, NUM_VAL, NUM_TEST = 40, 10, 12
INFO = DataInfo(
    num_outputs=100,
    input_shape=(3, 32, 32),
    num_train=NUM_TRAIN,
    num_val=NUM_VAL,
    num_test=NUM_TEST,
)


def python2_pickle(value):
    """A pickle whose dtypes say 0 for False, as in the published files."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, protocol=2)
    uint8 = type(np.dtype("u1"))
    pickler.dispatch_table = {uint8: lambda _: (np.dtype, ("u1", 0, 1))}  # type: ignore[misc]
    pickler.dump(value)
    return stream.getvalue()


def part(num_images, first):
    """Images whose red, green and blue are first + i, 100 + i, 200, and whose label is i."""
    data: NDArray[np.uint8] = np.empty((num_images, 3, 1024), dtype=np.uint8)
    data[:, 0] = first + np.arange(num_images)[:, None]
    data[:, 1] = 100 + np.arange(num_images)[:, None]
    data[:, 2] = 200
    return {"data": data.reshape(num_images, -1), "fine_labels": list(range(num_images))}


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def archive(monkeypatch):
    """A tiny CIFAR-100 in the published format, whose checksums torchvision takes for right."""
    files = {
        "train": python2_pickle(part(NUM_TRAIN + NUM_VAL, first=0)),
        "test": python2_pickle(part(NUM_TEST, first=50)),
        "meta": pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}),
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-100-python/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5(stream.getvalue()))
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5(files["train"])]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5(files["test"])]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5(files["meta"])})
    monkeypatch.setattr("samsweep.data.splits.DATASETS", {"cifar100": DatasetComponent(info=INFO)})
    return stream.getvalue()


@pytest.fixture
def fetches(monkeypatch, archive):
    """Serve the archive in place of the network; what was asked for."""
    asked: list[str] = []

    def retrieve(url, filename):
        asked.append(url)
        Path(filename).write_bytes(archive)

    def same_url(url, max_hops=3):
        return url

    monkeypatch.setattr(utils, "_get_redirect_url", same_url)
    monkeypatch.setattr(utils, "_urlretrieve", retrieve)
    return asked


def is_available(name, folder):
    return cifar._CIFAR[name].release.is_available(folder)


def no_network(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_downloads_and_splits(fetches, tmp_path):
    data = cifar.load_cifar("cifar100", tmp_path / "new" / "data")
    assert fetches == [CIFAR100.url]
    assert [len(s) for s in (data.train, data.val, data.test)] == [NUM_TRAIN, NUM_VAL, NUM_TEST]
    assert data.train.inputs.shape == (NUM_TRAIN, 3, 32, 32)
    assert data.train.inputs.is_contiguous()
    assert data.train.inputs.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    assert data.num_classes == 100
    labels = torch.cat([data.train.labels, data.val.labels])
    assert sorted(labels.tolist()) == list(range(NUM_TRAIN + NUM_VAL))
    for split, first in ((data.train, 0), (data.val, 0), (data.test, 50)):
        assert torch.equal(split.inputs[:, 0, 3, 5].long(), first + split.labels)
        assert torch.equal(split.inputs[:, 1, 31, 0].long(), 100 + split.labels)
        assert (split.inputs[:, 2] == 200).all()


def test_mean_and_sd_are_in_the_scale_of_raw_pixels(fetches, tmp_path):
    data = cifar.load_cifar("cifar100", tmp_path)
    unit = data.test.inputs.float() / 255
    mean = torch.tensor([0.5071, 0.4865, 0.4409])[:, None, None]
    std = torch.tensor([0.2673, 0.2564, 0.2762])[:, None, None]
    torch.testing.assert_close(data.normalize(data.test.inputs), (unit - mean) / std)


def test_downloads_once(fetches, tmp_path):
    assert not is_available("cifar100", tmp_path)
    threads = [
        threading.Thread(target=cifar.download, args=("cifar100", tmp_path)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetches) == 1
    assert is_available("cifar100", tmp_path)
    load.download_dataset("cifar100", tmp_path)
    assert len(fetches) == 1


def test_download_dataset_downloads(fetches, tmp_path):
    load.download_dataset("cifar100", tmp_path)
    assert is_available("cifar100", tmp_path)
    leftovers = {entry.name for entry in tmp_path.iterdir()} - {".cifar100.lock"}
    assert leftovers == {"cifar-100-python", "cifar-100-python.tar.gz"}


def test_download_dataset_asks_nothing_for_embedded_and_own_images(tmp_path):
    load.download_dataset("digits", tmp_path)
    load.download_dataset("image_folder", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_copied_archive_needs_no_network(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "_urlretrieve", no_network(AssertionError("network used")))
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive)
    assert len(cifar.load_cifar("cifar100", tmp_path).test) == NUM_TEST


def test_half_unpacked_files_are_completed(fetches, tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(b"cut off")
    assert len(cifar.load_cifar("cifar100", tmp_path).train) == NUM_TRAIN


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), ConnectionResetError("reset"), RuntimeError("md5")]
)
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_failed_download_names_the_remedies(name, error, tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "download_url", no_network(error))
    with pytest.raises(ConfigError, match=f"dataset={name} is not in .*could not") as caught:
        load.download_dataset(name, tmp_path)
    message = str(caught.value)
    number = name.removeprefix("cifar")
    assert str(tmp_path) in message
    assert str(error) in message
    assert f"copy cifar-{number}-python.tar.gz into that folder" in message
    assert "run once where the network allows it" in message
    assert "dataset=image_folder dataset.path=" in message
    assert "dataset=digits" in message
    assert "\n" not in message
    assert not is_available(name, tmp_path)


def test_data_dir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="could not be downloaded"):
        cifar.download("cifar100", tmp_path / "file" / "data")


def test_damaged_files_are_named(fetches, tmp_path):
    cifar.download("cifar100", tmp_path)
    (tmp_path / "cifar-100-python" / "test").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="published checksums: delete cifar-100-python there"):
        cifar.load_cifar("cifar100", tmp_path)


@pytest.mark.parametrize(("name", "source"), [("cifar10", CIFAR10), ("cifar100", CIFAR100)])
def test_file_names_are_those_of_torchvision(name, source):
    release = cifar._CIFAR[name].release
    listed = [file for file, _ in source.train_list + source.test_list] + [source.meta["filename"]]
    assert release.archives == (source.filename,)
    assert set(release.files) == {f"{source.base_folder}/{file}" for file in listed}
    assert release.sources() == [(source.url, source.tgz_md5)]
