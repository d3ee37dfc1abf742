"""What is looked at of images before anything is trained on them."""

import io

import numpy as np
import pytest
from PIL import Image

from samsweep.config import ConfigError
from samsweep.data import images
from samsweep.data.images import Format, check, check_once

WANTED = Format(channels=3, side=6, resizes=False, first="first.png")


def encoded(seed=0, size=6):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def named(contents):
    return [(io.BytesIO(content), f"{place}.png") for place, content in enumerate(contents)]


def test_all_headers_are_read_and_some_images_decoded(monkeypatch):
    monkeypatch.setattr(images, "_DECODED", 4)
    whole = [encoded(seed) for seed in range(40)]
    check(named(whole), 40, WANTED)
    # An image of another size anywhere, and one that is cut off where pixels are looked at.
    for place in range(40):
        with pytest.raises(ConfigError, match=rf"^{place}\.png is 5x5 pixels"):
            check(named([*whole[:place], encoded(size=5), *whole[place + 1 :]]), 40, WANTED)
    found = []
    for place in range(40):
        cut = [*whole[:place], whole[place][:-40], *whole[place + 1 :]]
        try:
            check(named(cut), 40, WANTED)
        except ConfigError as error:
            assert f"{place}.png is not a readable image" in str(error)
            found.append(place)
    assert found == [0, 10, 20, 30, 39]


def test_the_same_contents_are_looked_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(images, "_checked", set())
    bad = named([encoded(size=5)])
    with pytest.raises(ConfigError):
        check_once(bad, 1, WANTED, "a")
    check_once(named([encoded()]), 1, WANTED, "b")
    for _ in ("of this process", "of another"):
        check_once(bad, 1, WANTED, "b")
        images._checked.clear()
    with pytest.raises(ConfigError):
        check_once(named([encoded(size=5)]), 1, WANTED, "c")
