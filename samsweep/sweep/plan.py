"""What a sweep has to do: which of its cells are new, unfinished, unmeasured or done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from samsweep.config import CellConfig, RunConfig
from samsweep.records.identity import CellKey, canonical_json, wanted_measurements
from samsweep.records.lock import FolderLock
from samsweep.records.remaining_work import Work, work_left
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, RecordError, cell_folders
from samsweep.system.text import counted

#: What is to be done for a cell: its work, unless another process does it.
Action = Work | Literal["elsewhere", "pruned"]

#: The actions in the order in which they are printed.
ACTIONS: Mapping[Action, str] = {
    "train": "to train",
    "resume": "to resume",
    "measure": "only to measure",
    "elsewhere": "running elsewhere",
    "pruned": "pruned",
    "nothing": "already finished",
}
#: Those of cells that are left as they are.
_LEFT: frozenset[Action] = frozenset({"elsewhere", "pruned", "nothing"})


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of the grid, as the command line asks for it.

    Args:
        run: The cell and how it runs.
        folder: The cell's folder, which may not exist yet.
        overrides: What the command line of a sweep says of it.
    """

    run: RunConfig
    folder: CellFolder
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell of a sweep.

    Args:
        folder: Its folder, which may not exist yet.
        points: What is asked of it. There are several where a later point of the grid asks for
            measurements that no earlier one does; they have to be worked through in this order.
        record: Its record when it was planned, if it had one.
        action: What is to be done.
    """

    folder: CellFolder
    points: tuple[Point, ...]
    record: Record | None
    action: Action

    @property
    def key(self) -> CellKey:
        """The cell's study and id: no other cell of a plan has the same."""
        return self.folder.key

    @property
    def run(self) -> RunConfig:
        """The cell and how it runs, by the first point that asks for it."""
        return self.points[0].run

    @property
    def num_attempts(self) -> int:
        """How often it had been tried when it was planned."""
        return 0 if self.record is None else len(self.record.attempts)

    @property
    def state(self) -> str:
        """The state of an unfinished cell, in words."""
        if self.action == "elsewhere":
            return "running elsewhere"
        if self.record is None:
            return "without a record"
        return "not measured" if self.record.finished else self.record.status

    def is_unfinished_in(self, record: Record | None) -> bool:
        """Whether a later record lacks something that a point asks for."""
        return any(work_left(point.run, record) != "nothing" for point in self.points)

    def summary(self) -> str:
        """What its record says by now, in a few words, or why it cannot be read."""
        try:
            record = self.folder.read()
        except (RecordError, OSError) as error:
            return str(error)
        if record is None:
            return "has no record"
        lacks = record.finished and self.is_unfinished_in(record)
        return f"{record.summary}, not measured" if lacks else record.summary


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The distinct cells of a sweep, in the order of the grid, whose points may be more.

    Args:
        cells: Those that are asked for.
        num_points: Points of the grid, without those that are excluded.
        num_excluded: Points that an exclusion left out.
    """

    cells: tuple[PlannedCell, ...]
    num_points: int
    num_excluded: int = 0

    @property
    def studies(self) -> tuple[Path, ...]:
        """The folders of the studies that the cells are of."""
        return tuple(dict.fromkeys(cell.folder.study for cell in self.cells))

    @property
    def to_do(self) -> tuple[PlannedCell, ...]:
        """The cells that have work left and that no other process works on."""
        return tuple(c for c in self.cells if c.action not in _LEFT)

    @property
    def elsewhere(self) -> tuple[PlannedCell, ...]:
        """The cells that another process is working on."""
        return tuple(cell for cell in self.cells if cell.action == "elsewhere")

    def again(self) -> Plan:
        """The same by what is on disk now.

        Raises:
            RecordError: If a record cannot be read.
        """
        return plan_sweep((p for c in self.cells for p in c.points), num_excluded=self.num_excluded)

    def __str__(self) -> str:
        """One line of counts."""
        counts = Counter(cell.action for cell in self.cells)
        parts = [f"{counts[action]} {words}" for action, words in ACTIONS.items() if counts[action]]
        num_cells = len(self.cells)
        points = f" of {self.num_points} points" if self.num_points > num_cells else ""
        left_out = f" ({counted(self.num_excluded, 'point')} excluded)" if self.num_excluded else ""
        return f"{counted(num_cells, 'cell')}{points}{left_out}: {', '.join(parts)}"


def describe_states(cells: Iterable[PlannedCell]) -> str:
    """Counts of unfinished cells by state, such as ``2 failed, 1 interrupted``."""
    counts = Counter(cell.state for cell in cells)
    return ", ".join(f"{number} {state}" for state, number in counts.most_common())


def plan_sweep(points: Iterable[Point], *, num_excluded: int = 0) -> Plan:
    """Drop duplicates of a grid, whose studies lie in one folder, and read what is on disk.

    Args:
        points: Of the grid.
        num_excluded: Points of it that were left out before.

    Raises:
        RecordError: If a record cannot be read.
    """
    by_cell: dict[CellKey, list[Point]] = {}
    num_points = 0
    for point in points:
        num_points += 1
        by_cell.setdefault(point.folder.key, []).append(point)
    cells = tuple(_plan_cell(asked[0].folder, asked) for asked in by_cell.values())
    return Plan(cells=cells, num_points=num_points, num_excluded=num_excluded)


def of_other_sources(plan: Plan) -> int:
    """How many cells of the plan's studies differ from a new one in nothing but sources.

    They were trained by components whose source has changed since, and stay as they are.
    """
    new = [cell.run.cell for cell in plan.cells if cell.record is None and cell.run.cell.sources]
    wanted = {_without_sources(cell) for cell in new}
    if not wanted:
        return 0
    planned, found = {cell.key for cell in plan.cells}, 0
    for study in plan.studies:
        for folder in cell_folders(study):
            with suppress(RecordError):
                record = None if folder.key in planned else folder.read()
                found += record is not None and _without_sources(record.identity) in wanted
    return found


def _without_sources(cell: CellConfig) -> str:
    return canonical_json(cell.model_copy(update={"sources": None}).identity())


def _plan_cell(folder: CellFolder, asked: list[Point]) -> PlannedCell:
    record = folder.read()
    points = [point for point in _distinct(asked) if work_left(point.run, record) != "nothing"]
    action: Action = "pruned" if record and record.status == "pruned" else "nothing"
    if points:
        busy = record is not None and FolderLock(folder.path).alive
        action = "elsewhere" if busy else work_left(points[0].run, record)
    return PlannedCell(
        folder=folder, points=tuple(points or asked[:1]), record=record, action=action
    )


def _distinct(asked: Iterable[Point]) -> Iterable[Point]:
    """The points of one cell that ask for a measurement that no earlier one does."""
    measured: set[str] | None = None
    for point in asked:
        wanted = set(wanted_measurements(point.run.sharpness))
        if measured is None or not wanted <= measured:
            yield point
        measured = wanted | (measured or set())
