"""What a folder of images holds, found without torch and without decoding more than a few of them.

The layout is one folder per class, ``train/<class>/*.png`` and ``test/<class>/*.png``.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from samsweep.config import ConfigError, DataInfo
from samsweep.data.images import Format, check_once, damaged, format_of

#: Suffixes of the files that count as images, in lower case; others are ignored.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")

_LAYOUT = "train/<class>/*.png and test/<class>/*.png"


@dataclass(frozen=True, kw_only=True)
class FolderTree:
    """The images of a folder.

    Args:
        root: Absolute path of the folder.
        classes: Sorted names of the classes; a label is an index into them.
        train: Paths relative to ``root`` of the training images, sorted.
        test: The same for the test images.
        fingerprint: 16 hex digits of a SHA-256 over relative paths and contents. Moving the
            folder leaves it as it is.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    fingerprint: str

    @property
    def num_val(self) -> int:
        """Training images set aside for validation: a tenth, at least one."""
        return max(1, round(len(self.train) / 10))

    def labels(self, files: tuple[str, ...]) -> list[int]:
        """Class indices of some of the files."""
        index = {name: label for label, name in enumerate(self.classes)}
        return [index[file.split("/")[1]] for file in files]


def describe_folder(path: Path, image_size: int | None = None) -> DataInfo:
    """Classes, sizes, counts and fingerprint of a folder of images.

    Channels (and the size, where ``image_size`` is None) are those of the first training image:
    one channel if it is a grayscale image, three otherwise. The headers of the others, and the
    pixels of some, are looked at once.

    Args:
        path: Folder with ``train/<class>/`` and ``test/<class>/``.
        image_size: Side that the images will be resized to, in pixels; None keeps their own.

    Raises:
        ConfigError: If the folder is not laid out like that, an image is damaged or unlike the
            first, or that one is not square and ``image_size`` is None.
    """
    tree = read_tree(path)
    wanted = format_of_tree(tree, image_size)
    files = tree.train + tree.test
    images = ((tree.root / file, str(tree.root / file)) for file in files)
    check_once(images, len(files), wanted, tree.fingerprint)
    return DataInfo(
        num_outputs=len(tree.classes),
        input_shape=wanted.shape,
        num_train=len(tree.train) - tree.num_val,
        num_val=tree.num_val,
        num_test=len(tree.test),
        fingerprint=tree.fingerprint,
    )


def format_of_tree(tree: FolderTree, image_size: int | None) -> Format:
    """What the first training image decides.

    Raises:
        ConfigError: See :func:`~samsweep.data.images.format_of`.
    """
    first = tree.root / tree.train[0]
    return format_of(first, str(first), image_size)


def read_tree(path: Path) -> FolderTree:
    """List and hash the images of a folder, once per process and folder.

    Raises:
        ConfigError: If the folder is not laid out as described above.
    """
    return _read_tree(path.expanduser().resolve())


def fingerprint(root: Path, files: Iterable[str]) -> str:
    """16 hex digits over the sorted (relative path, content hash) pairs.

    Raises:
        ConfigError: If a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        try:
            with (root / file).open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            raise damaged(root / file, error) from error
        # A path cannot hold a zero byte and a digest has a fixed length: no two lists collide.
        digest.update(os.fsencode(file) + b"\0" + content)
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=16)
def _read_tree(root: Path) -> FolderTree:
    if not root.is_dir():
        raise ConfigError(
            f"dataset.path={root} is not a folder: give the folder that holds {_LAYOUT}."
        )
    train, test = _images_by_class(root, "train"), _images_by_class(root, "test")
    unknown = sorted(test.keys() - train.keys())
    if unknown:
        raise ConfigError(
            f"dataset.path={root} has test classes without training images "
            f"({', '.join(unknown[:5])}): add train/{unknown[0]}/ or remove test/{unknown[0]}/."
        )
    train_files, test_files = (
        tuple(sorted(chain.from_iterable(part.values()))) for part in (train, test)
    )
    if len(train_files) < 2:
        raise ConfigError(
            f"dataset.path={root} holds 1 training image: add some, at least 2 are needed because "
            "one is set aside for validation."
        )
    return FolderTree(
        root=root,
        classes=tuple(sorted(train)),
        train=train_files,
        test=test_files,
        fingerprint=fingerprint(root, train_files + test_files),
    )


def _images_by_class(root: Path, part: str) -> dict[str, list[str]]:
    """Relative paths of the images of ``train`` or ``test``, by class."""
    if not (root / part).is_dir():
        raise ConfigError(f"dataset.path={root} has no folder {part}/: images lie in {_LAYOUT}.")
    by_class = {
        folder.name: [
            f"{part}/{folder.name}/{file.name}"
            for file in _visible(folder.path)
            if file.name.lower().endswith(SUFFIXES) and file.is_file()
        ]
        for folder in _visible(root / part)
        if folder.is_dir()
    }
    if not by_class:
        raise ConfigError(
            f"dataset.path={root} has no class folder in {part}/: images lie in {_LAYOUT}."
        )
    for name, files in by_class.items():
        if not files:
            raise ConfigError(
                f"dataset.path={root} has no images in {part}/{name}/: put files "
                f"({', '.join(SUFFIXES)}) directly into it, or remove it."
            )
    return by_class


def _visible(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder without hidden ones, such as macOS's ``._image.png``."""
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))
