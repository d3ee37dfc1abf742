"""Files of a study, read with caution: each may be half written, foreign, or made to do harm.

Nothing that is read is executed. Only ``record.json`` and ``history.jsonl`` are opened at all, and
only where they are regular files of a sensible size that lie in the study's own folders: a link
could lead anywhere, a pipe could make the reader wait for ever.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from samsweep.records.schema import Record
from samsweep.records.store import first_problem
from samsweep.system.text import printable

_log = logging.getLogger(__name__)

_A_LINK = "a link, which may lead out of the study"
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
    """Take note of what could not be read, with a warning."""
    problem = Skipped(printable(str(file), 400), printable(reason, 300))
    _log.warning("skipped %s: %s", *problem)
    skipped.append(problem)


def cell_names(study_folder: Path, skipped: list[Skipped]) -> list[str]:
    """Names of the folders of a study's cells, sorted; links are skipped."""
    cells = study_folder / "cells"
    if cells.is_symlink():
        skip(skipped, cells, _A_LINK)
        return []
    found: list[str] = []
    try:
        with os.scandir(cells) as entries:
            for entry in entries:
                if entry.is_symlink():
                    skip(skipped, Path(entry.path), _A_LINK)
                elif entry.is_dir():
                    found.append(entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        skip(skipped, cells, str(error))
    return sorted(found)


def read_regular(file: str, limit: int) -> bytes:
    """The content of a regular file of at most some bytes.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If it cannot be read.
        ValueError: If it is a link, no regular file, or larger than the limit.
    """
    # Neither follow a link nor wait for the writer of a pipe.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(file, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(_A_LINK) from None
        raise
    with open(descriptor, "rb", buffering=0) as opened:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if about.st_size > limit:
            raise ValueError(
                f"{about.st_size / _MIB:,.0f} MiB, where at most {limit // _MIB} are read"
            )
        return opened.read(about.st_size)


def read_record(cells: str, name: str) -> Record | None:
    """The record of a cell, or None for a folder without one.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no record of this folder's cell, in a version that is known.
    """
    file = f"{cells}/{name}/record.json"
    try:
        content = read_regular(file, MAX_RECORD)
    except FileNotFoundError:
        return None
    try:
        record = Record.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(first_problem(Path(file), error).removeprefix(f"{file}: ")) from None
    # A copied folder would count its seed twice.
    if record.cell_id != name:
        raise ValueError(
            f"the record is cell {record.cell_id!r}'s: a cell's folder is named after it; "
            "rename or remove this one"
        )
    return record


def read_records(study_folder: Path, skipped: list[Skipped]) -> Iterator[Record]:
    """Every record of a study that can be read, one at a time."""
    cells = str(study_folder / "cells")
    for name in cell_names(study_folder, skipped):
        try:
            record = read_record(cells, name)
        except (ValueError, OSError) as error:
            skip(skipped, Path(cells, name, "record.json"), str(error))
        else:
            if record is not None:
                yield record


def read_history(cells: str, name: str, skipped: list[Skipped]) -> bytes:
    """The history of a cell, a line per epoch; empty where there is none."""
    file = f"{cells}/{name}/history.jsonl"
    try:
        return read_regular(file, MAX_HISTORY)
    except FileNotFoundError:
        return b""
    except (ValueError, OSError) as error:
        skip(skipped, Path(file), str(error))
        return b""


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
