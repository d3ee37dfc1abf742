"""Hydra's way to a Slurm cluster, on hydra-submitit-launcher: ``hydra/launcher=slurm``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as SubmititSlurm
from omegaconf import DictConfig

from hydra_plugins.samsweep_launcher import PlanLauncher
from samsweep.config import MODELS, ConfigError, unknown_name
from samsweep.records.identity import wanted_measurements
from samsweep.records.provenance import code_fingerprint
from samsweep.records.work import missing_measurements
from samsweep.sweep.display import Display
from samsweep.sweep.local.launcher import Outlook, look_from_afar
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.manifest import Launcher, launched, study_folder
from samsweep.sweep.plan import Plan, PlannedCell
from samsweep.sweep.slurm.arrays import Array, ArraySettings, arrays_of
from samsweep.sweep.slurm.job import CellJob
from samsweep.sweep.slurm.queue import queued_cells, runs_of_job
from samsweep.sweep.slurm.scheduler import SlurmUnavailable, max_array_size
from samsweep.sweep.slurm.watch import JobWatch
from samsweep.system.signals import Interrupted
from samsweep.system.text import counted

#: Keys of ours that say how cells become arrays, and how a job runs its share of them.
_ARRAY_KEYS = frozenset(ArraySettings.model_fields)
_POOL_KEYS = frozenset({"workers", "cells_per_gpu"})


class SlurmLauncher(SubmititSlurm, PlanLauncher):  # type: ignore[misc]
    """Sends cells to Slurm as arrays of jobs, each a pool over its share of them.

    What is submitted is frozen: the job gets every value of its cells, and reads no file of conf/.

    Args:
        params: The keys of ``conf/hydra/launcher/slurm.yaml``.

    Raises:
        ConfigError: If a value cannot be.
    """

    def __init__(self, **params: Any) -> None:
        self.detach = bool(params.pop("detach", False))
        self.on_code_change = params.pop("on_code_change", "warn")
        super().__init__(**params)
        plain = self.params
        self.arrays = ArraySettings.parse(
            {key: plain.pop(key) for key in _ARRAY_KEYS & plain.keys()}, prefix="hydra.launcher."
        )
        self.pool = PoolSettings.parse(
            {key: plain.pop(key) for key in _POOL_KEYS & plain.keys()}, prefix="hydra.launcher."
        )
        _check_keys(plain, self.arrays.per_model)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra's call before the first launch."""
        PlanLauncher.setup(
            self, hydra_context=hydra_context, task_function=task_function, config=config
        )

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """See :meth:`PlanLauncher.launch`."""
        return PlanLauncher.launch(self, job_overrides, initial_job_idx)

    def look_ahead(self, plan: Plan, *, prepare: bool = True, estimate: bool = True) -> Outlook:
        """See :meth:`PlanLauncher.look_ahead`; only records tell what cells will cost elsewhere."""
        return look_from_afar(plan, prepare=prepare, estimate=estimate)

    def show(self, plan: Plan) -> None:
        """Print the sbatch scripts that would be submitted."""
        for array in self._arrays(plan.to_do):
            executor = self._executor(array, Path("multirun/STUDY/launches/TIME"), None)
            if len(array.jobs) > 1:
                # As submitit does when it submits an array.
                executor.parameters["map_count"] = len(array.jobs)
            print(executor._make_submission_file_text(executor._submitit_command_str, "dry_run"))

    def launch_plan(self, plan: Plan, outlook: Outlook) -> bool:
        """See :meth:`PlanLauncher.launch_plan`."""
        jobs = _in_queue(plan)
        queued = {cell.key for cells in jobs.values() for cell in cells}
        new = [cell for cell in plan.to_do if cell.key not in queued]
        if queued:
            print(f"{counted(len(queued), 'cell')} in the queue already: {_shown(jobs)}.")
        if new:
            submitted = self._launch(new)
            print(f"Submitted {counted(len(submitted), 'job')}: {_shown(submitted)}.")
            jobs |= submitted
        if self.detach:
            self._tell_how_to_follow(plan)
            return False
        return self._wait(plan, jobs)

    def _launch(self, cells: Sequence[PlannedCell]) -> dict[str, tuple[PlannedCell, ...]]:
        """Submit cells; the manifest knows an array's jobs as soon as Slurm has named them."""
        jobs: dict[str, tuple[PlannedCell, ...]] = {}
        launcher = Launcher(name="slurm", settings=self._settings())
        with launched(cells, launcher) as folders:
            for array in self._submit(cells, folders[0].path):
                jobs |= array
                job_of_cell = {cell.key: job for job, some in array.items() for cell in some}
                for folder in folders:
                    folder.record_jobs(job_of_cell)
        return jobs

    def _wait(self, plan: Plan, jobs: Mapping[str, tuple[PlannedCell, ...]]) -> bool:
        try:
            with Display([cell.key for cells in jobs.values() for cell in cells]) as display:
                JobWatch(jobs, display).wait()
        except Interrupted as stop:
            print("Detached: the jobs go on.")
            self._tell_how_to_follow(plan)
            raise SystemExit(128 + stop.signum) from None
        return True

    def _tell_how_to_follow(self, plan: Plan) -> None:
        for study in dict.fromkeys(cell.run.study for cell in plan.cells):
            print(f"Watch:  python -m samsweep.status study={study} --watch")
            print(f"Cancel: python -m samsweep.status study={study} --cancel")

    # ------------------------------------------------------------------ submission

    def _settings(self) -> dict[str, Any]:
        """Everything that another launcher of this kind is made from."""
        ours = self.arrays.model_dump(mode="json") | self.pool.model_dump(
            mode="json", include=set(_POOL_KEYS)
        )
        return {**self.params, **ours, "on_code_change": self.on_code_change}

    def _arrays(self, cells: Sequence[PlannedCell]) -> list[Array]:
        return arrays_of(cells, self.arrays, max_array_size=max_array_size())

    def _submit(
        self, cells: Sequence[PlannedCell], folder: Path
    ) -> Iterator[dict[str, tuple[PlannedCell, ...]]]:
        """Submit array by array; the cells of each one's jobs, by their ids."""
        import submitit

        previous: dict[int, str] = {}
        for array in self._arrays(cells):
            executor = self._executor(array, folder, previous.get(array.lane))
            try:
                with _outside_of_jobs():
                    jobs = executor.submit_array([self._job(members) for members in array.jobs])
            except submitit.core.utils.FailedJobError as error:
                reason = str(error).strip().rpartition("\n")[2].removeprefix("sbatch: error: ")
                raise ConfigError(
                    f"sbatch refused the jobs: {reason}. Change the values of hydra.launcher; "
                    "the cells are planned, and the same command submits them."
                ) from None
            previous[array.lane] = jobs[0].job_id.partition("_")[0]
            yield {job.job_id: cells for job, cells in zip(jobs, array.jobs, strict=True)}

    def _job(self, cells: tuple[PlannedCell, ...]) -> CellJob:
        return CellJob(
            cells=tuple(
                (cell.folder.path, tuple(point.run for point in cell.points)) for cell in cells
            ),
            settings=self.pool,
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
        # Without a word on it submitit lets 256 jobs run at a time.
        parallelism = array.parallelism or len(array.jobs)
        executor.update_parameters(**_sbatch_parameters(params, parallelism, after))
        return executor


#: Names of hydra-submitit-launcher's general keys in sbatch.
_NAMES = {
    "timeout_min": "time",
    "name": "job_name",
    "mem_gb": "mem",
    "tasks_per_node": "ntasks_per_node",
}


def _sbatch_parameters(
    params: Mapping[str, Any], parallelism: int, after: str | None
) -> dict[str, Any]:
    found = {_NAMES.get(key, key): value for key, value in params.items() if value is not None}
    if "mem" in found:
        found["mem"] = f"{found['mem']}GB"
    found["array_parallelism"] = parallelism
    if after is not None:
        found["dependency"] = f"afterany:{after}"
    # A preempted job is queued again by Slurm itself, whatever the cluster's default.
    found["additional_parameters"] = {"requeue": True} | dict(
        found.get("additional_parameters", {})
    )
    if "cpus_per_task" in found:
        # srun has not inherited it since Slurm 22.05.
        share = "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"
        found["setup"] = [share, *found.get("setup", [])]
    return found


def _check_keys(params: Mapping[str, Any], per_model: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what a job cannot be given, before anything is planned.

    Raises:
        ConfigError: With a sentence for each key that nothing answers to.
    """
    import submitit

    # Keys of Hydra's plugin that we have a use for, and all that submitit has a name for.
    valid = {*_NAMES, *submitit.SlurmExecutor._valid_parameters()} - set(_NAMES.values())
    ours = {"max_num_timeout", "submitit_folder"}
    where = "hydra.launcher.per_model"
    problems = [unknown_name("hydra.launcher", key, valid) for key in params.keys() - valid - ours]
    for model, resources in per_model.items():
        if model not in MODELS:
            problems.append(unknown_name(where, model, MODELS))
        for key in resources.keys() - valid:
            problems.append(unknown_name(f"{where}.{model}", key, valid))
    if problems:
        raise ConfigError(*sorted(problems))


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Without the variables of a job that we may be inside of: sbatch would take them for wishes.

    Where Slurm's configuration lies is no wish.
    """
    import submitit

    kept = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with submitit.helpers.clean_env(), submitit.core.utils.environment_variables(**kept):
        yield


def _in_queue(plan: Plan) -> dict[str, tuple[PlannedCell, ...]]:
    """The cells of a plan whose jobs wait or run already, by job."""
    planned = {cell.key: cell for cell in plan.cells}
    jobs: dict[str, list[PlannedCell]] = {}
    for study in {study_folder(cell.folder): None for cell in plan.cells}:
        try:
            found = queued_cells(study)
        except SlurmUnavailable as error:
            raise ConfigError(
                f"Slurm does not say what of {study.name} is in its queue ({error}): nothing was "
                "submitted; try again on a login node."
            ) from None
        for key, queued in found.items():
            if key in planned and _will_finish(queued.job_id, planned[key]):
                jobs.setdefault(queued.job_id, []).append(planned[key])
    return {job_id: tuple(cells) for job_id, cells in jobs.items()}


def _will_finish(job_id: str, cell: PlannedCell) -> bool:
    """Whether a job leaves nothing to be done.

    One that shares itself among cells stays in the queue when this one is trained, and measures
    what it was asked to alone.
    """
    if cell.action != "measure" or cell.record is None:
        return True
    runs = runs_of_job(cell.folder, job_id)
    asked = {key for run in runs for key in wanted_measurements(run.sharpness)}
    return all(
        missing_measurements(point.run, cell.record).keys() <= asked for point in cell.points
    )


def _shown(job_ids: Sequence[str] | Mapping[str, Any]) -> str:
    """Job ids, arrays as ranges."""
    arrays: dict[str, list[str]] = {}
    for job_id in job_ids:
        array, _, index = job_id.partition("_")
        arrays.setdefault(array, []).append(index)
    return ", ".join(
        array if indices == [""] else f"{array}_[{_ranges(map(int, indices))}]"
        for array, indices in arrays.items()
    )


def _ranges(indices: Iterable[int]) -> str:
    """Numbers as Slurm writes them, such as ``0-2,5``."""
    runs: list[tuple[int, int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
