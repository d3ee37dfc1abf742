"""The plan of a sweep as a table: what there is to do, and the estimated cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.table import Table

from samsweep.records.identity import varying
from samsweep.sweep.estimate import Cost, Prepared
from samsweep.sweep.names import IMPLIED, equations
from samsweep.sweep.plan import ACTIONS, Action, Plan, PlannedCell, of_other_sources
from samsweep.system.text import console, counted, duration

T = TypeVar("T")

#: Seeds are listed up to so many, and given as a range beyond.
_MOST_LISTED = 6


def print_plan(plan: Plan, prepared: Prepared | None = None) -> None:
    """Print the plan; ``prepared`` is None if nothing is left to do."""
    cost = prepared.cost if prepared is not None else None
    out = console()
    # Zeros in the column of work would say that unknown work takes no time.
    out.print(plan_table(plan, cost if cost is not None and cost.source else None))
    out.print(f"{plan}.", soft_wrap=True, highlight=False)
    older = of_other_sources(plan)
    if older:
        changed = f"{counted(older, 'cell')} of the study had another source of the same components"
        out.print(f"{changed}; they stay, beside the new ones.", soft_wrap=True, highlight=False)
    if prepared is not None and cost is not None and plan.to_do:
        workers = None if prepared.slots is None else len(prepared.slots)
        told = cost_sentence(cost, workers)
        if any(cell.run.pruning for cell in plan.to_do):
            told += " The pruner may end cells sooner."
        out.print(told, soft_wrap=True, highlight=False)


def plan_table(plan: Plan, cost: Cost | None) -> Table:
    """A row for each data set, model and optimizer, with counts of cells and seconds of work."""
    counts = Counter(cell.action for cell in plan.cells)
    actions = [action for action in ACTIONS if counts[action]]
    table = Table(title=f"study {', '.join(_distinct(c.run.study for c in plan.cells))}")
    groups = _groups(plan.cells)
    has_more = any(more for *_, more in groups)
    headers = ["data set", "model", "optimizer", *(["also"] if has_more else []), "rho", "seed"]
    for header in headers:
        table.add_column(header)
    for action in actions:
        table.add_column(ACTIONS[action], justify="right")
    if cost is not None:
        table.add_column("work", justify="right")
    for key, members in groups.items():
        table.add_row(*key[: 4 if has_more else 3], *_details(members, actions, cost))
    if len(groups) > 1:
        table.add_section()
        table.add_row(
            "all",
            *[""] * (3 if has_more else 2),
            *_details(plan.cells, actions, cost, listed=False),
        )
    return table


#: Keys in which cells differ and that have columns of their own.
_SHOWN = frozenset(
    "model.name model.factory dataset.name dataset.factory seed variant.name "
    "variant.direction variant.magnitude variant.granularity variant.rho variant.ascent "
    "variant.eta variant.scaled variant.curvature".split()
)


def _contents(cells: Sequence[PlannedCell]) -> dict[str, set[str | None]]:
    """By the names of the data sets, the fingerprints of what is called so."""
    found: dict[str, set[str | None]] = {}
    for cell in cells:
        dataset = cell.run.cell.dataset
        found.setdefault(dataset.name, set()).add(dataset.fingerprint)
    return found


def _groups(cells: Sequence[PlannedCell]) -> dict[tuple[str, ...], list[PlannedCell]]:
    """Cells by data set, model, optimizer, and what else tells them apart."""
    groups: dict[tuple[str, ...], list[PlannedCell]] = {}
    contents = _contents(cells)
    for cell, values in zip(cells, varying([c.run.cell for c in cells]), strict=True):
        config = cell.run.cell
        variant = config.variant
        optimizer = " ".join(filter(None, [variant.name, variant.granularity]))
        if variant.departures:
            optimizer += f" ({', '.join(variant.departures)})"
        more = equations(
            {k: v for k, v in values.items() if k not in _SHOWN and not k.startswith(IMPLIED)}
        )
        dataset = config.dataset.name
        if len(contents[dataset]) > 1:
            # Data that only their user knows: where they lie tells them apart.
            dataset += f" ({cell.run.data_path or config.dataset.fingerprint})"
        key = (dataset, config.model.name, optimizer, more)
        groups.setdefault(key, []).append(cell)
    return groups


def _details(
    cells: Sequence[PlannedCell],
    actions: Sequence[Action],
    cost: Cost | None,
    *,
    listed: bool = True,
) -> list[str]:
    """The other columns of a row."""
    counts = Counter(cell.action for cell in cells)
    variants = [cell.run.cell.variant for cell in cells]
    radii = _distinct(f"{v.rho:g}" for v in variants if v.rho is not None)
    seeds = _distinct(cell.run.cell.seed for cell in cells)
    row = [", ".join(radii), _listed(seeds)] if listed else ["", ""]
    row += [str(counts[action] or "") for action in actions]
    if cost is not None:
        row.append(_work(cost, cells))
    return row


def _work(cost: Cost, cells: Iterable[PlannedCell]) -> str:
    seconds = [cost.cells[cell.key] for cell in cells if cell.key in cost.cells]
    return duration(sum(seconds)) if seconds else ""


def cost_sentence(cost: Cost, workers: int | None) -> str:
    """Work and time, with where the numbers come from; no time for an unknown number of workers."""
    if not cost.source:
        take = "takes" if len(cost.uncounted) == 1 else "take"
        return f"Nothing is known yet of how long {', '.join(sorted(cost.uncounted))} {take}."
    time = "" if workers is None else f", {duration(cost.seconds_with(workers))} from start to end"
    missing = f", not counting {', '.join(sorted(cost.uncounted))}" if cost.uncounted else ""
    return f"About {duration(cost.seconds)} of work{time} (estimated {cost.source}{missing})."


def _listed(seeds: Sequence[int]) -> str:
    if len(seeds) > _MOST_LISTED:
        return f"{len(seeds)} of {min(seeds)} to {max(seeds)}"
    return ", ".join(map(str, seeds))


def _distinct(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
