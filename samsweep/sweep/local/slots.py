"""How a machine is divided among the cells that run on it at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from samsweep.config import ConfigError, Count, Frozen, RunConfig
from samsweep.config.fields import EachOnce
from samsweep.system.machine import Machine, Slot
from samsweep.system.text import counted


class PoolSettings(Frozen):
    """The values of ``hydra/launcher=local``: how many cells run at a time, and where.

    Args:
        workers: Cells at a time; None is ``cells_per_gpu`` for each GPU, or on a CPU one for each
            core, but no more than the sweep has cells.
        gpus: Indices of the GPUs to use, among the visible ones; None is all of them.
        cells_per_gpu: Cells that share a GPU.
    """

    workers: Count | None = None
    gpus: Annotated[tuple[Annotated[int, Field(ge=0)], ...], EachOnce] | None = None
    cells_per_gpu: Count = 1


def divide(
    machine: Machine, settings: PoolSettings, *, num_cells: int, num_threads: int | None
) -> tuple[Slot, ...]:
    """The slots of a pool; their number is how many cells run at a time.

    The share of threads follows from the size of the whole sweep, not from what is left of it:
    a sweep that is resumed gives a cell the same threads, and so the same bits.

    Args:
        machine: What there is.
        settings: What the user asks for.
        num_cells: Cells of the sweep, finished ones included.
        num_threads: CPU threads of a cell, if the user gives them.

    Raises:
        ConfigError: If a GPU is asked for that is not there.
    """
    gpus: tuple[str | None, ...] = (None,)
    if machine.gpus:
        gpus = _chosen(machine.gpus, settings.gpus)
        workers = settings.workers or len(gpus) * settings.cells_per_gpu
    else:
        if settings.gpus:
            raise ConfigError(
                f"hydra.launcher.gpus={list(settings.gpus)}: these cells run on the CPU of "
                f"{machine.host}; choose device=cuda, or leave hydra.launcher.gpus out."
            )
        workers = settings.workers or _cells_at_a_time(machine.num_cores, num_threads)
    workers = max(1, min(workers, num_cells))
    threads = num_threads or max(1, machine.num_cores // workers)
    return tuple(Slot(num_threads=threads, gpu=gpus[i % len(gpus)]) for i in range(workers))


def _cells_at_a_time(num_cores: int, num_threads: int | None) -> int:
    return max(1, num_cores // (num_threads or 1))


def _chosen(visible: Sequence[str], wanted: Sequence[int] | None) -> tuple[str, ...]:
    if wanted is None:
        return tuple(visible)
    missing = [index for index in wanted if index >= len(visible)]
    if missing or not wanted:
        raise ConfigError(
            f"hydra.launcher.gpus={list(wanted)}: this machine has {len(visible)} GPUs that torch "
            f"can use; choose among {list(range(len(visible)))}."
        )
    return tuple(visible[index] for index in wanted)


def common_device(runs: Sequence[RunConfig]) -> str:
    """The ``device`` of all cells of a launch.

    Raises:
        ConfigError: If they differ.
    """
    devices = sorted({run.device for run in runs})
    if len(devices) > 1:
        raise ConfigError(
            f"device={','.join(devices)}: the cells of one launch share their device; give one, "
            "and say with hydra.launcher.gpus=[0,1] which GPUs to use."
        )
    return devices[0]


def most_on_one_gpu(slots: Sequence[Slot]) -> int:
    """Cells that share a GPU, at most; 1 where there is none."""
    return max(Counter(slot.gpu for slot in slots if slot.gpu is not None).values(), default=1)


def describe_slots(slots: Sequence[Slot]) -> str:
    """One sentence part, such as ``2 cells at a time, 1 thread each``."""
    gpus = [slot.gpu for slot in slots if slot.gpu is not None]
    each = f"{counted(slots[0].num_threads, 'thread')}{' each' if len(slots) > 1 else ''}"
    where = ""
    if gpus:
        names = list(dict.fromkeys(gpus))
        where = f" on GPU{'' if len(names) == 1 else 's'} {', '.join(names)}"
    return f"{counted(len(slots), 'cell')} at a time{where}, {each}"
