"""Cells to jobs, and jobs to arrays: who shares a job, and how many jobs run at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from samsweep.config import Count, Frozen
from samsweep.config.fields import Listed, NonNegativeInt
from samsweep.records.identity import canonical_json
from samsweep.sweep.plan import PlannedCell
from samsweep.sweep.slurm.scheduler import chunks


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


#: A text that a command line may take for a number, such as account=4711.
_Word = Annotated[str, BeforeValidator(_text)]


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


class SubmissionSettings(Frozen):
    """The values of ``hydra/launcher=slurm`` that say what each job asks Slurm for.

    Args:
        name: Name of the jobs, as squeue shows it.
        partition: Partition, or several with commas; None is the cluster's default.
        account: Account that the time is charged to; None is your default.
        qos: Quality of service; None is that of the account or partition.
        timeout_min: Time limit of a job, in minutes.
        cpus_per_task: CPU cores of a job; None is the cluster's default, mostly one.
        gpus_per_node: GPUs of a job, or TYPE:NUMBER; None is none.
        gres: Generic resources in place of gpus_per_node, such as gpu:a100:1; None is none.
        mem_gb: Memory of a job, in GB; None is the cluster's default.
        constraint: Features that the node must have, such as a100; None is any node.
        exclude: Nodes not to use, with commas; None excludes none.
        nodelist: Nodes that a job must have, with commas; None is any.
        comment: Comment that Slurm keeps with the jobs; None is none.
        setup: Lines of the batch script before the job, such as ["module load cuda"]; None is none.
        additional_parameters: Any other option of sbatch by its long name, such as
            {mail-type: END}.
        signal_delay_s: How long before the time limit cells save their states, in seconds.
        max_num_timeout: How often a job that ran into its time limit is queued again.
    """

    name: _Word = "samsweep"
    partition: _Word | None = None
    account: _Word | None = None
    qos: _Word | None = None
    timeout_min: Count = 60
    cpus_per_task: Count | None = None
    gpus_per_node: _Word | None = None
    gres: _Word | None = None
    mem_gb: Count | None = None
    constraint: _Word | None = None
    exclude: _Word | None = None
    nodelist: _Word | None = None
    comment: _Word | None = None
    setup: Annotated[tuple[str, ...], Listed] | None = None
    additional_parameters: Mapping[str, Any] = {}
    signal_delay_s: NonNegativeInt = 120
    max_num_timeout: NonNegativeInt = 10


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
    """
    packed = [
        (resources, jobs)
        for resources, members in _by_resources(cells, settings)
        for jobs in chunks(list(chunks(members, settings.cells_per_job)), max_array_size)
    ]
    limit = settings.max_parallel
    num_lanes = len(packed) if limit is None else min(limit, len(packed))
    sizes = [max(len(jobs) for _, jobs in packed[lane::num_lanes]) for lane in range(num_lanes)]
    shares = [None] * num_lanes if limit is None else deal(limit, sizes)
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
