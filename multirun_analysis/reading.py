"""Files of a study, read with caution: each may be half written, foreign, or made to do harm.

Nothing that is read is executed. Only ``record.json`` and ``history.jsonl`` are opened at all, and
only where they are regular files of a sensible size that lie in the study's own folders: a link
could lead anywhere, a pipe could make the reader wait for ever.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from multirun_analysis.labels import printable
from samsweep.records.schema import Record
from samsweep.records.store import first_problem

_log = logging.getLogger(__name__)

_MIB = 2**20
#: A record has a few kB, with a traceback some tens.
MAX_RECORD = 4 * _MIB
#: An epoch's line has 1 to 3 kB.
MAX_HISTORY = 256 * _MIB


class Skipped(NamedTuple):
    """A file, or a part of it, that could not be read; in text that is safe to show."""

    file: str
    reason: str


def skip(skipped: list[Skipped], file: Path, reason: str) -> None:
    """Take note of what could not be read, with a warning.

    Args:
        skipped: The list to add to.
        file: Which file.
        reason: Why, in a sentence.
    """
    problem = Skipped(printable(str(file), 400), printable(reason, 300))
    _log.warning("skipped %s: %s", *problem)
    skipped.append(problem)


def cell_paths(study_folder: Path, skipped: list[Skipped]) -> list[Path]:
    """The folders of a study's cells, sorted; links are skipped.

    Args:
        study_folder: ``multirun/<study>``; it may itself be a link.
        skipped: Takes what cannot be read.
    """
    cells = study_folder / "cells"
    if cells.is_symlink():
        skip(skipped, cells, "a link, which may lead out of the study")
        return []
    found: list[Path] = []
    try:
        with os.scandir(cells) as entries:
            for entry in entries:
                if entry.is_symlink():
                    skip(skipped, Path(entry.path), "a link, which may lead out of the study")
                elif entry.is_dir():
                    found.append(cells / entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        skip(skipped, cells, str(error))
    return sorted(found)


def read_regular(file: Path, limit: int) -> bytes:
    """The content of a regular file.

    Args:
        file: The file.
        limit: Largest size in bytes.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If it cannot be read.
        ValueError: If it is a link, no regular file, or larger than the limit.
    """
    if file.is_symlink():
        raise ValueError("a link, which may lead out of the study")
    # Neither follow a link that has just been put there, nor wait for the writer of a pipe.
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as opened:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if about.st_size > limit:
            raise ValueError(
                f"{about.st_size / _MIB:,.0f} MiB, where at most {limit // _MIB} are read"
            )
        return opened.read(limit + 1)


def read_record(folder: Path) -> Record | None:
    """The record of a cell, or None for a folder without one.

    Args:
        folder: The cell's.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no record of this folder's cell, in a version that is known.
    """
    file = folder / "record.json"
    try:
        content = read_regular(file, MAX_RECORD)
    except FileNotFoundError:
        return None
    try:
        record = Record.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(first_problem(file, error).removeprefix(f"{file}: ")) from None
    # A copied folder would count its seed twice.
    if record.cell_id != folder.name:
        raise ValueError(
            f"the record is cell {record.cell_id!r}'s: a cell's folder is named after it; "
            "rename or remove this one"
        )
    return record


def read_records(study_folder: Path, skipped: list[Skipped]) -> Iterator[Record]:
    """Every record of a study that can be read, one at a time.

    Args:
        study_folder: ``multirun/<study>``.
        skipped: Takes what cannot be read, and why.
    """
    for folder in cell_paths(study_folder, skipped):
        try:
            record = read_record(folder)
        except (ValueError, OSError) as error:
            skip(skipped, folder / "record.json", str(error))
        else:
            if record is not None:
                yield record


def read_lines(folder: Path, skipped: list[Skipped]) -> list[bytes]:
    """The lines of a cell's history; none where there is no history.

    Args:
        folder: The cell's.
        skipped: Takes what cannot be read, and why.
    """
    file = folder / "history.jsonl"
    try:
        return read_regular(file, MAX_HISTORY).splitlines()
    except FileNotFoundError:
        return []
    except (ValueError, OSError) as error:
        skip(skipped, file, str(error))
        return []


def parse_line(line: bytes) -> dict[str, Any]:
    """A line of a history.

    Raises:
        ValueError: If it is no JSON, or not a mapping; the last line may be half written.
    """
    # In contrast to the standard library's, this parser bounds how deep values may be nested.
    row = from_json(line)
    if not isinstance(row, dict):
        raise ValueError("not a mapping")
    return row
