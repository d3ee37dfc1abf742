"""SVHN, Fashion-MNIST and STL-10 from made-up files in the published formats."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import STL10, SVHN, FashionMNIST, utils

from samsweep.config import AugmentConfig, ConfigError, DataInfo, DatasetComponent, DatasetConfig
from samsweep.data import torchvision_sets as sets
from samsweep.data.dataset_info import describe
from samsweep.data.load import download_dataset, load_dataset

SHAPES = {"svhn": (3, 32, 32), "fashion_mnist": (1, 28, 28), "stl10": (3, 96, 96)}
#: Published for training, and for testing.
NUM, NUM_TEST = 20, 6


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def images(name, number):
    """Pixels that say which image, row and column they are of."""
    channels, height, width = SHAPES[name]
    n, c, y, x = np.ogrid[:number, :channels, :height, :width]
    return (10 * n + 50 * c + y + 2 * x).astype(np.uint8)


def idx(array):
    """The format of MNIST's files (LeCun et al. 1998)."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def svhn(monkeypatch):
    files = {}
    for split, number in (("train", NUM), ("test", NUM_TEST)):
        stream = io.BytesIO()
        labels = np.arange(number) % 10
        labels[labels == 0] = 10  # as SVHN calls the digit 0
        pixels = images("svhn", number).transpose(2, 3, 1, 0)
        savemat(stream, {"X": pixels, "y": labels[:, None].astype(np.uint8)})
        url, file, _ = SVHN.split_list[split]
        files[url] = stream.getvalue()
        monkeypatch.setitem(SVHN.split_list, split, [url, file, md5(files[url])])
    return files


def fashion_mnist(monkeypatch):
    files, resources = {}, []
    for part, number in (("train", NUM), ("t10k", NUM_TEST)):
        arrays = {
            "images-idx3": images("fashion_mnist", number)[:, 0],
            "labels-idx1": (np.arange(number) % 10).astype(np.uint8),
        }
        for kind, array in arrays.items():
            name = f"{part}-{kind}-ubyte.gz"
            content = gzip.compress(idx(array))
            files[FashionMNIST.mirrors[0] + name] = content
            resources.append((name, md5(content)))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    return files


def stl10(monkeypatch):
    contents = {"unlabeled_X.bin": b"many"}
    for part, number in (("train", NUM), ("test", NUM_TEST)):
        # Columns first, and classes from 1.
        contents[f"{part}_X.bin"] = images("stl10", number).transpose(0, 1, 3, 2).tobytes()
        contents[f"{part}_y.bin"] = (np.arange(number) % 10 + 1).astype(np.uint8).tobytes()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"stl10_binary/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    for attribute in ("train_list", "test_list"):
        listed = [[name, md5(contents[name])] for name, _ in getattr(STL10, attribute)]
        monkeypatch.setattr(STL10, attribute, listed)
    monkeypatch.setattr(STL10, "tgz_md5", md5(stream.getvalue()))
    return {STL10.url: stream.getvalue()}


@pytest.fixture(params=list(SHAPES))
def name(request, monkeypatch):
    info = DataInfo(
        num_outputs=10, input_shape=SHAPES[request.param], num_train=18, num_val=2, num_test=6
    )
    monkeypatch.setattr(
        "samsweep.data.splits.DATASETS", {request.param: DatasetComponent(info=info)}
    )
    return request.param


@pytest.fixture
def published(name, monkeypatch):
    """The contents of its archives by their URLs, whose checksums torchvision takes for right."""
    return {"svhn": svhn, "fashion_mnist": fashion_mnist, "stl10": stl10}[name](monkeypatch)


@pytest.fixture
def fetches(published, monkeypatch):
    """Serve the archives in place of the network; what was asked for."""
    asked: list[str] = []

    def retrieve(url, filename):
        asked.append(url)
        Path(filename).write_bytes(published[url])

    def same_url(url, max_hops=3):
        return url

    monkeypatch.setattr(utils, "_get_redirect_url", same_url)
    monkeypatch.setattr(utils, "_urlretrieve", retrieve)
    return asked


def config(name):
    return DatasetConfig(name=name, augment=AugmentConfig())


def test_downloads_once_and_splits(name, published, fetches, tmp_path):
    data = load_dataset(config(name), data_dir=tmp_path / "new", path=None)
    assert fetches == list(published)
    again = load_dataset(config(name), data_dir=tmp_path / "new", path=None)
    assert fetches == list(published)
    assert torch.equal(data.train.inputs, again.train.inputs)
    assert [len(s) for s in (data.train, data.val, data.test)] == [18, 2, NUM_TEST]
    for split in (data.train, data.val, data.test):
        assert split.inputs.shape[1:] == SHAPES[name]
        assert split.inputs.dtype == torch.uint8
        assert split.inputs.is_contiguous()
        assert split.labels.dtype == torch.int64
    everything = images(name, NUM)
    order = {everything[i].tobytes(): i for i in range(NUM)}
    seen = []
    for split in (data.train, data.val):
        for image, label in zip(split.inputs, split.labels.tolist(), strict=True):
            seen.append(order[image.numpy().tobytes()])
            assert label == seen[-1] % 10
    assert sorted(seen) == list(range(NUM))
    assert np.array_equal(data.test.inputs.numpy(), images(name, NUM_TEST))
    assert data.test.labels.tolist() == list(range(NUM_TEST))
    mean = data.train.inputs.double().mean(dim=(0, 2, 3))
    torch.testing.assert_close(data.mean.double(), mean, atol=1e-4, rtol=1e-6)


def test_only_what_is_used_is_kept(name, fetches, tmp_path):
    download_dataset(name, tmp_path)
    release = sets._RELEASES[name]
    left = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()}
    assert left - {f".{name}.lock"} == {*release.archives, *release.files}


def test_copied_archives_need_no_network(name, published, fetches, tmp_path):
    for file, content in zip(sets._RELEASES[name].archives, published.values(), strict=True):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    assert len(sets.load(name, tmp_path).test) == NUM_TEST
    assert fetches == []


def test_a_failed_download_leaves_nothing_and_names_the_remedies(name, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(utils, "download_url", fail)
    with pytest.raises(ConfigError, match=f"dataset={name} is not in .*no route to host") as caught:
        download_dataset(name, tmp_path / "data")
    for archive in sets._RELEASES[name].archives:
        assert archive in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_off_download_is_refused(name, published, fetches, tmp_path):
    published.update({url: content[:-5] for url, content in published.items()})
    with pytest.raises(ConfigError, match="could not be downloaded"):
        download_dataset(name, tmp_path)
    assert not sets._RELEASES[name].is_available(tmp_path)


def test_damaged_files_are_named(name, fetches, tmp_path):
    download_dataset(name, tmp_path)
    file = tmp_path / sets._RELEASES[name].files[0]
    file.write_bytes(file.read_bytes()[:-5])
    top = file.relative_to(tmp_path).parts[0]
    with pytest.raises(ConfigError, match=f"published checksums: delete {top}.* there and run"):
        sets.load(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("svhn", (65_931, 7_326, 26_032)),
        ("fashion_mnist", (54_000, 6_000, 10_000)),
        ("stl10", (4_500, 500, 8_000)),
    ],
)
def test_sizes_are_known_without_the_data(name, numbers):
    info = describe(config(name), None)
    assert (info.num_train, info.num_val, info.num_test) == numbers
    assert info.input_shape == SHAPES[name]
    assert info.num_outputs == 10
    assert [Path(file).name for file in sets._RELEASES[name].archives] == [
        url.rpartition("/")[2] for url, _ in sets._RELEASES[name].sources()
    ]
