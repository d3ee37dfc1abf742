"""Cells to jobs, and jobs to arrays: who shares a job, and how many jobs run at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samsweep.config import Count, Frozen
from samsweep.records.identity import canonical_json
from samsweep.sweep.plan import PlannedCell
from samsweep.sweep.slurm.scheduler import chunks


class ArraySettings(Frozen):
    """The values of ``hydra/launcher=slurm`` that say how cells become arrays of jobs.

    Args:
        cells_per_job: Cells that share a job.
        max_parallel: Jobs at a time over the whole sweep; None is no limit.
        per_model: Resources of a model that differ from those of the others, by its name.
    """

    cells_per_job: Count = 1
    max_parallel: Count | None = None
    per_model: Mapping[str, Mapping[str, Any]] = {}


@dataclass(frozen=True, kw_only=True)
class Array:
    """Jobs that are submitted together, with the same resources.

    Args:
        jobs: The cells of each job.
        resources: What differs from the settings of all.
        parallelism: Jobs of the array at a time; None is no limit.
        lane: Arrays of one lane run one after the other.
    """

    jobs: tuple[tuple[PlannedCell, ...], ...]
    resources: Mapping[str, Any]
    parallelism: int | None
    lane: int


def arrays_of(
    cells: Sequence[PlannedCell], settings: ArraySettings, *, max_array_size: int
) -> list[Array]:
    """Pack cells of the same study and resources into jobs, and jobs into arrays that Slurm takes.

    A job has cells of one study, so that cancelling a study reaches no other.

    Slurm limits the jobs at a time of one array only. The limit of the sweep is dealt out among its
    arrays; more arrays than that form lanes, in which one waits for the other.

    Args:
        cells: In the order to start them.
        settings: How to pack them.
        max_array_size: Slurm's limit; the largest index is one less.
    """
    packed = [
        (resources, jobs)
        for resources, members in _by_resources(cells, settings)
        for jobs in chunks(list(chunks(members, settings.cells_per_job)), max_array_size)
    ]
    limit = settings.max_parallel
    if limit is None:
        return [
            Array(jobs=tuple(jobs), resources=resources, parallelism=None, lane=lane)
            for lane, (resources, jobs) in enumerate(packed)
        ]
    num_lanes = min(limit, len(packed))
    sizes = [max(len(jobs) for _, jobs in packed[lane::num_lanes]) for lane in range(num_lanes)]
    shares = deal(limit, sizes)
    return [
        Array(
            jobs=tuple(jobs),
            resources=resources,
            parallelism=shares[index % num_lanes],
            lane=index % num_lanes,
        )
        for index, (resources, jobs) in enumerate(packed)
    ]


def deal(total: int, sizes: Sequence[int]) -> list[int]:
    """Deal out a number in proportion to sizes, at least 1 to each, and no more than its size.

    >>> deal(6, [8, 4]), deal(2, [100, 1]), deal(10, [3, 4])
    ([4, 2], [1, 1], [3, 4])
    """
    shares = [1] * len(sizes)
    for _ in range(total - len(sizes)):
        below = [i for i, size in enumerate(sizes) if shares[i] < size]
        if not below:
            break
        smallest = max(below, key=lambda i: sizes[i] / shares[i])
        shares[smallest] += 1
    return shares


def _by_resources(
    cells: Iterable[PlannedCell], settings: ArraySettings
) -> Iterable[tuple[Mapping[str, Any], list[PlannedCell]]]:
    groups: dict[tuple[str, str], tuple[Mapping[str, Any], list[PlannedCell]]] = {}
    for cell in cells:
        resources = settings.per_model.get(cell.run.cell.model.name, {})
        group = (cell.key.study, canonical_json(resources))
        groups.setdefault(group, (resources, []))[1].append(cell)
    return groups.values()
