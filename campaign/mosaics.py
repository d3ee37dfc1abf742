"""A data set of small images in a few archives, and back into the folders that it came from.

A tree of ``train/<class>/`` and ``test/<class>/`` is 60,000 files for CIFAR-100. An archive holds
one picture a class, a mosaic of its images as lossless WebP, and several archives share the
classes, so that each is small enough to be carried alone.

    python -m campaign.mosaics pack FOLDER data/cifar100.tar --parts 3
    python -m campaign.mosaics unpack data/cifar100 data/cifar100-1.tar [...]

Archives may be unpacked one after the other into the same folder. Images are written as BMP, which
has one encoding only: wherever they are unpacked, their bytes and thus the data set's fingerprint,
which is a part of every cell's identity, are the same.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path, PurePosixPath

from PIL import Image

#: Side of an image in pixels.
TILE = 32
#: Images beside each other, at most.
_MOST_COLUMNS = 25
_PARTS = ("train", "test")


class ArchiveError(ValueError):
    """An archive or a folder that holds something else than this module writes."""


def pack(folder: Path, archive: Path, num_parts: int) -> list[Path]:
    """Write the images of a folder into archives.

    Args:
        folder: With ``train/<class>/`` and ``test/<class>/``, images of 32x32 pixels in each.
        archive: Name of the archives; ``-1`` and so on is put before its suffix.
        num_parts: Number of archives, which get about as many classes each.

    Raises:
        ArchiveError: If there are no images, or some are of another size.
    """
    classes = [
        of_class
        for part in _PARTS
        for of_class in sorted((folder / part).glob("[!.]*"))
        if of_class.is_dir()
    ]
    if not classes:
        raise ArchiveError(f"{folder} has no train/<class>/ or test/<class>/.")
    archives = []
    for number in range(num_parts):
        path = archive.with_stem(f"{archive.stem}-{number + 1}")
        with tarfile.open(path, "w") as tar:
            for of_class in classes[number::num_parts]:
                data = _mosaic(sorted(of_class.glob("[!.]*")))
                entry = tarfile.TarInfo(f"{of_class.relative_to(folder)}.webp")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        archives.append(path)
    return archives


def _mosaic(files: Sequence[Path]) -> bytes:
    columns = max(n for n in range(1, _MOST_COLUMNS + 1) if len(files) % n == 0)
    mosaic = Image.new("RGB", (columns * TILE, len(files) // columns * TILE))
    for index, file in enumerate(files):
        with Image.open(file) as image:
            if image.size != (TILE, TILE):
                raise ArchiveError(f"{file} is {image.size}, not {TILE}x{TILE} pixels.")
            mosaic.paste(image.convert("RGB"), (index % columns * TILE, index // columns * TILE))
    stream = io.BytesIO()
    mosaic.save(stream, "webp", lossless=True, exact=True)
    return stream.getvalue()


def unpack(folder: Path, archives: Iterable[Path]) -> int:
    """Write the images of some archives as files, with all cores.

    A class appears when all of its images are there: whatever ends the work, the same call goes on.

    Args:
        folder: Where ``train/<class>/NNN.bmp`` and ``test/<class>/NNN.bmp`` go.
        archives: As :func:`pack` writes them.

    Returns:
        Number of images.

    Raises:
        ArchiveError: If an archive holds something else.
    """
    jobs = [(folder, *entry) for archive in archives for entry in _entries(archive)]
    with ProcessPoolExecutor() as pool:
        return sum(pool.map(_unpack_class, *zip(*jobs, strict=True)))


def _entries(archive: Path) -> Iterable[tuple[str, str, bytes]]:
    """Part, class and mosaic of each entry; the names are checked, for they become folders."""
    with tarfile.open(archive) as tar:
        for entry in tar:
            path = PurePosixPath(entry.name)
            part, name = path.parent.as_posix(), path.stem
            file = tar.extractfile(entry)
            if file is None or part not in _PARTS or path.suffix != ".webp" or name[0] == ".":
                raise ArchiveError(
                    f"{archive} holds {entry.name!r}, where train/<class>.webp and "
                    "test/<class>.webp are meant."
                )
            yield part, name, file.read()


def _unpack_class(folder: Path, part: str, name: str, data: bytes) -> int:
    final = folder / part / name
    aside = final.with_name(f".{name}")
    with Image.open(io.BytesIO(data), formats=["webp"]) as mosaic:
        columns, rows = (side // TILE for side in mosaic.size)
        if final.is_dir():
            return columns * rows
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tiles = mosaic.convert("RGB")
        for index in range(columns * rows):
            x, y = index % columns * TILE, index // columns * TILE
            tiles.crop((x, y, x + TILE, y + TILE)).save(aside / f"{index:03d}.bmp")
    aside.rename(final)
    return columns * rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m campaign.mosaics", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument("archive", type=Path)
    packing.add_argument("--parts", type=int, default=3)
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("folder", type=Path)
    unpacking.add_argument("archives", type=Path, nargs="+")
    given = parser.parse_args()
    if given.command == "pack":
        for archive in pack(given.folder, given.archive, given.parts):
            print(f"{archive}: {archive.stat().st_size / 2**20:.1f} MiB")
    else:
        number = unpack(given.folder, given.archives)
        print(f"{number} images of {len(given.archives)} archives are in {given.folder}")


if __name__ == "__main__":
    main()
