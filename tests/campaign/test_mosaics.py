"""Images into archives and back."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from campaign.mosaics import ArchiveError, pack, unpack
from samsweep.data.folder_tree import read_tree


@pytest.fixture
def images(tmp_path):
    """Six folders of 7 images each, by path."""
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("apple", "bear", "cloud"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for index in range(7):
                pixels = draws.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return tmp_path / "images"


def pixels(folder):
    return {
        str(file.relative_to(folder).with_suffix("")): np.asarray(Image.open(file)).tobytes()
        for file in folder.rglob("*.*")
    }


def test_pixels_survive_in_any_order_of_archives(images, tmp_path):
    archives = pack(images, tmp_path / "all.tar", 3)
    assert [archive.name for archive in archives] == ["all-1.tar", "all-2.tar", "all-3.tar"]
    assert sum(unpack(tmp_path / "out", [archive]) for archive in reversed(archives)) == 42
    assert pixels(tmp_path / "out") == pixels(images)


def test_the_fingerprint_is_that_of_the_pixels(images, tmp_path):
    archives = pack(images, tmp_path / "all.tar", 2)
    unpack(tmp_path / "one", archives)
    unpack(tmp_path / "two", archives[1:])
    unpack(tmp_path / "two", archives[:1])
    assert read_tree(tmp_path / "one").fingerprint == read_tree(tmp_path / "two").fingerprint


def test_an_interrupted_class_is_no_class_and_is_done_again(images, tmp_path):
    archives = pack(images, tmp_path / "all.tar", 1)
    left_behind = tmp_path / "out/train/.apple"
    left_behind.mkdir(parents=True)
    (left_behind / "000.bmp").write_text("half")
    assert unpack(tmp_path / "out", archives) == 42
    assert unpack(tmp_path / "out", archives) == 42
    assert pixels(tmp_path / "out") == pixels(images)


@pytest.mark.parametrize("name", ["../train/x.webp", "/etc/x.webp", "train/a/b.webp", "train/x.py"])
def test_other_names_are_refused(tmp_path, name):
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(ArchiveError, match=r"bad\.tar.*train/<class>\.webp"):
        unpack(tmp_path / "out", [tmp_path / "bad.tar"])
    assert not (tmp_path / "out").exists()


def test_other_sizes_are_refused(images, tmp_path):
    Image.new("RGB", (16, 16)).save(images / "train/apple/003.png")
    with pytest.raises(ArchiveError, match=r"003\.png is \(16, 16\)"):
        pack(images, tmp_path / "all.tar", 1)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match="train/<class>/"):
        pack(tmp_path, tmp_path / "all.tar", 1)
