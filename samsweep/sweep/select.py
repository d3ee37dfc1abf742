"""Which cells of a study are meant: by the keys and values with which they were trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samsweep.config import (
    AugmentConfig,
    CellConfig,
    ConfigError,
    DatasetConfig,
    RecipeConfig,
    Variant,
    rounded,
    unknown_name,
)
from samsweep.records.identity import RESULTS_VERSION
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, RecordError, cell_folders
from samsweep.system.text import counted

#: Values that a key may have, as texts, by the key.
Filters = Mapping[str, Sequence[str]]

#: Parts of a variant that stand at the top level on the command line; the others are ``opt.*``.
_TOP_LEVEL = ("rho", "granularity")
#: What stands for a key that a cell does not use.
_UNUSED = "null"


def _fields(prefix: str, names: Iterable[str], *hidden: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{name}" for name in names if name not in hidden)


_OF_VARIANT = (*_TOP_LEVEL, *_fields("opt.", Variant.model_fields, "name", *_TOP_LEVEL))
_OF_DATASET = _fields("dataset.", DatasetConfig.model_fields, "name", "augment", "fingerprint")
_OF_AUGMENT = _fields("dataset.augment.", AugmentConfig.model_fields)

#: Keys of the command line that decide what is trained.
KEYS = (
    *("model", "opt", "dataset", "seed"),
    *_OF_VARIANT,
    *RecipeConfig.model_fields,
    *_OF_DATASET,
    *_OF_AUGMENT,
)


def values_of(cell: CellConfig) -> dict[str, Any]:
    """The values of a cell by the keys of the command line; None for those that it does not use.

    The optimizer is the variant that was trained: of ``opt=hybrid`` too, whatever its parts make.
    """
    dataset = cell.dataset

    def named(keys: Iterable[str], part: object) -> dict[str, Any]:
        return {key: getattr(part, key.rpartition(".")[2]) for key in keys}

    return {
        "model": cell.model.name,
        "opt": cell.variant.name,
        "dataset": dataset.name,
        "seed": cell.seed,
        **named(_OF_VARIANT, cell.variant),
        "opt.scaled": cell.variant.scales,
        **named(RecipeConfig.model_fields, cell.recipe),
        **named(_OF_DATASET, dataset),
        **named(_OF_AUGMENT, dataset.augment),
    }


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The cells that are meant.

    Args:
        complete: Those that are trained, with their records.
        unfinished: How those that are not stand, one entry for each cell.
        num_diverged: Those without weights that would mean something.
        num_of_other_versions: Trained by code that trains other networks from equal configurations.
        unreadable: What is wrong with records that say nothing, of cells that may be meant.
    """

    complete: Mapping[CellFolder, Record]
    unfinished: Sequence[str] = ()
    num_diverged: int = 0
    num_of_other_versions: int = 0
    unreadable: Sequence[str] = ()

    def left_alone(self) -> Iterable[str]:
        """A sentence for each kind of cells that cannot be measured."""
        if self.unfinished:
            states = {s: self.unfinished.count(s) for s in sorted(set(self.unfinished))}
            told = ", ".join(f"{number} {state}" for state, number in states.items())
            yield f"{_are(len(self.unfinished), 'not finished')} left alone: {told}."
        if self.num_diverged:
            yield f"{_are(self.num_diverged, 'diverged')} left alone: there is nothing to measure."
        if self.num_of_other_versions:
            yield (
                f"{_are(self.num_of_other_versions, 'of another version of the training code')} "
                "left alone: this one would measure them on other images or another network."
            )
        for problem in self.unreadable:
            yield f"A record cannot be read, and its cell is left alone: {problem}."


def _are(number: int, what: str) -> str:
    verb = "is" if number == 1 else "are"
    return f"{counted(number, 'cell')} {verb} {what} and"


def select(study: Path, filters: Filters) -> Selection:
    """Find the cells of a study that filters let pass.

    A cell passes if it has one of the values of every key. One that does not use a key, as sgd
    rho, passes only where its optimizer is named beside it: ``opt=sgd,sam rho=0.1`` means sgd as
    well, as in a sweep, and ``rho=0.1`` does not.

    Args:
        study: ``multirun/<study>``.
        filters: By key, of :data:`KEYS`.

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
        # Without a record it is just being made.
        if record is not None:
            records[folder] = record
    values = {folder: values_of(record.identity) for folder, record in records.items()}
    _check_values(study.name, filters, list(values.values()))
    meant = {folder: r for folder, r in records.items() if _passes(values[folder], filters)}
    if not meant and not unreadable:
        raise ConfigError(_nothing_meant(study.name, filters))
    return _sorted_out(meant, unreadable)


def _nothing_meant(study: str, filters: Filters) -> str:
    if not filters:
        return f"There is no cell in study {study} yet."
    written = " ".join(f"{key}={','.join(texts)}" for key, texts in filters.items())
    return f"No cell of study {study} has {written} together: leave some of it out."


def _sorted_out(meant: Mapping[CellFolder, Record], unreadable: Sequence[str]) -> Selection:
    finished = {folder: record for folder, record in meant.items() if record.finished}
    complete = {folder: r for folder, r in finished.items() if r.status == "complete"}
    known = {f: r for f, r in complete.items() if r.results_version == RESULTS_VERSION}
    return Selection(
        complete=known,
        unfinished=[record.status for record in meant.values() if not record.finished],
        num_diverged=len(finished) - len(complete),
        num_of_other_versions=len(complete) - len(known),
        unreadable=unreadable,
    )


def _passes(values: Mapping[str, Any], filters: Filters) -> bool:
    def passes(key: str, texts: Sequence[str]) -> bool:
        if values[key] is None and key in _OF_VARIANT and "opt" in filters:
            return True
        return any(_is(values[key], text) for text in texts)

    return all(passes(key, texts) for key, texts in filters.items())


def _is(value: object, text: str) -> bool:
    """Whether a text of the command line means a value.

    >>> _is(0.1, "1e-1"), _is(True, "true"), _is(None, "null"), _is(1, "true")
    (True, True, True, False)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return rounded(float(text)) == value
        except ValueError:
            return False
    return text == shown_value(value)


def shown_value(value: object) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return _UNUSED
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_values(study: str, filters: Filters, cells: Sequence[Mapping[str, Any]]) -> None:
    """Refuse values that no cell has.

    Raises:
        ConfigError: With a sentence for each.
    """
    problems = []
    for key, texts in filters.items():
        found = {values[key] for values in cells}
        missing = [text for text in texts if not any(_is(value, text) for value in found)]
        shown = ", ".join(map(shown_value, sorted(found, key=_rank)))
        problems += [
            f"{key}={text}: no cell of study {study} has it; {_choice(shown)}" for text in missing
        ]
    if problems:
        raise ConfigError(*problems)


def _choice(shown: str) -> str:
    return f"choose among {shown}." if shown else "it has no cells yet."


def _rank(value: Any) -> tuple[int, Any]:
    """Numbers by size, then texts, then what is not used."""
    if value is None:
        return (2, 0)
    return (1, value) if isinstance(value, str) else (0, value)


def unknown_key(key: str, valid: Iterable[str]) -> str:
    """The sentence about a key that means nothing, with those that stand where it stands."""
    parent, dot, _ = key.rpartition(".")
    beside = [name for name in valid if name.rpartition(".")[:2] == (parent, dot)]
    return unknown_name("key", key, beside or valid)
