"""Folders of images: a tiny one that tests may change, and a real one."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MINI = Path(__file__).parents[2].parent / "shared" / "data" / "cifar100-mini.tar"

SaveImage = Callable[..., Path]


@pytest.fixture
def save_image():
    """Save an image of reproducible noise."""

    def save(path, *, size=(6, 6), mode="RGB", seed=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = size
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).convert(mode).save(path)
        return path

    return save


@pytest.fixture
def tree(tmp_path, save_image):
    """Two classes with 12 training images and 2 test images each, all different."""
    root = tmp_path / "tree"
    for c, name in enumerate(("ant", "bee")):
        for i in range(12):
            save_image(root / "train" / name / f"{i:02}.png", seed=100 * c + i)
        for i in range(2):
            save_image(root / "test" / name / f"{i}.png", seed=1000 + 100 * c + i)
    return root


@pytest.fixture(scope="session")
def cifar100_mini(tmp_path_factory):
    """12,000 images of CIFAR-100 as a class-folder tree."""
    if not MINI.is_file():
        pytest.skip(f"{MINI.name} is not in shared/data beside the repository")
    root = tmp_path_factory.mktemp("cifar100_mini")
    with tarfile.open(MINI) as archive:
        archive.extractall(root, filter="data")
    return root / "cifar100-mini"
