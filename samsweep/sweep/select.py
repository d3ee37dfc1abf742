"""Which trained cells of a study are meant, by the keys and values with which they were trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samsweep.config import CellConfig, ConfigError, described, rounded
from samsweep.config.arguments import written
from samsweep.records.identity import RESULTS_VERSION
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, RecordError, cell_folders
from samsweep.system.text import counted

#: Values that a key may have, by the key.
Filters = Mapping[str, Sequence[Any]]


def _typed(key: str) -> str:
    """The key of the command line for a key of a cell's identity.

    >>> [_typed(key) for key in ("model.name", "recipe.lr", "variant.rho", "variant.ascent")]
    ['model', 'lr', 'rho', 'opt.ascent']
    """
    key = key.removesuffix(".name").removeprefix("recipe.").replace("variant", "opt")
    return key.removeprefix("opt.") if key in ("opt.rho", "opt.granularity") else key


#: By the keys of the command line that decide what is trained, those of the identity.
KEYS = {
    _typed(key.name): key
    for key in described(CellConfig)
    if key.values and key.name != "dataset.fingerprint"
}


def values_of(cell: CellConfig) -> dict[str, Any]:
    """The values of a cell by the keys of the command line; None for those that it does not use.

    The optimizer is the variant that was trained: of ``opt=hybrid`` too, whatever its parts make.
    """
    values = {}
    for typed, key in KEYS.items():
        value: Any = cell
        for part in key.name.split("."):
            value = getattr(value, part)
        values[typed] = value
    return values | {"opt.scaled": cell.variant.scales}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The cells that are meant.

    Args:
        complete: Those that are trained, with their records.
        skipped: What the others are, a word for each; unreadable ones aside.
        unreadable: What is wrong with records that cannot be read, of cells that may be meant.
    """

    complete: Mapping[CellFolder, Record]
    skipped: Sequence[str]
    unreadable: Sequence[str]

    def __str__(self) -> str:
        """A sentence for what is skipped; empty if nothing is."""
        parts = [f"{number} {state}" for state, number in sorted(Counter(self.skipped).items())]
        parts += [f"1 unreadable ({problem})" for problem in self.unreadable]
        total = len(self.skipped) + len(self.unreadable)
        return f"{counted(total, 'cell')} skipped: {', '.join(parts)}." if total else ""


def select(study: Path, filters: Filters) -> Selection:
    """Find the cells of a study that filters let pass, by keys of :data:`KEYS`.

    A cell passes if it has one of the values of every key. One that does not use a key, as sgd
    rho, passes only where its optimizer is named beside it: ``opt=sgd,sam rho=0.1`` means sgd as
    well, as in a sweep, and ``rho=0.1`` does not.

    Raises:
        ConfigError: With a sentence for every value that no cell has, or if no cell passes.
    """
    records: dict[CellFolder, Record] = {}
    unreadable = []
    for folder in cell_folders(study):
        try:
            record = folder.read()
        except RecordError as error:
            unreadable.append(str(error))
            continue
        if record is not None:  # without a record it is just being made
            records[folder] = record
    values = {folder: values_of(record.identity) for folder, record in records.items()}
    asked = {key: [_text(value) for value in some] for key, some in filters.items()}
    problems = list(_values_of_no_cell(study.name, asked, list(values.values())))
    if problems:
        raise ConfigError(*problems)
    meant = {folder: r for folder, r in records.items() if _passes(values[folder], asked)}
    if not meant and not unreadable:
        together = " ".join(f"{key}={','.join(some)}" for key, some in asked.items())
        raise ConfigError(
            f"No cell of study {study.name} has {together} together: leave some of it out."
            if together
            else f"There is no cell in study {study.name} yet."
        )
    states = {folder: _state(record) for folder, record in meant.items()}
    return Selection(
        complete={folder: meant[folder] for folder, state in states.items() if state == "complete"},
        skipped=[state for state in states.values() if state != "complete"],
        unreadable=unreadable,
    )


def _state(record: Record) -> str:
    if record.status == "complete" and record.results_version != RESULTS_VERSION:
        return "of another version of the training code"
    return record.status


def _passes(values: Mapping[str, Any], asked: Mapping[str, Sequence[str]]) -> bool:
    def passes(key: str) -> bool:
        unused = values[key] is None and KEYS[key].name.startswith("variant.")
        return (unused and "opt" in asked) or _text(values[key]) in asked[key]

    return all(map(passes, asked))


def _text(value: object) -> str:
    """A value as the command line writes it; numbers as they name cells.

    >>> _text(0.1), _text(1.0), _text(True), _text(None)
    ('0.1', '1', 'true', 'null')
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{rounded(float(value)):.12g}"
    return written(value)


def _values_of_no_cell(
    study: str, asked: Mapping[str, Sequence[str]], cells: Sequence[Mapping[str, Any]]
) -> Iterable[str]:
    for key, some in asked.items():
        # Numbers by size, texts, and null for what is not used.
        found = sorted(
            {values[key] for values in cells}, key=lambda v: (v is None, isinstance(v, str), v or 0)
        )
        texts = [_text(value) for value in found]
        there = f"choose among {', '.join(texts)}" if texts else "it has no cells yet"
        for one in some:
            if one not in texts:
                yield f"{key}={one}: no cell of study {study} has it; {there}."
