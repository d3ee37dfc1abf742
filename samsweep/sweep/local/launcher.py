"""A launch on this machine: look at it, tell what it will cost, run the pool."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samsweep.config import ConfigError, RunConfig
from samsweep.sweep.display import Display
from samsweep.sweep.estimate import Cost, estimate_cost
from samsweep.sweep.local.pool import Pool
from samsweep.sweep.local.process import ProcessDied, call, preload
from samsweep.sweep.local.slots import (
    PoolSettings,
    common_device,
    describe_slots,
    divide,
    most_on_one_gpu,
)
from samsweep.sweep.manifest import Launcher, launched, study_folder
from samsweep.sweep.plan import Plan
from samsweep.system.machine import Machine, Slot

log = logging.getLogger(__name__)


def look_at_machine(plan: Plan, *, prepare: bool) -> Machine:
    """What this machine has for the cells of a plan.

    Args:
        plan: Of which at least one cell is to be worked on.
        prepare: Whether to get the data sets ready, downloading them if need be.

    Raises:
        ConfigError: If the device, a compiler or a data set cannot be had.
    """
    device = common_device([cell.run for cell in plan.cells])
    datasets = _preload_for(plan)
    compiles = any(cell.run.compiles for cell in plan.cells)
    found = call("samsweep.training.worker:look", device, datasets if prepare else (), compiles)
    assert isinstance(found, Machine)
    return found


def _preload_for(plan: Plan) -> tuple[tuple[str, Path], ...]:
    """Have processes import what a plan's data sets need; returns them, each with its folder."""
    runs = [cell.run for cell in plan.cells]
    datasets = dict.fromkeys((run.cell.dataset.name, run.data_dir) for run in runs)
    preload({name for name, _ in datasets})
    return tuple(datasets)


def slots_of(plan: Plan, machine: Machine, settings: PoolSettings) -> tuple[Slot, ...]:
    """How the machine is divided among the cells of a plan.

    Raises:
        ConfigError: If a GPU is asked for that is not there, or the cells ask for different
            numbers of threads.
    """
    threads = {cell.run.num_threads for cell in plan.cells}
    if len(threads) > 1:
        raise ConfigError(
            f"num_threads={','.join(map(str, sorted(threads, key=str)))}: the cells of one launch "
            "share the machine equally; give one number."
        )
    return divide(
        machine, settings, num_cells=len(plan.cells), num_threads=next(iter(threads), None)
    )


def cost_here(
    plan: Plan, machine: Machine, *, num_threads: int, cells_per_gpu: int = 1
) -> Cost | None:
    """What the plan will cost on this machine; None if there is no record and no probe ends well.

    Args:
        plan: Of which at least one cell is to be worked on.
        machine: This one.
        num_threads: CPU threads of a cell.
        cells_per_gpu: Cells that share a GPU, which are taken to run in turns. Records are taken
            as they are.
    """

    def probe(runs: Sequence[RunConfig]) -> Sequence[float]:
        alone: list[float] = call(
            "samsweep.training.probe:seconds_per_epoch", tuple(runs), num_threads
        )
        return [seconds * cells_per_gpu for seconds in alone]

    root = study_folder(plan.cells[0].folder).parent
    try:
        return estimate_cost(
            plan, root, device=machine.device, num_threads=num_threads, probe=probe
        )
    except ProcessDied:
        # Killed, most likely for want of memory: the cells will tell.
        return None
    except (RuntimeError, MemoryError) as error:
        log.warning("No estimate, since steps could not be timed: %s", error)
        return None


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What is known of a launch before it starts.

    Args:
        slots: How the machine is divided; None if the launcher is not ours.
        cost: What is to be expected; None if that cannot be told.
    """

    slots: tuple[Slot, ...] | None
    cost: Cost | None


def look_ahead(
    plan: Plan, settings: PoolSettings | None, *, prepare: bool = True, estimate: bool = True
) -> Outlook:
    """Make sure that the cells can run here, and tell what they will cost.

    Args:
        plan: Of which at least one cell is not finished.
        settings: Of the pool; None if the launcher is not ours.
        prepare: Whether to get the data sets ready, downloading them if need be.
        estimate: Whether to estimate the cost.

    Raises:
        ConfigError: If the device, a GPU or a data set cannot be had.
    """
    machine = look_at_machine(plan, prepare=prepare)
    slots = None if settings is None else slots_of(plan, machine, settings)
    threads, sharing = plan.cells[0].run.num_threads or machine.num_cores, 1
    if slots is not None:
        threads, sharing = slots[0].num_threads, most_on_one_gpu(slots[: len(plan.to_do)])
    cost = None
    if estimate:
        cost = cost_here(plan, machine, num_threads=threads, cells_per_gpu=sharing)
    return Outlook(slots=slots, cost=cost)


def look_from_afar(plan: Plan, *, prepare: bool, estimate: bool) -> Outlook:
    """Get data sets ready for cells that run on other machines, and tell what records know.

    Args:
        plan: Of which at least one cell is not finished.
        prepare: Whether to get the data sets ready, downloading them if need be.
        estimate: Whether to estimate the cost.

    Raises:
        ConfigError: If a data set cannot be had.
    """
    datasets = _preload_for(plan)
    for name, data_dir in datasets if prepare else ():
        call("samsweep.data.load:prepare", name, data_dir)
    cost = None
    if estimate:
        root = study_folder(plan.cells[0].folder).parent
        cost = estimate_cost(plan, root, device=None, num_threads=None, probe=None)
    return Outlook(slots=None, cost=cost)


def run_pool(
    plan: Plan, outlook: Outlook, settings: PoolSettings, *, fail_fast: bool = False
) -> None:
    """Work on everything that is not finished; how that went is in the records.

    Args:
        plan: What there is to do.
        outlook: What :func:`look_ahead` said with these settings.
        settings: Of the pool.
        fail_fast: Whether the first failure stops the others.

    Raises:
        Interrupted: If a signal stopped it; the cells have saved their states.
    """
    assert outlook.slots is not None
    cells, cost = list(plan.to_do), outlook.cost
    if cost is not None:
        # Longest first: a long cell that starts last would keep all others waiting.
        cells.sort(key=lambda cell: -cost.cells[cell.key])
    # What was asked for, and what came of it, for whoever takes a cell up again.
    resources = {"workers": len(outlook.slots), "num_threads": outlook.slots[0].num_threads}
    launcher = Launcher(name="local", settings=settings.model_dump(mode="json") | resources)
    keys = [cell.key for cell in (*cells, *plan.elsewhere)]
    with launched(cells, launcher), Display(keys) as display:
        if cells:
            display.print(f"{describe_slots(outlook.slots)}.")
        pool = Pool(outlook.slots, display, fail_fast=fail_fast)
        pool.run(cells, plan.elsewhere)
