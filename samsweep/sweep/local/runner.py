"""A launch on this machine: check it, estimate the cost, run the pool."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from samsweep.config import ConfigError, RunConfig
from samsweep.config.factory import name_of
from samsweep.sweep.display import Display
from samsweep.sweep.estimate import Cost, Prepared, estimate_cost
from samsweep.sweep.local.pool import Pool
from samsweep.sweep.local.process import ProcessDied, call, preload
from samsweep.sweep.local.slots import (
    PoolSettings,
    common_device,
    describe_slots,
    divide,
    most_on_one_gpu,
)
from samsweep.sweep.manifest import LauncherSettings, launched
from samsweep.sweep.names import names_of
from samsweep.sweep.plan import Plan
from samsweep.system.machine import Machine, Slot

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class LocalRunner:
    """A :class:`~samsweep.sweep.execute.Runner`: the pool on this machine."""

    settings: PoolSettings
    fail_fast: bool = False

    def prepare(self, plan: Plan, *, download: bool = True, estimate: bool = True) -> Prepared:
        """See :func:`prepare`."""
        return prepare(plan, self.settings, download=download, estimate=estimate)

    def run(self, plan: Plan, prepared: Prepared) -> bool:
        """Run the pool to its end.

        Raises:
            Interrupted: If a signal stopped it; the cells have saved their states.
        """
        assert prepared.slots is not None
        cells, slots, cost = list(plan.to_do), prepared.slots, prepared.cost
        if cost is not None:
            # Longest first: a long cell that starts last would keep all others waiting.
            cells.sort(key=lambda cell: -cost.cells[cell.key])
        # The settings and what followed from them: a retry has the same workers and threads.
        resources = {"workers": len(slots), "num_threads": slots[0].num_threads}
        launcher = LauncherSettings(
            name="local", settings=self.settings.model_dump(mode="json") | resources
        )
        names = names_of([*cells, *plan.elsewhere])
        with launched(cells, launcher), Display(names) as display:
            if cells:
                display.print(f"{describe_slots(slots)}.")
            Pool(slots, display, fail_fast=self.fail_fast).run(cells, plan.elsewhere)
        return True

    def scripts(self, plan: Plan) -> tuple[str, ...]:
        """There are none."""
        return ()


def prepare(
    plan: Plan, settings: PoolSettings | None, *, download: bool = True, estimate: bool = True
) -> Prepared:
    """:meth:`~samsweep.sweep.execute.Runner.prepare` on this machine.

    Args:
        plan: Of which at least one cell is not finished.
        settings: Of the pool; None if another launcher divides the machine.
        download: Whether to download data sets that are missing.
        estimate: Whether to estimate the cost.

    Raises:
        ConfigError: If the device, a GPU or a data set is not available.
    """
    machine = machine_of(plan, download=download)
    slots = None if settings is None else slots_of(plan, machine, settings)
    threads, sharing = plan.cells[0].run.num_threads or machine.num_cores, 1
    if slots is not None:
        threads, sharing = slots[0].num_threads, most_on_one_gpu(slots[: len(plan.to_do)])
    cost = None
    if estimate:
        cost = cost_here(plan, machine, num_threads=threads, cells_per_gpu=sharing)
    return Prepared(slots=slots, cost=cost)


def machine_of(plan: Plan, *, download: bool) -> Machine:
    """What this machine has for the cells of a plan; downloads their data sets if asked to.

    Raises:
        ConfigError: If the device, a compiler or a data set is not available.
    """
    device = common_device([cell.run for cell in plan.cells])
    runs = preload_for(plan)
    compiles = any(cell.run.compiles for cell in plan.cells)
    try:
        machine = call("samsweep.training.worker:prepare_machine", device, runs, compiles, download)
    except ProcessDied as died:
        own = sorted({name for run in runs for name in _own(run)})
        if not own:
            raise
        raise ConfigError(
            f"a batch was tried in a process of its own, which {died.how}: one of "
            f"{', '.join(own)} has ended it, by os._exit, a crash, or want of memory."
        ) from died
    assert isinstance(machine, Machine)
    return machine


def _own(run: RunConfig) -> Iterator[str]:
    """The paths of a run's components that are not samsweep's."""
    return (name_of(c.factory) for _, c in run.cell.components() if not c.ours)


def preload_for(plan: Plan) -> tuple[RunConfig, ...]:
    """Have processes import what a plan's data sets need.

    Returns:
        The runs that differ in more than seed, rho and settings of ours: what is to be prepared.
    """
    runs = [point.run for cell in plan.cells for point in cell.points]
    preload({run.cell.dataset.name for run in runs}, pruning=any(run.pruning for run in runs))
    return tuple({_components(run): run for run in runs}.values())


def _components(run: RunConfig) -> str:
    """What decides how a run is prepared."""
    cell = run.cell
    fixed = {"seed": 0, "variant": cell.variant.model_copy(update={"rho": None})}
    different = cell.model_copy(update=fixed).model_dump_json()
    return (
        f"{different} {run.data_dir} {run.sharpness.measures} {run.sharpness.args} {run.pruning!r}"
    )


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
    """Estimate the cost on this machine.

    Args:
        plan: Of which at least one cell is not finished.
        machine: This one.
        num_threads: CPU threads of a cell.
        cells_per_gpu: Cells that share a GPU, which are taken to run in turns; records are taken
            as they are.

    Returns:
        None if steps would have to be timed and could not be.
    """

    def probe(runs: Sequence[RunConfig]) -> Sequence[float]:
        alone: list[float] = call(
            "samsweep.training.probe:seconds_per_epoch", tuple(runs), num_threads
        )
        return [seconds * cells_per_gpu for seconds in alone]

    try:
        return estimate_cost(plan, device=machine.device, num_threads=num_threads, probe=probe)
    except ProcessDied:
        # Killed, most likely for want of memory; the cells will show.
        return None
    except (RuntimeError, MemoryError) as error:
        log.warning("No estimate, since steps could not be timed: %s", error)
        return None
