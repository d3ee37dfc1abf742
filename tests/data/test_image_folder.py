import numpy as np
import pytest
import torch
from PIL import Image

from samsweep.config import ConfigError
from samsweep.data import folder_tree, image_folder
from samsweep.data.folder_tree import _read_tree, describe_folder, read_tree
from samsweep.data.image_folder import load_folder
from samsweep.data.splits import Split


def splits(data):
    return data.train, data.val, data.test


def pixels(path, mode="RGB"):
    array = np.asarray(Image.open(path).convert(mode))
    return array.reshape(*array.shape[:2], -1).transpose(2, 0, 1).tobytes()


def contents(*parts: Split):
    return sorted(
        (image.numpy().tobytes(), label)
        for part in parts
        for image, label in zip(part.inputs, part.labels.tolist(), strict=True)
    )


def expected(tree, part, mode="RGB"):
    return sorted(
        (pixels(path, mode), label)
        for label, name in enumerate(("ant", "bee"))
        for path in (tree / part / name).iterdir()
    )


def test_holds_every_image_once_with_its_label(tree, tmp_path):
    data = load_folder(tree, image_size=None, data_dir=tmp_path)
    info = describe_folder(tree, None)
    assert [len(s) for s in splits(data)] == [info.num_train, info.num_val, info.num_test]
    assert contents(data.train, data.val) == expected(tree, "train")
    assert contents(data.test) == expected(tree, "test")
    assert data.num_classes == 2
    assert all(split.in_memory for split in splits(data))
    assert data.train.inputs.dtype == torch.uint8
    assert data.train.labels.dtype == torch.int64
    train = data.normalize(data.train.inputs)
    torch.testing.assert_close(train.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(dim=(0, 2, 3), correction=0), torch.ones(3))


def test_the_split_is_fixed(tree, tmp_path):
    first = load_folder(tree, image_size=None, data_dir=tmp_path)
    torch.manual_seed(77)
    again = load_folder(tree, image_size=None, data_dir=tmp_path)
    for one, two in zip(splits(first), splits(again), strict=True):
        assert torch.equal(one.inputs, two.inputs)
        assert torch.equal(one.labels, two.labels)
    assert 0 < first.train.labels.double().mean() < 1


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grayscale_images_keep_one_channel(tree, tmp_path, save_image, mode):
    for i, path in enumerate(sorted(tree.rglob("*.png"))):
        save_image(path, mode=mode, seed=i)
    data = load_folder(tree, image_size=None, data_dir=tmp_path)
    assert data.train.inputs.shape[1:] == (1, 6, 6)
    assert contents(data.train, data.val) == expected(tree, "train", "L")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_other_modes_become_rgb_beside_colour_images(tree, tmp_path, save_image, mode):
    save_image(tree / "train" / "bee" / "05.png", mode=mode)
    data = load_folder(tree, image_size=None, data_dir=tmp_path)
    assert contents(data.train, data.val) == expected(tree, "train")


def test_resizes_like_an_antialiased_bilinear_filter(tree, tmp_path, save_image):
    save_image(tree / "test" / "ant" / "0.png", size=(64, 40), seed=5)
    data = load_folder(tree, image_size=16, data_dir=tmp_path)
    with Image.open(tree / "test" / "ant" / "0.png") as image:
        original = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    exact = torch.nn.functional.interpolate(
        original[None].float(), size=(16, 16), mode="bilinear", antialias=True
    )[0]
    assert data.test.inputs.shape == (4, 3, 16, 16)
    assert (data.test.inputs[0].float() - exact).abs().max() <= 1


# --------------------------------------------------------------------------- file of pixels


def test_large_data_is_mapped_from_a_file(tree, tmp_path):
    held = load_folder(tree, image_size=None, data_dir=tmp_path)
    size = 28 * 3 * 6 * 6
    folder = tmp_path / "data"
    at_limit = load_folder(tree, image_size=None, data_dir=folder, max_bytes=size)
    assert at_limit.train.in_memory
    assert not folder.exists()
    mapped = load_folder(tree, image_size=None, data_dir=folder, max_bytes=size - 1)
    for one, two in zip(splits(held), splits(mapped), strict=True):
        assert not two.in_memory
        assert torch.equal(one.inputs, two.inputs)
        assert torch.equal(one.labels, two.labels)
    assert torch.equal(held.mean, mapped.mean)
    assert torch.equal(held.std, mapped.std)
    name = f"image_folder-{read_tree(tree).fingerprint}-3x6x6.uint8"
    assert {file.name for file in folder.iterdir()} <= {name, f".{name}.lock"}
    assert (folder / name).stat().st_size == size


def test_the_file_is_written_once(tree, tmp_path, monkeypatch):
    first = load_folder(tree, image_size=None, data_dir=tmp_path, max_bytes=0)

    def refuse(file, name, wanted):
        raise AssertionError(f"{name} was decoded again")

    monkeypatch.setattr(image_folder, "decoded", refuse)
    again = load_folder(tree, image_size=None, data_dir=tmp_path, max_bytes=0)
    assert torch.equal(first.train.inputs, again.train.inputs)
    with pytest.raises(AssertionError, match="decoded again"):  # another size is another file
        load_folder(tree, image_size=3, data_dir=tmp_path, max_bytes=0)


def test_writing_to_a_mapped_tensor_leaves_the_file(tree, tmp_path):
    first = load_folder(tree, image_size=None, data_dir=tmp_path, max_bytes=0)
    before = first.train.inputs.clone()
    first.train.inputs.zero_()
    again = load_folder(tree, image_size=None, data_dir=tmp_path, max_bytes=0)
    assert torch.equal(again.train.inputs, before)


def test_a_cut_off_file_is_written_anew(tree, tmp_path):
    first = load_folder(tree, image_size=None, data_dir=tmp_path, max_bytes=0)
    (file,) = tmp_path.glob("*.uint8")
    expected_images = first.train.inputs.clone()
    del first
    file.write_bytes(file.read_bytes()[:100])
    again = load_folder(tree, image_size=None, data_dir=tmp_path, max_bytes=0)
    assert torch.equal(again.train.inputs, expected_images)


def test_a_failed_write_leaves_no_file(tree, tmp_path, monkeypatch):
    # As of an image whose pixels are not among those that are looked at before.
    monkeypatch.setattr(folder_tree, "check_once", lambda *_: None)
    (tree / "train" / "bee" / "05.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="not a readable image"):
        load_folder(tree, image_size=None, data_dir=tmp_path / "d", max_bytes=0)
    assert [file for file in (tmp_path / "d").iterdir() if not file.name.endswith(".lock")] == []


def test_no_room_for_the_file(tree, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"data_dir=.*cannot hold the 0\.0 GiB.*set data_dir="):
        load_folder(tree, image_size=None, data_dir=tmp_path / "file", max_bytes=0)


# --------------------------------------------------------------------------- errors


def test_images_of_two_sizes(tree, tmp_path, save_image):
    save_image(tree / "test" / "bee" / "1.png", size=(9, 7))
    message = r"bee/1\.png is 9x7 pixels but .*train/ant/00\.png is 6x6: set dataset\.image_size=32"
    with pytest.raises(ConfigError, match=message):
        load_folder(tree, image_size=None, data_dir=tmp_path)
    assert load_folder(tree, image_size=6, data_dir=tmp_path).test.inputs.shape[2:] == (6, 6)


@pytest.mark.parametrize("keep", [0, 40, 90])
def test_damaged_image(tree, tmp_path, keep):
    path = tree / "train" / "bee" / "05.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match=r"bee/05\.png is not a readable image.*replace or"):
        load_folder(tree, image_size=None, data_dir=tmp_path)


def test_image_removed_after_it_was_listed(tree, tmp_path):
    read_tree(tree)
    (tree / "train" / "bee" / "05.png").unlink()
    with pytest.raises(ConfigError, match=r"bee/05\.png is not a readable image"):
        load_folder(tree, image_size=None, data_dir=tmp_path)
    _read_tree.cache_clear()


def test_colour_among_grayscale(tree, tmp_path, save_image):
    save_image(tree / "train" / "ant" / "00.png", mode="L")
    message = r"\.png is in colour \(mode RGB\) but .*train/ant/00\.png is grayscale: convert all"
    with pytest.raises(ConfigError, match=message):
        load_folder(tree, image_size=None, data_dir=tmp_path)


def test_sixteen_bits(tree, tmp_path):
    deep = np.full((6, 6), 40_000, dtype=np.uint16)
    Image.fromarray(deep).save(tree / "train" / "bee" / "05.png")
    with pytest.raises(ConfigError, match=r"bee/05\.png has more than 8 bits per pixel"):
        load_folder(tree, image_size=None, data_dir=tmp_path)


# --------------------------------------------------------------------------- real images


@pytest.mark.slow
def test_real_images(cifar100_mini, tmp_path):
    info = describe_folder(cifar100_mini, None)
    assert (info.num_outputs, info.input_shape) == (100, (3, 32, 32))
    assert (info.num_train, info.num_val, info.num_test) == (9_000, 1_000, 2_000)
    data = load_folder(cifar100_mini, image_size=None, data_dir=tmp_path)
    assert [len(s) for s in splits(data)] == [9_000, 1_000, 2_000]
    assert data.train.inputs.shape == (9_000, 3, 32, 32)
    assert data.test.labels.bincount().tolist() == [20] * 100
    assert (data.train.labels.bincount() + data.val.labels.bincount()).tolist() == [100] * 100
    # CIFAR-100's published moments; a fifth of the data set comes close.
    published = 255 * torch.tensor([0.5071, 0.4865, 0.4409])
    torch.testing.assert_close(data.mean, published, atol=2.0, rtol=0)
