"""Submit cells to Slurm, as arrays of jobs, through submitit; wait for them unless detached."""

from __future__ import annotations

import logging
import os
import shlex
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from samsweep.config import DATASETS, MODELS, ConfigError, Frozen, unknown_name
from samsweep.config.factory import search_path
from samsweep.records.provenance import code_fingerprint
from samsweep.sweep.display import Display
from samsweep.sweep.estimate import Prepared, estimate_cost
from samsweep.sweep.local.process import call
from samsweep.sweep.local.runner import preload_for
from samsweep.sweep.manifest import LauncherSettings, launched
from samsweep.sweep.names import names_of
from samsweep.sweep.plan import Plan, PlannedCell
from samsweep.sweep.slurm import start
from samsweep.sweep.slurm.job import CellJob
from samsweep.sweep.slurm.job_arrays import (
    Array,
    ArraySettings,
    JobShare,
    SubmissionSettings,
    arrays_of,
    merged,
)
from samsweep.sweep.slurm.queue import queued_jobs
from samsweep.sweep.slurm.scheduler import (
    SlurmUnavailable,
    describe_job_ids,
    max_array_size,
    refusal,
    test_only,
)
from samsweep.sweep.slurm.watch import JobWatch
from samsweep.system.signals import Interrupted
from samsweep.system.text import counted

log = logging.getLogger(__name__)

#: Cells by the job that they are in.
Jobs = Mapping[str, tuple[PlannedCell, ...]]

#: Keys of ours that say how cells become arrays, and how a job runs its share of them.
_ARRAY_KEYS = frozenset(ArraySettings.model_fields)
#: Keys of ours that become part of others in the batch script.
_WRITTEN_KEYS = frozenset({"env", "python", "container", "container_binds"})

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
        #: What submitit and sbatch are given.
        self.params = params
        _check(params, self.arrays.places)

    @property
    def values(self) -> dict[str, Any]:
        """What another runner of this kind is made from; it waits for its jobs."""
        return {
            **self.params,
            **self.arrays.model_dump(mode="json"),
            "on_code_change": self.on_code_change,
        }

    def prepare(self, plan: Plan, *, download: bool = True, estimate: bool = True) -> Prepared:
        """Download data sets; the cost comes from records alone, of whatever machine."""
        self._refuse_unknown_names(plan)
        runs = preload_for(plan)
        if download:
            call("samsweep.training.worker:prepare_runs", runs)
        self._warn_of_cpus(plan)
        if not estimate:
            return Prepared()
        return Prepared(cost=estimate_cost(plan, device=None, num_threads=None, probe=None))

    def _refuse_unknown_names(self, plan: Plan) -> None:
        configs = [cell.run.cell for cell in plan.cells]
        known = {
            "per_model": {*MODELS, *(config.model.name for config in configs)},
            "per_dataset": {*DATASETS, *(config.dataset.name for config in configs)},
        }
        problems = [
            unknown_name(f"hydra.launcher.{kind}", name, names)
            for kind, names in known.items()
            for name in sorted(getattr(self.arrays, kind).keys() - names)
        ]
        if problems:
            raise ConfigError(*problems)

    def _warn_of_cpus(self, plan: Plan) -> None:
        """Say so if cells would take a GPU, and their jobs ask for none."""
        without = [
            cell
            for cell in plan.to_do
            if cell.run.device == "auto"
            and not _asks_for_gpus(merged(self.params, self.arrays.of(cell)))
        ]
        if without:
            log.warning(
                "No GPU is asked for: device=auto trains %s on CPUs. "
                "hydra.launcher.gpus_per_node=1 asks for one, device=cpu means it.",
                counted(len(without), "cell"),
            )

    def run(self, plan: Plan, prepared: Prepared) -> bool:
        """Submit what is not in the queue yet, and wait unless detached.

        Raises:
            ConfigError: If Slurm does not answer, or refuses the jobs.
            SystemExit: If a signal stopped the waiting; the jobs go on.
        """
        jobs = queued_jobs(plan)
        queued = {cell.key for cells in jobs.values() for cell in cells}
        # Looked at again: a cell that left the queue since it was planned may be finished.
        still = {cell.key: cell for cell in plan.again().to_do}
        new = [still[c.key] for c in plan.to_do if c.key in still and c.key not in queued]
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
        """The batch scripts that would be submitted, each if Slurm would take it.

        Raises:
            ConfigError: If it would not.
        """
        for array in arrays_of(plan.to_do, self.arrays, max_array_size=max_array_size()):
            executor = self._executor(array, Path("multirun/STUDY/launches/TIME"), None, "samsweep")
            if len(array.jobs) > 1:
                # As submitit does when it submits an array.
                executor.parameters["map_count"] = len(array.jobs)
            script = executor._make_submission_file_text(executor._submitit_command_str, "dry_run")
            with suppress(SlurmUnavailable), _outside_of_jobs():
                test_only(script)
            yield script

    def _submit(self, cells: Sequence[PlannedCell]) -> dict[str, tuple[PlannedCell, ...]]:
        """Submit array by array; each one's job ids are in the manifests as soon as they exist."""
        jobs: dict[str, tuple[PlannedCell, ...]] = {}
        latest: dict[int, str] = {}
        with launched(cells, LauncherSettings(name="slurm", settings=self.values)) as folders:
            arrays = arrays_of(cells, self.arrays, max_array_size=max_array_size())
            for number, array in enumerate(arrays):
                intent = f"samsweep:{uuid.uuid4().hex[:12]}:{number}"
                for folder in folders:
                    keys = [[cell.key for cell in job] for job in array.jobs]
                    folder.record_intent(intent, keys)
                after = latest.get(array.lane)
                submitted = self._submit_array(array, folders[0].path, after, intent)
                latest[array.lane] = next(iter(submitted)).partition("_")[0]
                job_of_cell = {cell.key: job for job, some in submitted.items() for cell in some}
                for folder in folders:
                    folder.record_jobs(job_of_cell)
                jobs |= submitted
        return jobs

    def _submit_array(
        self, array: Array, folder: Path, after: str | None, intent: str
    ) -> dict[str, tuple[PlannedCell, ...]]:
        import submitit

        executor = self._executor(array, folder, after, intent)
        try:
            with _outside_of_jobs():
                jobs = executor.submit_array([self._job(c, array.share) for c in array.jobs])
        except submitit.core.utils.FailedJobError as error:
            raise ConfigError(
                f"sbatch refused the jobs: {refusal(str(error))}. Change the values of "
                "hydra.launcher; the cells are planned, and the same command submits them."
            ) from None
        return {job.job_id: cells for job, cells in zip(jobs, array.jobs, strict=True)}

    def _job(self, cells: tuple[PlannedCell, ...], share: JobShare) -> CellJob:
        return CellJob(
            cells=tuple(
                (cell.folder.path, tuple(point.run for point in cell.points)) for cell in cells
            ),
            settings=share.pool,
            search_path=search_path(),
            code=code_fingerprint(),
            on_code_change=self.on_code_change,
            fail_fast=self.fail_fast,
        )

    def _executor(self, array: Array, folder: Path, after: str | None, intent: str) -> Any:
        """Submitit's executor for one array, as hydra-submitit-launcher sets it up."""
        import submitit

        params = merged(self.params, array.resources)
        params.pop("submitit_folder", None)
        settings = SubmissionSettings.parse(_known(params))
        executor = submitit.SlurmExecutor(
            folder=folder / "jobs",
            max_num_timeout=params.pop("max_num_timeout"),
            python=f"{settings.launches_python} -u -m {start.__name__}",
        )
        # By default submitit lets 256 jobs run at a time.
        parallelism = array.parallelism or len(array.jobs)
        params["comment"] = " ".join(filter(None, [settings.comment, intent]))
        executor.update_parameters(**_sbatch_parameters(params, settings, parallelism, after))
        return executor


def _asks_for_gpus(values: Mapping[str, Any]) -> bool:
    """Whether a job of these values does, by a key of ours or any option of sbatch."""
    named = any(values.get(key) for key in ("gpus_per_node", "gres", "gpus_per_task", "num_gpus"))
    further = values.get("additional_parameters") or ()
    return named or any("gp" in key or "gres" in key for key in further)


def _pop(params: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: params.pop(key) for key in keys & params.keys()}


def _wait(jobs: Jobs, plan: Plan) -> None:
    try:
        with Display(names_of(cell for cells in jobs.values() for cell in cells)) as display:
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
    params: Mapping[str, Any],
    settings: SubmissionSettings,
    parallelism: int,
    after: str | None,
) -> dict[str, Any]:
    kept = {key: value for key, value in params.items() if key not in _WRITTEN_KEYS}
    found = {_SBATCH_NAMES.get(key, key): value for key, value in kept.items()}
    found = {key: value for key, value in found.items() if value is not None}
    if settings.mem_gb is not None:
        whole = settings.mem_gb == int(settings.mem_gb)
        # sbatch takes whole numbers.
        found["mem"] = f"{settings.mem_gb:g}GB" if whole else f"{round(settings.mem_gb * 1024)}MB"
    found["array_parallelism"] = parallelism
    if after is not None:
        found["dependency"] = f"afterany:{after}"
    # A preempted job is requeued by Slurm itself, whatever the cluster's default.
    found["additional_parameters"] = {"requeue": True} | dict(
        found.get("additional_parameters", {})
    )
    setup = [f"export {name}={shlex.quote(value)}" for name, value in settings.env.items()]
    if settings.cpus_per_task is not None:
        # srun has not inherited it since Slurm 22.05.
        setup.append("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
    setup += settings.setup or ()
    found.pop("setup", None)
    return found | ({"setup": setup} if setup else {})


def _known(params: Mapping[str, Any]) -> dict[str, Any]:
    """The values of keys that have a meaning here."""
    return {key: params[key] for key in params.keys() & SubmissionSettings.model_fields}


def _check(params: Mapping[str, Any], places: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse unknown keys, and values that cannot be of those that have a meaning here.

    Raises:
        ConfigError: With a sentence for each.
    """
    import submitit

    # Keys of Hydra's plugin that are used here, and all that submitit has a name for.
    valid = {*_SBATCH_NAMES, *submitit.SlurmExecutor._valid_parameters(), *_WRITTEN_KEYS}
    valid -= set(_SBATCH_NAMES.values())
    valid |= {"max_num_timeout"}
    problems = _problems(params, params, "hydra.launcher", valid | {"submitit_folder"})
    for place, values in places.items():
        share = {key: values[key] for key in values.keys() & JobShare.model_fields}
        rest = {key: value for key, value in values.items() if key not in share}
        where = f"hydra.launcher.{place}"
        problems += _problems(
            rest, merged(params, rest), where, valid | JobShare.model_fields.keys()
        )
        problems += _problems_of(JobShare, share, where)
    if problems:
        raise ConfigError(*sorted(dict.fromkeys(problems)))


def _problems(
    given: Mapping[str, Any], values: Mapping[str, Any], place: str, valid: Collection[str]
) -> list[str]:
    """Of the keys that are given at a place, and of the values that hold there."""
    unknown = [unknown_name(place, key, valid) for key in given.keys() - valid]
    return unknown + _problems_of(SubmissionSettings, _known(values), place)


def _problems_of(schema: type[Frozen], values: Mapping[str, Any], place: str) -> list[str]:
    try:
        schema.parse(values, prefix=f"{place}.")
    except ConfigError as error:
        return list(error.problems)
    return []


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Without the variables of a job that this runs in: sbatch would take them for options.

    The path of Slurm's configuration stays.
    """
    import submitit

    kept = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with submitit.helpers.clean_env(), submitit.core.utils.environment_variables(**kept):
        yield
