"""Images in Parquet files as on the Hugging Face hub, against those that were put into them."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from samsweep.config import AugmentConfig, ConfigError, DatasetConfig
from samsweep.data import parquet
from samsweep.data.dataset_info import describe
from samsweep.data.load import load_dataset
from samsweep.data.splits import fixed_permutation

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def noise(number, *, seed, size=(6, 6), channels=3):
    shape = (number, *size, channels) if channels > 1 else (number, *size)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write(file, pixels, *, struct=True, image="image", **columns):
    file.parent.mkdir(parents=True, exist_ok=True)
    images = [encoded(one) for one in pixels]
    if struct:
        images = pa.array([{"bytes": one, "path": None} for one in images], type=STRUCT)
    pq.write_table(pa.table({image: images, **columns}), file)
    return file


@pytest.fixture(params=["data", "."])
def hub(request, tmp_path):
    """Two files of training images and one of test images, of three classes; with the pixels."""
    folder = tmp_path / "hub" / request.param
    train, test = noise(20, seed=0), noise(5, seed=1)
    for part in (0, 1):
        half = slice(10 * part, 10 * part + 10)
        file = folder / f"train-0000{part}-of-00002.parquet"
        write(file, train[half], label=np.arange(20)[half] % 3)
    write(folder / "test-00000-of-00001.parquet", test, label=np.arange(5) % 3)
    return tmp_path / "hub", train, test


def config(**values):
    return DatasetConfig(name="parquet", augment=AugmentConfig(), **values)


def load(path, tmp_path, **values):
    return load_dataset(config(**values), data_dir=tmp_path / "data_dir", path=path)


def assert_holds(split, pixels, labels):
    assert np.array_equal(split.inputs.numpy(), pixels.transpose(0, 3, 1, 2))
    assert split.labels.tolist() == list(labels)


@pytest.mark.parametrize("max_bytes", [None, 0])
def test_images_and_labels_are_those_of_the_files(hub, tmp_path, max_bytes, monkeypatch):
    path, train, test = hub
    if max_bytes is not None:
        monkeypatch.setattr("samsweep.data.image_folder.MAX_BYTES", max_bytes)
    data = load(path, tmp_path)
    order = fixed_permutation(20).numpy()
    assert_holds(data.train, train[order[:18]], order[:18] % 3)
    assert_holds(data.val, train[order[18:]], order[18:] % 3)
    assert_holds(data.test, test, np.arange(5) % 3)
    assert data.train.in_memory == (max_bytes is None)
    info = describe(config(), path)
    assert (info.num_train, info.num_val, info.num_test) == (18, 2, 5)
    assert (info.num_outputs, info.input_shape) == (3, (3, 6, 6))


def test_validation_files_are_kept(hub, tmp_path):
    path, train, _ = hub
    val = noise(4, seed=2)
    where = next(path.rglob("test-*")).parent
    write(where / "validation-00000-of-00001.parquet", val, label=np.arange(4) % 3)
    data = load(path, tmp_path)
    order = fixed_permutation(20).numpy()
    assert_holds(data.train, train[order], order % 3)
    assert_holds(data.val, val, np.arange(4) % 3)
    info = describe(config(), path)
    assert (info.num_train, info.num_val, info.num_test) == (20, 4, 5)


def test_describing_decodes_no_image(hub, monkeypatch):
    path, _, _ = hub
    monkeypatch.setattr("samsweep.data.image_folder.decoded", None)
    assert describe(config(image_size=4), path).input_shape == (3, 4, 4)


def test_images_of_other_sizes_are_resized_or_refused(hub, tmp_path):
    path, _, _ = hub
    where = next(path.rglob("test-*"))
    write(where, noise(5, seed=3, size=(8, 8)), label=[0] * 5)
    assert load(path, tmp_path, image_size=4).test.inputs.shape == (5, 3, 4, 4)
    with pytest.raises(ConfigError, match=r"image 0 of test is 8x8 pixels.*6x6.*image_size=32"):
        load(path, tmp_path)


def test_gray_images_as_bytes_with_labels_as_text(tmp_path):
    train, test = noise(6, seed=0, channels=1), noise(2, seed=1, channels=1)
    names = ["cat", "ant", "bee", "ant", "cat", "bee"]
    write(tmp_path / "train.parquet", train, struct=False, label=names)
    write(tmp_path / "test.parquet", test, struct=False, label=["bee", "ant"])
    data = load(tmp_path, tmp_path)
    assert data.train.inputs.shape == (5, 1, 6, 6)
    assert data.test.labels.tolist() == [1, 0]
    order = fixed_permutation(6).tolist()
    assert data.train.labels.tolist() == [["ant", "bee", "cat"].index(names[i]) for i in order[:5]]


def test_several_columns_need_a_choice_which_is_part_of_the_identity(tmp_path):
    columns = {"fine_label": np.arange(6), "coarse_label": np.arange(6) % 2}
    for split in ("train", "test"):
        write(tmp_path / f"{split}.parquet", noise(6, seed=0), image="img", **columns)
    with pytest.raises(ConfigError) as caught:
        describe(config(), tmp_path)
    assert caught.value.problems == (
        f"dataset.path={tmp_path} has several columns of labels: "
        "set dataset.args.label_column=NAME, one of fine_label, coarse_label.",
    )
    chosen = {"label_column": "coarse_label"}
    assert describe(config(args=chosen), tmp_path).num_outputs == 2
    assert set(load(tmp_path, tmp_path, args=chosen).train.labels.tolist()) == {0, 1}
    with pytest.raises(ConfigError, match=r"image_column=image: .* no such column.*among img"):
        describe(config(args=chosen | {"image_column": "image"}), tmp_path)
    with pytest.raises(ConfigError, match=r"dataset\.args\.columns=1 has no effect"):
        describe(config(args={"columns": 1}), tmp_path)


def test_the_fingerprint_is_of_the_contents(hub, tmp_path):
    path, train, _ = hub
    before = describe(config(), path).fingerprint
    file = next(path.rglob("train-00000*"))
    write(file, train[::-1][:10], label=np.arange(10) % 3)
    after = describe(config(), path).fingerprint
    assert after != before
    with pytest.raises(ConfigError, match=f"{after}, but this cell was planned on {before}"):
        load(path, tmp_path, fingerprint=before)


def test_absent_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"has no train-\*\.parquet.*validation-\*\.parquet"):
        describe(config(), tmp_path / "nowhere")
    write(tmp_path / "train-00000-of-00001.parquet", noise(4, seed=0), label=[0, 1, 0, 1])
    with pytest.raises(ConfigError, match=r"has no test-\*\.parquet, nor has its folder data/"):
        describe(config(), tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [-1, 1, 0, 1]}, r"label -1 of test is negative: classes are integers from 0"),
        ({"label": [0, 1, 2, 1]}, r"label 2 of test is none of the classes 0 to 1 of train"),
        ({"label": pa.array([0, None, 1, 1])}, r"1 rows without a label: drop them"),
        ({"other": [0, 1, 0, 1]}, r"has no column label: give all files the same columns"),
    ],
)
def test_labels_that_are_no_classes_are_refused(columns, message, tmp_path):
    write(tmp_path / "train.parquet", noise(4, seed=0), label=[0, 1, 0, 1])
    write(tmp_path / "test.parquet", noise(4, seed=1), **columns)
    with pytest.raises(ConfigError, match=message):
        describe(config(), tmp_path)


def test_tables_without_images_are_refused(tmp_path):
    for split in ("train", "test"):
        pq.write_table(pa.table({"x": [1.0, 2.0], "label": [0, 1]}), tmp_path / f"{split}.parquet")
    with pytest.raises(ConfigError, match="has no column of images: images are encoded bytes"):
        describe(config(), tmp_path)


def test_images_that_are_only_paths_are_refused(tmp_path):
    rows = pa.array([{"bytes": None, "path": "a.png"}] * 4, type=STRUCT)
    for split in ("train", "test"):
        pq.write_table(
            pa.table({"image": rows, "label": [0, 1, 0, 1]}), tmp_path / f"{split}.parquet"
        )
    with pytest.raises(ConfigError, match="rows of image without bytes"):
        describe(config(), tmp_path)


def test_damaged_files_and_images_are_named(hub, tmp_path):
    path, _, _ = hub
    test = next(path.rglob("test-*"))
    images = pa.array([{"bytes": b"no image", "path": None}] * 3, type=STRUCT)
    pq.write_table(pa.table({"image": images, "label": [0, 1, 2]}), test)
    with pytest.raises(ConfigError, match="image 0 of test is not a readable image"):
        describe(config(), path)
    test.write_bytes(b"no table")
    with pytest.raises(ConfigError, match="is not a readable Parquet file"):
        describe(config(), path)


def test_a_missing_part_is_told(hub):
    path, _, _ = hub
    next(path.rglob("train-00001-of-00002.parquet")).unlink()
    with pytest.raises(ConfigError, match=r"train-00001-of-00002\.parquet missing"):
        describe(config(), path)


def test_images_unlike_the_first_are_told_before_training(hub):
    path, _, _ = hub
    test = next(path.rglob("test-*"))
    write(test, noise(5, seed=1, size=(9, 7)), label=np.arange(5) % 3)
    with pytest.raises(ConfigError, match="image 0 of test is 7x9 pixels"):
        describe(config(), path)
    assert describe(config(image_size=4), path).input_shape == (3, 4, 4)


def test_shares_are_nested(hub, tmp_path):
    path, _, _ = hub
    half, whole = (load(path, tmp_path, train_fraction=f).train for f in (0.5, 1.0))
    assert len(half) == describe(config(train_fraction=0.5), path).num_train == 9
    assert torch.equal(half.inputs, whole.inputs[:9])
    assert parquet.describe_parquet(path).num_train == 18
