"""Images in Parquet files, as Hugging Face lays its image data sets out.

Files are named after their split, ``train-00000-of-00001.parquet``, and lie in the folder or in its
``data/``; validation files are optional. A row holds an encoded image (bytes, or a struct with the
field ``bytes``) and its label, an integer from 0 or a text. ``hf download REPO --repo-type dataset
--local-dir FOLDER`` makes such a folder; nothing is downloaded here.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from samsweep.config import ConfigError, DataInfo
from samsweep.data.folder_tree import fingerprint
from samsweep.data.images import Format, check_once, decoded, format_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from samsweep.data.splits import SplitData

#: Beginnings of the names of a split's files.
_SPLITS = {"train": ("train",), "val": ("validation", "valid", "val"), "test": ("test",)}
_LAYOUT = "train-*.parquet and test-*.parquet, and validation-*.parquet where there are such"
#: The name of a file that is one of several.
_PART = re.compile(r"(?P<split>.+)-(?P<number>\d+)-of-(?P<count>\d{1,6})\.parquet")
#: Columns that are meant where there are several of their kind.
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels")
#: Rows that are in memory at a time.
_BATCH = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """Parquet files and what is read of them.

    Args:
        root: The folder that they lie in.
        files: Names of each split's files, sorted; no key ``val`` where there are none.
        image: Column of the images.
        labels: Of each split, int64, in the order of its rows.
        fingerprint: Of names and contents of all files.
    """

    root: Path
    files: dict[str, tuple[str, ...]]
    image: str
    labels: dict[str, NDArray[np.int64]]
    fingerprint: str

    @property
    def num_val(self) -> int:
        """Validation images: those given, or a tenth of training, at least one."""
        if "val" in self.labels:
            return len(self.labels["val"])
        return max(1, round(len(self.labels["train"]) / 10))

    def encoded(self, split: str) -> Iterator[bytes]:
        """The images of a split, in the order of its rows."""
        for file in self.files[split]:
            parquet = _open(self.root / file)
            for batch in parquet.iter_batches(batch_size=_BATCH, columns=[self.image]):
                for value in batch.column(0):
                    yield _bytes(value.as_py(), self.root / file, self.image)

    def format(self, image_size: int | None) -> Format:
        """What the first training image decides."""
        first = next(self.encoded("train"))
        return format_of(io.BytesIO(first), self.name("train", 0), image_size)

    def images(self) -> Iterator[tuple[BinaryIO, str]]:
        """All of them with their names."""
        for split in self.labels:
            for row, encoded in enumerate(self.encoded(split)):
                yield io.BytesIO(encoded), self.name(split, row)

    def name(self, split: str, row: int) -> str:
        """An image's, for messages."""
        return f"dataset.path={self.root}: image {row} of {split}"


def describe_parquet(
    path: Path,
    image_size: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> DataInfo:
    """Classes, sizes, counts and fingerprint of Parquet files.

    Channels (and the size, where ``image_size`` is None) are those of the first training image.
    The headers of the others, and the pixels of some, are looked at once.

    Args:
        path: Folder of the files, or of the folder ``data`` with them.
        image_size: Side that the images will be resized to, in pixels; None keeps their own.
        image_column: Name of the images' column; None where there is one, or one named image or
            img.
        label_column: Name of the labels' column; None where there is one, or one named label.

    Raises:
        ConfigError: If there are no such files or columns, a file of several is missing, labels
            are no classes, an image is damaged or unlike the first, or that one is not square and
            ``image_size`` is None.
    """
    table = _read(path, image_column, label_column)
    labels = table.labels["train"]
    num_val = table.num_val
    wanted = table.format(image_size)
    num = sum(map(len, table.labels.values()))
    check_once(table.images(), num, wanted, f"{table.fingerprint} {table.image}")
    return DataInfo(
        num_outputs=int(labels.max()) + 1,
        input_shape=wanted.shape,
        num_train=len(labels) if "val" in table.labels else len(labels) - num_val,
        num_val=num_val,
        num_test=len(table.labels["test"]),
        fingerprint=table.fingerprint,
    )


def load_parquet(
    path: Path,
    *,
    image_size: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    data_dir: Path,
    max_bytes: int | None = None,
) -> SplitData:
    """The images of Parquet files, decoded as :func:`~samsweep.data.image_folder.load_folder` does.

    Training images are in a fixed random order, of which the last tenth is set aside where there
    are no validation files.

    Args:
        path: See :func:`describe_parquet`.
        image_size: See there.
        image_column: See there.
        label_column: See there.
        data_dir: Folder for the file of raw pixels, used above ``max_bytes``.
        max_bytes: Largest data set that is kept in memory, in bytes of raw pixels; None is
            image_folder's.

    Raises:
        ConfigError: As :func:`describe_parquet`, or if any image is damaged or unlike the first.
    """
    import torch

    from samsweep.data.image_folder import MAX_BYTES, stored
    from samsweep.data.splits import fixed_permutation

    table = _read(path, image_column, label_column)
    info = describe_parquet(path, image_size, image_column, label_column)
    order = fixed_permutation(len(table.labels["train"])).numpy()
    labels = {**table.labels, "train": table.labels["train"][order]}
    places = {split: np.arange(len(values)) for split, values in labels.items()}
    places["train"] = np.argsort(order)
    splits = [split for split in _SPLITS if split in labels]
    wanted = table.format(image_size)

    def pixels() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        start = 0
        for split in splits:
            for row, encoded in enumerate(table.encoded(split)):
                image = decoded(io.BytesIO(encoded), table.name(split, row), wanted)
                yield start + int(places[split][row]), image
            start += len(labels[split])

    return stored(
        pixels(),
        torch.from_numpy(np.concatenate([labels[split] for split in splits])),
        info,
        file=data_dir / f"parquet-{info.fingerprint}-{table.image}",
        root=table.root,
        max_bytes=MAX_BYTES if max_bytes is None else max_bytes,
    )


def _read(path: Path, image_column: str | None, label_column: str | None) -> _Table:
    path = path.expanduser().resolve()
    root, files = _find(path)
    state = tuple((root / f).stat().st_mtime_ns for names in files.values() for f in names)
    return _read_once(root, tuple(files.items()), image_column, label_column, state)


def _find(path: Path) -> tuple[Path, dict[str, tuple[str, ...]]]:
    """The folder of the files and their names."""
    for root in (path, path / "data"):
        files = {
            split: tuple(
                sorted(
                    file.name
                    for start in starts
                    for pattern in (f"{start}.parquet", f"{start}-*.parquet")
                    for file in root.glob(pattern)
                )
            )
            for split, starts in _SPLITS.items()
        }
        if files["train"]:
            break
    lacking = [split for split in ("train", "test") if not files[split]]
    if lacking:
        raise ConfigError(
            f"dataset.path={path} has no {lacking[0]}-*.parquet, nor has its folder data/: give a "
            f"folder with {_LAYOUT}."
        )
    missing = [name for names in files.values() for name in _missing_files(names)]
    if missing:
        raise ConfigError(
            f"dataset.path={root} has not all of its files ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''} missing): fetch them, or rename those that are "
            "there if they are all that is meant."
        )
    return root, {split: names for split, names in files.items() if names}


def _missing_files(names: Iterable[str]) -> list[str]:
    """The parts that a split lacks of those that its files' names count.

    >>> _missing_files(["train-00000-of-00002.parquet"])
    ['train-00001-of-00002.parquet']
    """
    there = set(names)
    parts = [part for part in map(_PART.fullmatch, there) if part]
    every = {
        f"{part['split']}-{number:0{len(part['number'])}}-of-{part['count']}.parquet"
        for part in parts
        for number in range(int(part["count"]))
    }
    return sorted(every - there)


@functools.lru_cache(maxsize=16)
def _read_once(
    root: Path,
    files: tuple[tuple[str, tuple[str, ...]], ...],
    image_column: str | None,
    label_column: str | None,
    _state: tuple[int, ...],
) -> _Table:
    by_split = dict(files)
    schema = _open(root / by_split["train"][0]).schema_arrow
    image = _chosen(root, schema, "image", image_column, _IMAGE_COLUMNS)
    label = _chosen(root, schema, "label", label_column, _LABEL_COLUMNS)
    values = {
        split: np.concatenate([_column(root / name, label) for name in names])
        for split, names in files
    }
    return _Table(
        root=root,
        files=by_split,
        image=image,
        labels=_classes(root, label, values),
        fingerprint=fingerprint(root, (name for names in by_split.values() for name in names)),
    )


def _open(file: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{file} is not a readable Parquet file ({error}): replace it.") from None


def _chosen(
    root: Path, schema: pa.Schema, kind: str, name: str | None, usual: tuple[str, ...]
) -> str:
    """The column of the images or labels.

    Raises:
        ConfigError: If there is none, or no telling which of several.
    """
    found = [field.name for field in schema if _fits(field.type, kind)]
    if name is not None and name not in found:
        raise ConfigError(
            f"dataset.args.{kind}_column={name}: dataset.path={root} has no such column of "
            f"{kind}s; choose among {', '.join(found) or 'none'}."
        )
    candidates = [column for column in usual if column in found][:1] or found
    if name is None and len(candidates) != 1:
        what = "several columns" if candidates else "no column"
        remedy = f"set dataset.args.{kind}_column=NAME, one of {', '.join(found)}"
        needs = "images are encoded bytes, labels integers or texts"
        raise ConfigError(
            f"dataset.path={root} has {what} of {kind}s: {remedy if candidates else needs}."
        )
    return name or candidates[0]


def _fits(kind: pa.DataType, what: str) -> bool:
    from pyarrow import types

    if what == "label":
        return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))
    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _column(file: Path, name: str) -> NDArray[Any]:
    parquet = _open(file)
    if name not in parquet.schema_arrow.names:
        raise ConfigError(f"{file} has no column {name}: give all files the same columns.")
    column = parquet.read(columns=[name]).column(0)
    if column.null_count:
        raise ConfigError(f"{file} has {column.null_count} rows without a {name}: drop them.")
    values: NDArray[Any] = column.to_numpy()
    return values


def _classes(
    root: Path, label: str, values: dict[str, NDArray[Any]]
) -> dict[str, NDArray[np.int64]]:
    """Labels as classes: integers as they are, texts by their sorted order in training.

    Raises:
        ConfigError: If there are too few, or some that no training image has.
    """
    for split, some in values.items():
        if len(some) < (2 if split == "train" else 1):
            raise ConfigError(f"dataset.path={root} has {len(some)} images of {split}, too few.")
    known = np.unique(values["train"])
    problems = []
    for split, some in values.items():
        unknown = some[(some < 0) | (some > known[-1])] if known.dtype.kind in "iu" else None
        if unknown is None:
            unknown = some[~np.isin(some, known)]
        if len(unknown) and known.dtype.kind in "iu" and unknown[0] < 0:
            problems.append(
                f"dataset.path={root}: {label} {unknown[0]} of {split} is negative: classes are "
                "integers from 0."
            )
        elif len(unknown):
            problems.append(
                f"dataset.path={root}: {label} {unknown[0]} of {split} is none of the classes "
                f"{known[0]} to {known[-1]} of train: remove its rows, or choose another "
                "dataset.args.label_column."
            )
    if problems:
        raise ConfigError(*problems)
    if known.dtype.kind in "iu":
        return {split: some.astype(np.int64) for split, some in values.items()}
    return {split: np.searchsorted(known, some) for split, some in values.items()}


def _bytes(value: Any, file: Path, column: str) -> bytes:
    encoded = value.get("bytes") if isinstance(value, dict) else value
    if not encoded:
        raise ConfigError(
            f"{file} has rows of {column} without bytes: save the data set with its images "
            "embedded, as push_to_hub does."
        )
    return bytes(encoded)
