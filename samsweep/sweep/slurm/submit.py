"""Submit cells to Slurm, as arrays of jobs, through submitit; wait for them unless detached."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samsweep.config import MODELS, ConfigError, unknown_name
from samsweep.config.factory import search_path
from samsweep.records.provenance import code_fingerprint
from samsweep.sweep.display import Display
from samsweep.sweep.estimate import Prepared, estimate_cost
from samsweep.sweep.local.process import call
from samsweep.sweep.local.runner import preload_for
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.manifest import LauncherSettings, launched
from samsweep.sweep.plan import Plan, PlannedCell
from samsweep.sweep.slurm.job import CellJob
from samsweep.sweep.slurm.job_arrays import Array, ArraySettings, SubmissionSettings, arrays_of
from samsweep.sweep.slurm.queue import queued_jobs
from samsweep.sweep.slurm.scheduler import describe_job_ids, max_array_size
from samsweep.sweep.slurm.watch import JobWatch
from samsweep.system.signals import Interrupted
from samsweep.system.text import counted

#: Cells by the job that they are in.
Jobs = Mapping[str, tuple[PlannedCell, ...]]

#: Keys of ours that say how cells become arrays, and how a job runs its share of them.
_ARRAY_KEYS = frozenset(ArraySettings.model_fields)
_POOL_KEYS = frozenset({"workers", "cells_per_gpu"})

#: Names of hydra-submitit-launcher's general keys in sbatch.
_SBATCH_NAMES = {
    "timeout_min": "time",
    "name": "job_name",
    "mem_gb": "mem",
    "tasks_per_node": "ntasks_per_node",
}


class SlurmRunner:
    """A :class:`~samsweep.sweep.execute.Runner`: arrays of jobs, each a pool over its cells.

    What is submitted is frozen: a job carries every value of its cells, and reads no file of conf/.

    Args:
        values: The keys of ``conf/hydra/launcher/slurm.yaml``.

    Raises:
        ConfigError: If a key is unknown or a value out of range.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        params = dict(values)
        self.fail_fast = False
        self.detach = bool(params.pop("detach", False))
        self.on_code_change = params.pop("on_code_change", "warn")
        self.arrays = ArraySettings.parse(_pop(params, _ARRAY_KEYS), prefix="hydra.launcher.")
        self.pool = PoolSettings.parse(_pop(params, _POOL_KEYS), prefix="hydra.launcher.")
        #: What submitit and sbatch are given.
        self.params = params
        _check(params, self.arrays.per_model)

    @property
    def values(self) -> dict[str, Any]:
        """What another runner of this kind is made from; it waits for its jobs."""
        return {
            **self.params,
            **self.arrays.model_dump(mode="json"),
            **self.pool.model_dump(mode="json", include=set(_POOL_KEYS)),
            "on_code_change": self.on_code_change,
        }

    def prepare(self, plan: Plan, *, download: bool = True, estimate: bool = True) -> Prepared:
        """Download data sets; the cost comes from records alone, of whatever machine."""
        models = {*MODELS, *(cell.run.cell.model.name for cell in plan.cells)}
        unknown = sorted(self.arrays.per_model.keys() - models)
        if unknown:
            where = "hydra.launcher.per_model"
            raise ConfigError(*(unknown_name(where, name, models) for name in unknown))
        runs = preload_for(plan)
        if download:
            call("samsweep.training.worker:prepare_runs", runs)
        if not estimate:
            return Prepared()
        return Prepared(cost=estimate_cost(plan, device=None, num_threads=None, probe=None))

    def run(self, plan: Plan, prepared: Prepared) -> bool:
        """Submit what is not in the queue yet, and wait unless detached.

        Raises:
            ConfigError: If Slurm does not answer, or refuses the jobs.
            SystemExit: If a signal stopped the waiting; the jobs go on.
        """
        jobs = queued_jobs(plan)
        queued = {cell.key for cells in jobs.values() for cell in cells}
        new = [cell for cell in plan.to_do if cell.key not in queued]
        if queued:
            in_queue = f"{counted(len(queued), 'cell')} in the queue already"
            print(f"{in_queue}: {describe_job_ids(jobs)}.")
        if new:
            submitted = self._submit(new)
            print(f"Submitted {counted(len(submitted), 'job')}: {describe_job_ids(submitted)}.")
            jobs |= submitted
        if self.detach:
            _print_next_commands(plan)
            return False
        _wait(jobs, plan)
        return True

    def scripts(self, plan: Plan) -> Iterator[str]:
        """The batch scripts that would be submitted."""
        for array in arrays_of(plan.to_do, self.arrays, max_array_size=max_array_size()):
            executor = self._executor(array, Path("multirun/STUDY/launches/TIME"), None)
            if len(array.jobs) > 1:
                # As submitit does when it submits an array.
                executor.parameters["map_count"] = len(array.jobs)
            yield executor._make_submission_file_text(executor._submitit_command_str, "dry_run")

    def _submit(self, cells: Sequence[PlannedCell]) -> dict[str, tuple[PlannedCell, ...]]:
        """Submit array by array; each one's job ids are in the manifests as soon as they exist."""
        jobs: dict[str, tuple[PlannedCell, ...]] = {}
        latest: dict[int, str] = {}
        with launched(cells, LauncherSettings(name="slurm", settings=self.values)) as folders:
            for array in arrays_of(cells, self.arrays, max_array_size=max_array_size()):
                submitted = self._submit_array(array, folders[0].path, latest.get(array.lane))
                latest[array.lane] = next(iter(submitted)).partition("_")[0]
                job_of_cell = {cell.key: job for job, some in submitted.items() for cell in some}
                for folder in folders:
                    folder.record_jobs(job_of_cell)
                jobs |= submitted
        return jobs

    def _submit_array(
        self, array: Array, folder: Path, after: str | None
    ) -> dict[str, tuple[PlannedCell, ...]]:
        import submitit

        executor = self._executor(array, folder, after)
        try:
            with _outside_of_jobs():
                jobs = executor.submit_array([self._job(cells) for cells in array.jobs])
        except submitit.core.utils.FailedJobError as error:
            reason = str(error).strip().rpartition("\n")[2].removeprefix("sbatch: error: ")
            raise ConfigError(
                f"sbatch refused the jobs: {reason}. Change the values of hydra.launcher; "
                "the cells are planned, and the same command submits them."
            ) from None
        return {job.job_id: cells for job, cells in zip(jobs, array.jobs, strict=True)}

    def _job(self, cells: tuple[PlannedCell, ...]) -> CellJob:
        return CellJob(
            cells=tuple(
                (cell.folder.path, tuple(point.run for point in cell.points)) for cell in cells
            ),
            settings=self.pool,
            search_path=search_path(),
            code=code_fingerprint(),
            on_code_change=self.on_code_change,
            fail_fast=self.fail_fast,
        )

    def _executor(self, array: Array, folder: Path, after: str | None) -> Any:
        """Submitit's executor for one array, as hydra-submitit-launcher sets it up."""
        import submitit

        params = {**self.params, **array.resources}
        params.pop("submitit_folder", None)
        executor = submitit.SlurmExecutor(
            folder=folder / "jobs", max_num_timeout=params.pop("max_num_timeout")
        )
        # By default submitit lets 256 jobs run at a time.
        parallelism = array.parallelism or len(array.jobs)
        executor.update_parameters(**_sbatch_parameters(params, parallelism, after))
        return executor


def _pop(params: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: params.pop(key) for key in keys & params.keys()}


def _wait(jobs: Jobs, plan: Plan) -> None:
    try:
        with Display([cell.key for cells in jobs.values() for cell in cells]) as display:
            JobWatch(jobs, display).wait()
    except Interrupted as stop:
        print("Detached: the jobs go on.")
        _print_next_commands(plan)
        raise SystemExit(128 + stop.signum) from None


def _print_next_commands(plan: Plan) -> None:
    for study in plan.studies:
        print(f"Watch:  samsweep status study={study.name} --watch")
        print(f"Cancel: samsweep status study={study.name} --cancel")


def _sbatch_parameters(
    params: Mapping[str, Any], parallelism: int, after: str | None
) -> dict[str, Any]:
    found = {_SBATCH_NAMES.get(key, key): value for key, value in params.items()}
    found = {key: value for key, value in found.items() if value is not None}
    if "mem" in found:
        found["mem"] = f"{found['mem']}GB"
    found["array_parallelism"] = parallelism
    if after is not None:
        found["dependency"] = f"afterany:{after}"
    # A preempted job is requeued by Slurm itself, whatever the cluster's default.
    found["additional_parameters"] = {"requeue": True} | dict(
        found.get("additional_parameters", {})
    )
    if "cpus_per_task" in found:
        # srun has not inherited it since Slurm 22.05.
        share = "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"
        found["setup"] = [share, *found.get("setup", [])]
    return found


def _check(params: Mapping[str, Any], per_model: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse unknown keys, and values that cannot be of those that have a meaning here.

    Raises:
        ConfigError: With a sentence for each.
    """
    import submitit

    # Keys of Hydra's plugin that are used here, and all that submitit has a name for.
    valid = {*_SBATCH_NAMES, *submitit.SlurmExecutor._valid_parameters()}
    valid -= set(_SBATCH_NAMES.values())
    ours = {"max_num_timeout", "submitit_folder"}
    where = "hydra.launcher.per_model"
    problems: list[str] = []
    places = {f"{where}.{model}": values for model, values in per_model.items()}
    for place, values in {"hydra.launcher": params, **places}.items():
        unknown = values.keys() - valid - (ours if values is params else set())
        problems += [unknown_name(place, key, valid) for key in unknown]
        known = {key: values[key] for key in values.keys() & SubmissionSettings.model_fields}
        try:
            SubmissionSettings.parse(known, prefix=f"{place}.")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*sorted(problems))


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Without the variables of a job that this runs in: sbatch would take them for options.

    The path of Slurm's configuration stays.
    """
    import submitit

    kept = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with submitit.helpers.clean_env(), submitit.core.utils.environment_variables(**kept):
        yield
