"""Cells to jobs, and jobs to arrays: who shares a job, and how many jobs run at a time."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from samsweep.config import Count, Frozen
from samsweep.config.fields import Listed, NonNegativeInt, Positive, VariableName
from samsweep.records.identity import canonical_json
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.plan import PlannedCell
from samsweep.sweep.slurm.scheduler import chunks


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _lines(value: object) -> object:
    """One line alone is a list of it."""
    return [value] if isinstance(value, str) else value


#: A text that a command line may take for a number, such as account=4711.
_Word = Annotated[str, BeforeValidator(_text)]


class JobShare(Frozen):
    """How a job runs its share of the cells.

    Args:
        cells_per_job: Cells that share a job.
        workers: Cells at a time in a job.
        cells_per_gpu: Cells that share a GPU, if there are fewer GPUs than workers.
    """

    cells_per_job: Count = 1
    workers: Count = 1
    cells_per_gpu: Count = 1

    @property
    def pool(self) -> PoolSettings:
        """Of the pool that a job is."""
        return PoolSettings(workers=self.workers, cells_per_gpu=self.cells_per_gpu)


class ArraySettings(JobShare):
    """The values of ``hydra/launcher=slurm`` that say how cells become arrays of jobs.

    Args:
        cells_per_job: Cells that share a job.
        workers: Cells at a time in a job.
        cells_per_gpu: Cells that share a GPU, if there are fewer GPUs than workers.
        max_parallel: Jobs at a time over the whole sweep; None is no limit.
        per_model: Of these and of the resources, what differs for a model, by its name.
        per_dataset: The same for a data set, where it goes before what is said of the model.
    """

    max_parallel: Count | None = None
    per_model: Mapping[str, Mapping[str, Any]] = {}
    per_dataset: Mapping[str, Mapping[str, Any]] = {}

    @property
    def places(self) -> dict[str, Mapping[str, Any]]:
        """What differs, by the keys under which it stands."""
        return {
            f"{kind}.{name}": values
            for kind in ("per_model", "per_dataset")
            for name, values in getattr(self, kind).items()
        }

    def of(self, cell: PlannedCell) -> dict[str, Any]:
        """What differs for a cell."""
        config = cell.run.cell
        return merged(
            self.per_model.get(config.model.name, {}), self.per_dataset.get(config.dataset.name, {})
        )


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both, of the second where both have one; mappings are merged in their turn.

    >>> merged({"mem_gb": 8, "env": {"A": 1}}, {"env": {"B": 2}})
    {'mem_gb': 8, 'env': {'A': 1, 'B': 2}}
    """
    both = {
        key: merged(first[key], value)
        for key, value in second.items()
        if isinstance(value, Mapping) and isinstance(first.get(key), Mapping)
    }
    return {**first, **second, **both}


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
        comment: Comment that Slurm keeps with the jobs, before samsweep's own; None is none.
        env: Variables of the environment of a job, such as {OMP_NUM_THREADS: 4}.
        setup: Lines of the batch script before the job, such as ["module load cuda"]; None is none.
        python: Command that starts Python on the nodes; None is the Python that submits.
        container: Apptainer image in which Python is started, which has samsweep; None is none.
        container_binds: Folders of the nodes that the image is to see beside the one where the
            command was given, as FOLDER or FOLDER:PLACE.
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
    mem_gb: Positive | None = None
    constraint: _Word | None = None
    exclude: _Word | None = None
    nodelist: _Word | None = None
    comment: _Word | None = None
    env: Mapping[VariableName, _Word] = {}
    setup: Annotated[tuple[str, ...], Listed, BeforeValidator(_lines)] | None = None
    python: str | None = None
    container: _Word | None = None
    container_binds: Annotated[tuple[str, ...], Listed, BeforeValidator(_lines)] = ()
    additional_parameters: Mapping[str, str | int | float | bool | None] = {}
    signal_delay_s: NonNegativeInt = 120
    max_num_timeout: NonNegativeInt = 10

    @model_validator(mode="after")
    def _leaves_time(self) -> Self:
        """A job whose warning is due as it starts would be stopped in its first second."""
        if self.signal_delay_s >= 60 * self.timeout_min:
            raise ValueError(
                f"timeout_min={self.timeout_min} leaves nothing before signal_delay_s="
                f"{self.signal_delay_s}: choose a longer limit, or less time to save states"
            )
        return self

    @model_validator(mode="after")
    def _one_python(self) -> Self:
        if self.container_binds and self.container is None:
            raise ValueError("container_binds have no effect without a container: leave them out")
        return self

    @property
    def launches_python(self) -> str:
        """The shell command that starts Python on a node, up to its arguments."""
        python = shlex.quote(sys.executable) if self.python is None else self.python
        if self.container is None:
            return python
        if self.python is None:
            python = "python3"  # that of the image
        binds = [word for bind in (os.getcwd(), *self.container_binds) for word in ("--bind", bind)]
        nvidia = ["--nv"] if self.gpus_per_node or self.gres else []
        command = ["apptainer", "exec", *nvidia, *binds, self.container]
        return f"{shlex.join(command)} {python}"


@dataclass(frozen=True, kw_only=True)
class Array:
    """Jobs that are submitted together, with the same resources.

    Args:
        jobs: The cells of each job.
        resources: What differs from the settings of all.
        share: How a job runs its cells.
        parallelism: Jobs of the array at a time; None is no limit.
        lane: Arrays of one lane run one after the other.
    """

    jobs: tuple[tuple[PlannedCell, ...], ...]
    resources: Mapping[str, Any]
    share: JobShare
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
        (resources, share, jobs)
        for resources, share, members in _by_resources(cells, settings)
        for jobs in chunks(list(chunks(members, share.cells_per_job)), max_array_size)
    ]
    limit = settings.max_parallel
    num_lanes = len(packed) if limit is None else min(limit, len(packed))
    sizes = [max(len(jobs) for *_, jobs in packed[lane::num_lanes]) for lane in range(num_lanes)]
    shares = [None] * num_lanes if limit is None else deal(limit, sizes)
    return [
        Array(
            jobs=tuple(jobs),
            resources=resources,
            share=share,
            parallelism=shares[index % num_lanes],
            lane=index % num_lanes,
        )
        for index, (resources, share, jobs) in enumerate(packed)
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
) -> Iterator[tuple[Mapping[str, Any], JobShare, list[PlannedCell]]]:
    """Cells of a study that have the same resources, with these and how a job runs them."""
    groups: dict[tuple[str, str], tuple[dict[str, Any], list[PlannedCell]]] = {}
    for cell in cells:
        values = settings.of(cell)
        group = (cell.key.study, canonical_json(values))
        groups.setdefault(group, (values, []))[1].append(cell)
    keys = JobShare.model_fields.keys()
    common = settings.model_dump(include=set(keys))
    for values, members in groups.values():
        own = {key: values.pop(key) for key in keys & values.keys()}
        yield values, JobShare.parse({**common, **own}), members
