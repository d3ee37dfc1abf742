"""W&B's own files of a cell: what earlier processes told, and where they were cut off.

Every process that works on a cell writes a segment, ``wandb/[offline-]run-<time>-<id>/*.wandb``.
W&B writes it in blocks, so that one of a process that was killed lacks the latest rows and ends in
the middle of a record, or holds nothing at all. ``wandb sync`` stops at such a file and leaves out
the segments that follow; it is mended before the next one is begun.

A file is a log in LevelDB's format (https://github.com/google/leveldb/blob/main/doc/log_format.md)
with a header of its own and plain CRC-32 checksums; its entries are W&B's ``Record`` messages.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_BLOCK = 32768
_FILE_HEADER = struct.Struct("<4sHB")
_MAGIC = (b":W&B", 0xBEE1)
_CHUNK_HEADER = struct.Struct("<IHB")
#: Kinds of chunks, in the order in which a record that is cut at ends of blocks has them.
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def segment_files(folder: Path) -> list[Path]:
    """The files of a cell's segments, oldest first; not W&B's link to the latest.

    Args:
        folder: The cell's folder.
    """
    found = [path for path in folder.glob("wandb/*run-*/*.wandb") if not path.parent.is_symlink()]
    return sorted(found, key=lambda path: path.parent.name.removeprefix("offline-"))


def mend_segments(folder: Path) -> int:
    """Cut what was left unfinished to its whole records, and remove segments that hold none.

    Args:
        folder: The cell's folder, on which no other process works.

    Returns:
        The last step that a segment holds; 0 if there is none.
    """
    last = 0
    for file in segment_files(folder):
        content = file.read_bytes()
        records, end = read_segment(content)
        if not any(record.HasField("run") for record in records):
            shutil.rmtree(file.parent)
            continue
        if end < len(content):
            os.truncate(file, end)
        last = max(last, *(record.history.step.num for record in records))
    return last


def read_segment(content: bytes) -> tuple[list[Any], int]:
    """The records of a file as far as they are whole, and how many bytes they take."""
    # The generated module has no types, and its contents depend on the version of protobuf.
    record_type = wandb_internal_pb2.Record  # type: ignore[attr-defined]
    records = []
    end = 0
    for entry, position in _entries(content):
        records.append(record_type.FromString(entry))
        end = position
    return records, end


def _entries(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Each whole entry of a log, and where it ends."""
    if len(content) < _FILE_HEADER.size or _FILE_HEADER.unpack_from(content)[:2] != _MAGIC:
        return
    position = _FILE_HEADER.size
    entry = b""
    while True:
        left_in_block = _BLOCK - position % _BLOCK
        if left_in_block < _CHUNK_HEADER.size:
            position += left_in_block
        if position + _CHUNK_HEADER.size > len(content):
            return
        checksum, length, kind = _CHUNK_HEADER.unpack_from(content, position)
        position += _CHUNK_HEADER.size
        data = content[position : position + length]
        position += length
        if len(data) < length or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return
        entry = data if kind in (_FULL, _FIRST) else entry + data
        if kind in (_FULL, _LAST):
            yield entry, position
