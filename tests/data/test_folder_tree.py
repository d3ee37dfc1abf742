import shutil
from pathlib import Path

import pytest

from samsweep.config import ConfigError, DataInfo
from samsweep.data.folder_tree import _read_tree, describe_folder, read_tree


def fingerprint(path):
    """What a fresh process would find."""
    _read_tree.cache_clear()
    return read_tree(path).fingerprint


def test_describes_a_tree(tree):
    info = describe_folder(tree, None)
    assert info == DataInfo(
        num_outputs=2,
        input_shape=(3, 6, 6),
        num_train=22,
        num_val=2,
        num_test=4,
        fingerprint=info.fingerprint,
    )
    assert info.fingerprint is not None
    assert len(info.fingerprint) == 16
    assert int(info.fingerprint, 16) >= 0


def test_lists_classes_and_labels(tree):
    found = read_tree(tree)
    assert found.classes == ("ant", "bee")
    assert found.test == ("test/ant/0.png", "test/ant/1.png", "test/bee/0.png", "test/bee/1.png")
    assert found.labels(found.test) == [0, 0, 1, 1]


def test_labels_count_train_classes_where_test_lacks_one(tree):
    shutil.rmtree(tree / "test" / "ant")
    found = read_tree(tree)
    assert found.classes == ("ant", "bee")
    assert found.labels(found.test) == [1, 1]


def test_all_suffixes_in_any_case_count_and_others_do_not(tree, save_image):
    for name in ("a.JPG", "b.jpeg", "c.bmp", "d.WebP", "e.PNG"):
        save_image(tree / "train" / "ant" / name)
    (tree / "train" / "ant" / "notes.txt").write_text("no image")
    (tree / "train" / "ant" / "._00.png").write_text("hidden")
    (tree / "train" / "ant" / "folder.png").mkdir()
    (tree / "train" / ".cache").mkdir()
    assert len(read_tree(tree).train) == 24 + 5


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("RGB", 3), ("P", 3), ("RGBA", 3)]
)
def test_first_image_decides_the_channels(tree, save_image, mode, channels):
    for path in sorted(tree.rglob("*.png")):
        save_image(path, mode=mode)
    assert describe_folder(tree, None).channels == channels


def test_images_unlike_the_first_are_told_before_training(tree, save_image):
    for name in ("02", "03", "04", "05", "06"):
        save_image(tree / "train" / "bee" / f"{name}.png", size=(9, 7))
    with pytest.raises(ConfigError) as refused:
        describe_folder(tree, None)
    assert len(refused.value.problems) == 4
    assert all("9x7" in problem for problem in refused.value.problems[:3])
    assert "2 more" in refused.value.problems[3]
    assert describe_folder(tree, 4).input_shape == (3, 4, 4)


@pytest.mark.parametrize(("num_train", "num_val"), [(2, 1), (4, 1), (14, 1), (16, 2)])
def test_a_tenth_is_for_validation(tmp_path, save_image, num_train, num_val):
    for i in range(num_train):
        save_image(tmp_path / "train" / "ant" / f"{i}.png", seed=i)
    save_image(tmp_path / "test" / "ant" / "0.png")
    info = describe_folder(tmp_path, None)
    assert (info.num_val, info.num_train) == (num_val, num_train - num_val)


# --------------------------------------------------------------------------- fingerprint


def test_moving_leaves_the_fingerprint(tree, tmp_path):
    before = fingerprint(tree)
    moved = tree.rename(tmp_path / "elsewhere")
    assert fingerprint(moved) == before


def test_relative_paths_and_links_lead_to_the_same_tree(tree, monkeypatch):
    before = fingerprint(tree)
    (tree.parent / "link").symlink_to(tree)
    monkeypatch.chdir(tree.parent)
    assert fingerprint(Path("tree")) == before
    assert fingerprint(Path("link")) == before


def change_byte(tree):
    path = tree / "test/bee/1.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def move(*pairs):
    """A change that renames files or folders."""

    def change(tree):
        for source, target in pairs:
            (tree / source).rename(tree / target)

    return change


CHANGES = {
    "a byte": change_byte,
    "a file's name": move(("train/ant/03.png", "train/ant/x.png")),
    "a class's name": move(("train/ant", "train/asp"), ("test/ant", "test/asp")),
    "a class": move(("train/ant/03.png", "train/bee/x03.png")),
    "two images swapped": move(
        ("train/ant/00.png", "x.png"),
        ("train/bee/00.png", "train/ant/00.png"),
        ("x.png", "train/bee/00.png"),
    ),
    "a file gone": lambda tree: (tree / "train/ant/03.png").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_changes_the_fingerprint(tree, change):
    before = fingerprint(tree)
    change(tree)
    assert fingerprint(tree) != before


def test_files_that_are_no_images_do_not_count(tree):
    before = fingerprint(tree)
    (tree / "README.md").write_text("about")
    (tree / "train" / "ant" / "Thumbs.db").write_text("cache")
    assert fingerprint(tree) == before


# --------------------------------------------------------------------------- errors


def no_class_folder(tree):
    shutil.rmtree(tree / "train")
    (tree / "train").mkdir()
    (tree / "train/flat.png").write_text("not in a class folder")


WRONG = {
    r"tree is not a folder: give the": shutil.rmtree,
    r"has no folder train/: images lie in train/<class>": lambda t: shutil.rmtree(t / "train"),
    r"has no folder test/: images lie in train/<class>": lambda t: shutil.rmtree(t / "test"),
    r"has no class folder in train/": no_class_folder,
    r"has no images in train/cat/: put files \(\.png, ": lambda t: (t / "train/cat/images").mkdir(
        parents=True
    ),
    r"test classes without training images \(asp\): add train/asp/ or": lambda t: shutil.copytree(
        t / "test/ant", t / "test/asp"
    ),
    r"ant/00\.png is not a readable image.*replace or": lambda t: (
        t / "train/ant/00.png"
    ).write_bytes(b"no image"),
}


@pytest.mark.parametrize(("message", "spoil"), WRONG.items())
def test_a_wrong_layout_is_refused(tree, message, spoil):
    spoil(tree)
    with pytest.raises(ConfigError, match=message):
        describe_folder(tree, None)


def test_single_training_image(tmp_path, save_image):
    save_image(tmp_path / "train" / "ant" / "0.png")
    save_image(tmp_path / "test" / "ant" / "0.png")
    with pytest.raises(ConfigError, match=r"holds 1 training image: add some"):
        describe_folder(tmp_path, None)


def test_oblong_images(tree, save_image):
    save_image(tree / "train" / "ant" / "00.png", size=(8, 6))
    with pytest.raises(ConfigError, match=r"00\.png is 8x6 pixels.*dataset\.image_size=32"):
        describe_folder(tree, None)
    assert describe_folder(tree, 6).image_size == 6


def test_unreadable_file(tree, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"\.png is not a readable image.*Permission denied"):
        describe_folder(tree, None)
