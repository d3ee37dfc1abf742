"""A folder of images as tensors, in memory or, where they are too large, in a file.

A data set larger than ``max_bytes`` is decoded once into a file of raw pixels, and its tensors
are views of that file: the operating system reads the pages that a batch touches and drops them
when memory runs short. This stands in for a DataLoader with workers, because it keeps one
interface (a tensor to index), shares one copy among all cells of a machine, and decodes each
image once instead of once per epoch.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samsweep.config import ConfigError, DataInfo
from samsweep.data.folder_tree import describe_folder, format_of_tree, read_tree
from samsweep.data.images import decoded
from samsweep.data.splits import Split, SplitData, channel_moments, fixed_permutation
from samsweep.system.guard import guarded

#: 8 GiB, about 57,000 colour images of 224x224.
MAX_BYTES = 8 * 2**30


def load_folder(
    path: Path, *, image_size: int | None = None, data_dir: Path, max_bytes: int = MAX_BYTES
) -> SplitData:
    """The images below ``train/<class>/`` and ``test/<class>/``, a tenth of training set aside.

    Mean and standard deviation are those of the training images. Images become RGB, or stay one
    channel where the first one is grayscale. Transparency is dropped.

    Args:
        path: Folder of the images.
        image_size: Side in pixels that all images are resized to (bilinear, antialiased, without
            keeping the aspect ratio); None where all are squares of one size.
        data_dir: Folder for the file of raw pixels, used above ``max_bytes``.
        max_bytes: Largest data set that is kept in memory, in bytes of raw pixels.

    Raises:
        ConfigError: If the folder is not laid out like that, an image is damaged, or the images
            do not have one size and ``image_size`` is None.
    """
    tree = read_tree(path)
    info = describe_folder(path, image_size)
    order = fixed_permutation(len(tree.train)).tolist()
    files = tuple(tree.train[i] for i in order) + tree.test
    wanted = format_of_tree(tree, image_size)
    pixels = (decoded(tree.root / file, str(tree.root / file), wanted) for file in files)
    return stored(
        enumerate(pixels),
        torch.tensor(tree.labels(files)),
        info,
        file=data_dir / f"image_folder-{tree.fingerprint}",
        root=tree.root,
        max_bytes=max_bytes,
    )


def stored(
    pixels: Iterator[tuple[int, NDArray[np.uint8]]],
    labels: Tensor,
    info: DataInfo,
    *,
    file: Path,
    root: Path,
    max_bytes: int,
) -> SplitData:
    """Images in memory, or in a file where they are too large, cut to splits.

    Args:
        pixels: Index and raw pixels, uint8, shape (C, H, W), of each image in any order.
        labels: int64, shape (N,): those of training, validation and test in this order.
        info: Numbers and shape.
        file: Of the raw pixels, without its end, which is the shape.
        root: Where they come from, for messages.
        max_bytes: Largest data set that is kept in memory.

    Raises:
        ConfigError: If the file has no room.
    """
    shape = (len(labels), *info.input_shape)
    in_memory = math.prod(shape) <= max_bytes
    if in_memory:
        images = torch.empty(shape, dtype=torch.uint8)
        rows = images.numpy()
        for index, array in pixels:
            rows[index] = array
    else:
        file = file.with_name(f"{file.name}-{'x'.join(map(str, shape[1:]))}.uint8")
        _write_once(file, pixels, shape, root)
        # Writing to the tensor would not reach the file.
        flat = torch.from_file(str(file), shared=False, size=math.prod(shape), dtype=torch.uint8)
        images = flat.view(shape)
    sizes = [info.num_train, info.num_val, info.num_test]
    parts = zip(torch.split(images, sizes), torch.split(labels, sizes), strict=True)
    train, val, test = (Split(inputs=x, labels=y, in_memory=in_memory) for x, y in parts)
    mean, std = channel_moments(train.inputs)
    return SplitData(
        train=train, val=val, test=test, mean=mean, std=std, num_classes=info.num_outputs
    )


# --------------------------------------------------------------------------- file of raw pixels


def _write_once(
    path: Path,
    pixels: Iterator[tuple[int, NDArray[np.uint8]]],
    shape: tuple[int, ...],
    root: Path,
) -> None:
    """Write the file of raw pixels, unless another process has."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _is_complete(path, shape):
            with guarded(path.with_name(f".{path.name}.lock")):
                if not _is_complete(path, shape):
                    _write(path, pixels)
    except OSError as error:
        raise ConfigError(
            f"data_dir={path.parent} cannot hold the {math.prod(shape) / 2**30:.1f} GiB of pixels "
            f"of {root}, which are too many for memory ({error}): set data_dir=FOLDER to "
            "one with room, or a smaller dataset.image_size."
        ) from error


def _is_complete(path: Path, shape: tuple[int, ...]) -> bool:
    return path.is_file() and path.stat().st_size == math.prod(shape)


def _write(path: Path, pixels: Iterator[tuple[int, NDArray[np.uint8]]]) -> None:
    """Write pixels image by image, each to its place, and show the file only when it is whole."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        # Plain writes: on a full disk they raise, where a memory map would be killed by SIGBUS.
        with part.open("wb") as stream:
            for index, array in pixels:
                stream.seek(index * array.nbytes)
                stream.write(array.tobytes())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
