"""Arrays of any shape and type: what is a data set, what is not, and how it is split."""

import numpy as np
import pytest
import torch

from samsweep.config import AugmentConfig, ConfigError, DatasetConfig
from samsweep.data.arrays import checked, describe_arrays, load_arrays
from samsweep.data.dataset_info import describe
from samsweep.data.load import load_dataset
from samsweep.data.splits import from_arrays

NUM = 40


def table(**changes):
    """Numbers of three columns, the first of which is the row, and classes in blocks."""
    draws = np.random.default_rng(0)
    x = draws.standard_normal((NUM, 3))
    x[:, 0] = np.arange(NUM)
    arrays = {"x_train": x, "y_train": np.arange(NUM) // 10, "x_test": x[:9], "y_test": [0] * 9}
    return {name: np.asarray(values) for name, values in (arrays | changes).items()}


def save(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def config(**values):
    return DatasetConfig(name="arrays", augment=AugmentConfig(), **values)


def problems(arrays):
    with pytest.raises(ConfigError) as caught:
        checked(arrays, "dataset=mine")
    return caught.value.problems


# ------------------------------------------------------------------ what is known


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("float32", (3,), True, 4, ())),
        ({"y_train": np.ones(NUM), "y_test": np.ones(9)}, ("float32", (3,), False, 1, ())),
        (
            {"y_train": np.ones((NUM, 2)), "y_test": np.ones((9, 2))},
            ("float32", (3,), False, 2, (2,)),
        ),
        (
            {"y_train": np.arange(NUM) > 9, "y_test": np.ones(9, bool)},
            ("float32", (3,), True, 2, ()),
        ),
        (
            {"x_train": np.full((NUM, 5), 7), "x_test": np.full((9, 5), 11)},
            ("int64", (5,), True, 4, ()),
        ),
        (
            {"x_train": np.zeros((NUM, 6, 6), np.uint8), "x_test": np.zeros((9, 6, 6), np.uint8)},
            ("uint8", (1, 6, 6), True, 4, ()),
        ),
        (
            {
                "x_train": np.zeros((NUM, 6, 6, 3), np.uint8),
                "x_test": np.zeros((9, 6, 6, 3), np.uint8),
            },
            ("uint8", (3, 6, 6), True, 4, ()),
        ),
        (
            {"x_train": np.zeros((NUM, 2, 6, 5)), "x_test": np.zeros((9, 2, 6, 5))},
            ("float32", (2, 6, 5), True, 4, ()),
        ),
    ],
    ids=[
        "table",
        "regression",
        "two values",
        "yes or no",
        "tokens",
        "gray",
        "channels last",
        "float images",
    ],
)
def test_description_and_data_agree(changes, expected, tmp_path):
    path = save(tmp_path, **table(**changes))
    info = describe(config(), path)
    found = (
        info.input_dtype,
        info.input_shape,
        info.is_classification,
        info.num_outputs,
        info.label_shape,
    )
    assert found == expected
    assert info.num_tokens == (12 if info.input_dtype == "int64" else None)
    data = load_dataset(config(fingerprint=info.fingerprint), data_dir=tmp_path, path=path)
    assert [len(s) for s in (data.train, data.val, data.test)] == [36, 4, 9]
    assert (info.num_train, info.num_val, info.num_test) == (36, 4, 9)
    assert str(data.train.inputs.dtype) == f"torch.{info.input_dtype}"
    assert data.train.inputs.shape == (36, *info.input_shape)
    assert data.train.labels.shape == (36, *info.label_shape)
    assert data.num_classes == info.num_outputs
    assert data.num_tokens == info.num_tokens
    assert (data.mean is None) == (info.input_dtype != "uint8")


def test_numbers_stay_beside_their_labels_and_each_is_used_once(tmp_path):
    data = load_dataset(config(), data_dir=tmp_path, path=save(tmp_path, **table()))
    rows = torch.cat([data.train.inputs, data.val.inputs])[:, 0].long()
    labels = torch.cat([data.train.labels, data.val.labels])
    assert sorted(rows.tolist()) == list(range(NUM))
    assert torch.equal(labels, rows // 10)


def test_validation_examples_that_are_given_are_kept(tmp_path):
    given = table(x_val=np.full((5, 3), -1.0), y_val=[3] * 5)
    path = save(tmp_path, **given)
    data = load_dataset(config(), data_dir=tmp_path, path=path)
    info = describe(config(), path)
    assert (info.num_train, info.num_val) == (len(data.train), len(data.val)) == (NUM, 5)
    assert torch.equal(data.val.inputs, torch.full((5, 3), -1.0))


def test_the_fingerprint_is_of_the_contents(tmp_path):
    path = save(tmp_path, **table())
    before = describe_arrays(path).fingerprint
    (tmp_path / "moved").mkdir()
    assert describe_arrays(save(tmp_path / "moved", **table())).fingerprint == before
    changed = table()
    changed["x_train"][3, 1] += 1e-3
    after = describe_arrays(save(tmp_path, **changed)).fingerprint
    assert after != before
    with pytest.raises(ConfigError, match=f"{after}, but this cell was planned on {before}"):
        load_dataset(config(fingerprint=before), data_dir=tmp_path, path=path)


# ------------------------------------------------------------------ shares


@pytest.mark.parametrize("given", [False, True])
def test_fractions_are_nested_samples_with_the_same_wrong_labels(given, tmp_path):
    beside = {"x_val": np.zeros((5, 3)), "y_val": [0] * 5} if given else {}
    path = save(tmp_path, **table(**beside))
    rows, labels = {}, {}
    for fraction in (0.05, 0.25, 0.5, 1.0):
        chosen = config(train_fraction=fraction, label_noise=0.5)
        data = load_dataset(chosen, data_dir=tmp_path, path=path)
        assert len(data.train) == describe(chosen, path).num_train
        assert len(data.train) == max(2, round(fraction * (NUM if given else 36)))
        rows[fraction] = data.train.inputs[:, 0].tolist()
        labels[fraction] = data.train.labels.tolist()
    for fraction, some in rows.items():
        assert rows[1.0][: len(some)] == some
        assert labels[1.0][: len(some)] == labels[fraction]
    # The file is in the order of its classes, a share of it is not.
    assert len({int(row) // 10 for row in rows[0.5]}) == 4


# ------------------------------------------------------------------ what is none


def test_missing_and_unknown_names():
    arrays = table(inputs=[1])
    del arrays["y_test"]
    lacks, unknown = problems(arrays)
    assert lacks == "dataset=mine has no y_test: give x_train, y_train, x_test, y_test."
    assert unknown.startswith("dataset=mine has inputs, which means nothing")
    (half,) = problems(table(x_val=np.zeros((2, 3))))
    assert "has no y_val" in half


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.full((NUM, 3), np.nan)}, "x_train has NaN or infinite values"),
        ({"y_train": np.full(NUM, np.inf), "y_test": np.ones(9)}, "y_train has NaN or infinite"),
        (
            {"x_train": np.full((NUM, 3), -2), "x_test": np.zeros((9, 3), int)},
            "x_train has the token id -2: ids are 0 and above",
        ),
        ({"y_test": np.full(9, 4)}, "y_test has the class 4: classes are 0 to 3"),
        ({"y_train": np.arange(NUM) - 1}, "y_train has the class -1: classes are 0 to 38"),
        ({"y_train": np.zeros(NUM - 1, int)}, "x_train has 40 examples and y_train 39 labels"),
        ({"x_test": np.zeros((9, 4))}, "x_test has other shapes or types than x_train"),
        ({"x_test": np.zeros((9, 3), int)}, "x_test has other shapes or types than x_train"),
        ({"y_test": np.ones(9)}, "y_test has other shapes or types than y_train"),
        (
            {"y_train": np.zeros((NUM, 2), int), "y_test": np.zeros((9, 2), int)},
            "y_train has 2 dimensions: give one class per example",
        ),
        ({"x_test": np.zeros((0, 3)), "y_test": np.zeros(0, int)}, "x_test has 0 examples"),
        ({"x_train": np.full((NUM, 3), "a")}, "x_train has the type <U1"),
        ({"x_train": np.zeros(NUM)}, "x_train has the shape (40,): give an example in each row"),
        ({"y_test": np.int64(1)}, "y_test has the shape ()"),
    ],
)
def test_what_is_no_data_set_is_refused(changes, message):
    assert any(message in problem for problem in problems(table(**changes)))


def test_pickles_are_refused(tmp_path):
    path = save(tmp_path, **table(x_train=np.array([{"a": 1}] * NUM, dtype=object)))
    with pytest.raises(ConfigError, match="not a readable .npz file.*allow_pickle"):
        load_arrays(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    np.save(tmp_path / "a.npy", np.zeros(3))
    whole = save(tmp_path, **table())
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:-30])
    for name in ("a.npz", "a.npy", "cut.npz"):
        with pytest.raises(ConfigError, match=r"not a readable .npz file.*numpy.savez"):
            describe_arrays(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read.*No such file"):
        describe_arrays(tmp_path / "b.npz")
    with pytest.raises(ConfigError, match=r"dataset\.path is missing: dataset=arrays needs it"):
        describe(config(), None)


def test_arrays_of_a_factory_are_split_alike():
    data = from_arrays(checked(table(), "dataset=mine"))
    assert [len(s) for s in (data.train, data.val, data.test)] == [36, 4, 9]
