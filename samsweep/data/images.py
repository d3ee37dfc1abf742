"""Encoded images: what a data set's first one decides, and whether the others agree. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from samsweep.config import ConfigError
from samsweep.system.cache import cached_file, keep

if TYPE_CHECKING:
    from PIL.Image import Image

#: Modes of Pillow that hold one channel of at most 8 bits.
GRAY_MODES = ("1", "L")
#: Modes of 16 or 32 bits per pixel, which Pillow would clip to 8 without a word.
_DEEP_MODES = ("I", "F")
#: Images of a data set that are decoded before it is trained on; of the others the header is read.
_DECODED = 64
#: Problems that are told.
_MOST_TOLD = 3


@dataclass(frozen=True, kw_only=True)
class Format:
    """What the images of a data set have in common.

    Args:
        channels: 1 if the first training image is grayscale, else 3.
        side: Height and width in pixels.
        resizes: Whether other sizes are resized rather than refused.
        first: Name of that image, for messages.
    """

    channels: int
    side: int
    resizes: bool
    first: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (self.channels, self.side, self.side)


def format_of(file: Path | BinaryIO, name: str, image_size: int | None = None) -> Format:
    """The format that the first image of a data set decides, by its header.

    Args:
        file: Its file, or its bytes.
        name: For messages.
        image_size: Side that all will be resized to, in pixels; None keeps its own.

    Raises:
        ConfigError: If it is damaged, or is not square and is to keep its size.
    """
    image = _opened(file, name)
    width, height = image.size
    if image_size is None and width != height:
        raise ConfigError(
            f"{name} is {width}x{height} pixels, and images must be square: "
            "set dataset.image_size=32 (or another side) to resize all of them."
        )
    return Format(
        channels=1 if image.mode in GRAY_MODES else 3,
        side=image_size or height,
        resizes=image_size is not None,
        first=name,
    )


def decoded(file: Path | BinaryIO, name: str, wanted: Format) -> NDArray[np.uint8]:
    """Raw pixels of an image, uint8, shape (C, H, W).

    Args:
        file: Its file, or its bytes.
        name: Of the image, for messages.
        wanted: Channels and size.

    Raises:
        ConfigError: If it is damaged, or unlike the first.
    """
    image = _opened(file, name, decode=True)
    _refuse_unlike(image, name, wanted)
    image = image.convert("L" if wanted.channels == 1 else "RGB")
    side = wanted.side
    if image.size != (side, side):
        from PIL import Image

        # Pillow widens the filter when it shrinks an image: antialiased by nature.
        image = image.resize((side, side), Image.Resampling.BILINEAR)
    pixels: NDArray[np.uint8] = np.asarray(image, dtype=np.uint8)
    return pixels.reshape(side, side, wanted.channels).transpose(2, 0, 1)


def check_once(
    images: Iterable[tuple[Path | BinaryIO, str]], num: int, wanted: Format, fingerprint: str
) -> None:
    """:func:`check` what has not been checked before, by its contents.

    Args:
        images: See there.
        num: See there.
        wanted: See there.
        fingerprint: Of the images' contents.
    """
    key = f"{fingerprint} {wanted.shape} {wanted.resizes}"
    file = cached_file("images", hashlib.sha256(key.encode()).hexdigest()[:20])
    if key in _checked or file.exists():
        return
    check(images, num, wanted)
    _checked.add(key)
    keep(file, "")


#: Where there is no cache, a grid asks at every point.
_checked: set[str] = set()


def check(images: Iterable[tuple[Path | BinaryIO, str]], num: int, wanted: Format) -> None:
    """Look at the headers of all images, and at the pixels of some.

    Args:
        images: Each with its name, for messages.
        num: How many there are.
        wanted: Channels and size.

    Raises:
        ConfigError: With what is wrong, of several images of the first ones.
    """
    step = max(1, num // _DECODED)
    problems: list[str] = []
    for index, (file, name) in enumerate(images):
        try:
            # The last one too: what is cut off in the middle lacks its end.
            decode = index % step == 0 or index == num - 1
            _refuse_unlike(_opened(file, name, decode=decode), name, wanted)
        except ConfigError as error:
            problems += error.problems
    if len(problems) > _MOST_TOLD:
        problems[_MOST_TOLD:] = [f"{len(problems) - _MOST_TOLD} more images are like that."]
    if problems:
        raise ConfigError(*problems)


def damaged(path: Path | str, error: Exception) -> ConfigError:
    """The error about a file that Pillow cannot read."""
    return ConfigError(f"{path} is not a readable image ({error}): replace or delete it.")


def _refuse_unlike(image: Image, name: str, wanted: Format) -> None:
    """Refuse what cannot become an image of the format.

    Raises:
        ConfigError: With the remedy.
    """
    first, side = wanted.first, wanted.side
    if image.mode.startswith(_DEEP_MODES):
        raise ConfigError(
            f"{name} has more than 8 bits per pixel (mode {image.mode}): convert it to "
            "8-bit grayscale or RGB."
        )
    if wanted.channels == 1 and image.mode not in GRAY_MODES:
        raise ConfigError(
            f"{name} is in colour (mode {image.mode}) but {first} is grayscale: convert all "
            "images to one of the two."
        )
    if not wanted.resizes and image.size != (side, side):
        raise ConfigError(
            f"{name} is {image.width}x{image.height} pixels but {first} is {side}x{side}: set "
            "dataset.image_size=32 (or another side) to resize all of them."
        )


def _opened(file: Path | BinaryIO, name: str, *, decode: bool = False) -> Image:
    """An image whose header, or all of it, has been read; its file closed."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if decode:
                image.load()
            return image
    # Pillow's decoders raise all of these for damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise damaged(name, error) from error
