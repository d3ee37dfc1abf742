"""What a sweep has to do: which of its cells are new, unfinished, unmeasured or done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from samsweep.config import RunConfig
from samsweep.records.identity import cell_id, wanted_measurements
from samsweep.records.store import CellFolder
from samsweep.records.work import Work, work_left


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell of a sweep.

    Args:
        run: The cell and how it runs.
        overrides: What the command line says of it.
        folder: Its folder, which may not exist yet.
        work: What is left to do.
    """

    run: RunConfig
    overrides: tuple[str, ...]
    folder: CellFolder
    work: Work


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The distinct cells of a sweep.

    Args:
        cells: In the order of the grid. A cell stands in it again where a later point asks for
            measurements that no earlier one does.
        num_points: Points of the grid, of which several may be one cell.
    """

    cells: tuple[PlannedCell, ...]
    num_points: int

    @property
    def to_do(self) -> tuple[PlannedCell, ...]:
        """The cells that have work left."""
        return tuple(cell for cell in self.cells if cell.work != "nothing")

    def __str__(self) -> str:
        """One line of counts."""
        counts = Counter(cell.work for cell in self.cells)
        num_cells = len({cell.folder for cell in self.cells})
        told: dict[Work, str] = {
            "train": "to train",
            "resume": "to resume",
            "measure": "only to measure",
            "nothing": "already finished",
        }
        parts = [f"{counts[work]} {words}" for work, words in told.items() if counts[work]]
        points = f" of {self.num_points} points" if self.num_points > num_cells else ""
        plural = "" if num_cells == 1 else "s"
        return f"{num_cells} cell{plural}{points}: {', '.join(parts)}"


def plan_sweep(points: Iterable[tuple[RunConfig, tuple[str, ...], Path]]) -> Plan:
    """Drop duplicates and look at what is on disk.

    Args:
        points: For each point of the grid the run, its overrides and its folder.

    Raises:
        RecordError: If a record cannot be read.
    """
    cells: list[PlannedCell] = []
    planned: dict[str, set[str]] = {}
    num_points = 0
    for run, overrides, path in points:
        num_points += 1
        folder = CellFolder(path)
        measurements = set(wanted_measurements(run.sharpness))
        name = f"{run.study}/{cell_id(run.cell)}"
        if name in planned and measurements <= planned[name]:
            continue
        work = work_left(run, folder.read())
        if name in planned:
            if work == "nothing":
                continue
            # An earlier point trains it, if it has to be trained.
            work = "measure"
        planned[name] = planned.get(name, set()) | measurements
        cells.append(PlannedCell(run=run, overrides=overrides, folder=folder, work=work))
    return Plan(cells=tuple(cells), num_points=num_points)
