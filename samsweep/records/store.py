"""A cell's folder: which files it has, and how each is written without ever being half there."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from samsweep.config import CellConfig, ConfigError, unknown_name
from samsweep.records.identity import CellKey
from samsweep.records.schema import SCHEMA_VERSION, Record

log = logging.getLogger(__name__)

#: Suffix of a file that is being written.
_TEMPORARY = ".partial"


class RecordError(ValueError):
    """A record that cannot be read: the file, and what is wrong with it."""


class NewerRecord(RecordError):
    """A record of a newer samsweep."""


def _newer_version(error: ValidationError) -> int | None:
    """The version of the form, if that is too new."""
    found = [e["input"] for e in error.errors() if e["loc"] == ("schema_version",)]
    return found[0] if found and isinstance(found[0], int) and found[0] > SCHEMA_VERSION else None


def first_problem(file: Path, error: ValidationError) -> str:
    """What is wrong with a file, where pydantic may have found much."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{file}: {where}: {first['msg']}"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well.

    Readers see the old file or the new one, whole, also after a power failure.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_TEMPORARY}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        # A full disk says at writing that there is no space, not where; the command says both.
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class CellFolder:
    """The folder of one cell, ``multirun/<study>/cells/<cell id>``."""

    path: Path

    @property
    def study(self) -> Path:
        """The study's folder, ``multirun/<study>``."""
        return self.path.parent.parent

    @property
    def key(self) -> CellKey:
        """The cell's study and id."""
        return CellKey(study=self.study.name, cell_id=self.path.name)

    @property
    def record_file(self) -> Path:
        """Everything about the cell."""
        return self.path / "record.json"

    @property
    def config_file(self) -> Path:
        """The identity, as YAML for people."""
        return self.path / "config.yaml"

    @property
    def history_file(self) -> Path:
        """One JSON line per epoch."""
        return self.path / "history.jsonl"

    @property
    def checkpoint_file(self) -> Path:
        """The latest resumable state."""
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint_file(self) -> Path:
        """The resumable state before the latest."""
        return self.path / "checkpoint-previous.pt"

    @property
    def weights_file(self) -> Path:
        """Final weights."""
        return self.path / "weights.safetensors"

    @property
    def best_weights_file(self) -> Path:
        """Weights at best validation accuracy."""
        return self.path / "weights-best.safetensors"

    @property
    def log_file(self) -> Path:
        """What the cell's processes logged."""
        return self.path / "run.log"

    def set_aside(self, file: Path) -> Path:
        """Rename a file or folder that is of no use, and say to what; one of before goes."""
        aside = file.with_name(f"{file.name}.unusable")
        if aside.is_dir():
            shutil.rmtree(aside)
        elif file.is_dir():
            aside.unlink(missing_ok=True)
        return file.replace(aside)

    def remove_temporary_files(self) -> None:
        """Delete what a killed writer left behind; only under the cell's lock."""
        for file in self.path.glob(f".*{_TEMPORARY}"):
            file.unlink()

    def read(self) -> Record | None:
        """The record, or None for a cell that has none yet.

        Raises:
            RecordError: If the file is there but is no record of a known version.
        """
        try:
            content = self.record_file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return Record.model_validate_json(content)
        except ValidationError as error:
            if version := _newer_version(error):
                raise NewerRecord(
                    f"{self.record_file} is of form {version}, which a newer samsweep has written; "
                    f"this one reads forms up to {SCHEMA_VERSION}: install that one"
                ) from None
            raise RecordError(first_problem(self.record_file, error)) from None

    def write(self, record: Record) -> None:
        """Replace the record."""
        write_text(self.record_file, record.model_dump_json(indent=1) + "\n")

    def freeze_config(self, cell: CellConfig) -> None:
        """Write the identity for people to read, once."""
        if not self.config_file.exists():
            write_text(self.config_file, yaml.safe_dump(cell.identity(), sort_keys=False))

    def read_history(self) -> list[dict[str, Any]]:
        """One mapping per complete epoch, in order; only the epochs before a line that is none."""
        try:
            lines = self.history_file.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        rows: list[dict[str, Any]] = []
        for line in lines:
            row = _epoch_in(line)
            if row is None or row["epoch"] != len(rows) + 1:
                log.warning(
                    "%s: line %d is not of epoch %d, it and what follows are passed over",
                    self.history_file,
                    len(rows) + 1,
                    len(rows) + 1,
                )
                break
            rows.append(row)
        return rows

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Replace the history; as a whole, so that no reader meets half a line."""
        write_text(self.history_file, "".join(_json_line(row) for row in rows))


def study_names(root: Path) -> list[str]:
    """Names of the studies under ``multirun``, sorted."""
    return sorted(path.parent.name for path in root.glob("*/cells") if path.is_dir())


def find_study(root: Path, name: str) -> Path:
    """The folder of a study, in ``multirun``.

    Raises:
        ConfigError: If there is none of that name.
    """
    names = study_names(root)
    if name not in names:
        raise ConfigError(
            unknown_name("study", name, names)
            if names
            else f"There is no study in {root}/: train some cells with samsweep run."
        )
    return root / name


def cell_folders(study: Path) -> list[CellFolder]:
    """The folders of a study's cells, sorted by name."""
    return [CellFolder(path) for path in sorted(study.glob("cells/*")) if path.is_dir()]


def _epoch_in(line: bytes) -> dict[str, Any] | None:
    """The epoch that a line of a history holds; None if it holds none."""
    try:
        row = json.loads(line)
    except ValueError:  # also what is no UTF-8
        return None
    return row if isinstance(row, dict) and type(row.get("epoch")) is int else None


def _json_line(row: Mapping[str, Any]) -> str:
    """A line of JSON; numbers that JSON does not have become null."""
    return json.dumps(_finite(row), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
