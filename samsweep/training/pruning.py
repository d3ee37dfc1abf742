"""Ending hopeless cells early: what a pruner of Optuna's says of a cell beside those of its study.

Every answer is from the files of the study alone: its cells become the trials of a study of
Optuna's in memory, their epochs the steps, and nothing is kept between two answers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samsweep.config import METRICS, PRUNERS, CellConfig, ConfigError, PruningConfig, RunConfig
from samsweep.config.factory import make
from samsweep.records.identity import canonical_json
from samsweep.records.schema import Record, Status
from samsweep.records.store import CellFolder, RecordError, cell_folders
from samsweep.system.text import counted, score_text

#: Optuna's states of trials; of a cell in another state the training goes on, or may.
_STATES: Mapping[Status, str] = {
    "complete": "COMPLETE",
    "pruned": "PRUNED",
    "diverged": "FAIL",
    "failed": "FAIL",
}


class Pruned(Exception):
    """A cell was ended early since its pruner calls it hopeless: how it stood, and beside what."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The validation of a cell, epoch by epoch.

    Args:
        order: Sorts the cells of a study by the start of their first attempts.
        status: Of its record.
        values: By the metric after each complete epoch.
    """

    order: tuple[str, str]
    status: Status
    values: Sequence[float]


class Pruning:
    """Asks a pruner about one cell.

    Args:
        config: Names the pruner.
        cell: The cell.
        folder: Its folder, beside those of its study.

    Raises:
        ConfigError: If the pruner cannot be made.
    """

    def __init__(self, config: PruningConfig, cell: CellConfig, folder: CellFolder) -> None:
        make_pruner(config)
        self._config = config
        self._cell = cell
        self._folder = folder
        self._task = _task_of(cell)
        self._metric = METRICS.find(cell.recipe.metric or "accuracy")
        #: What was read of a cell's folder, and of which state of its files.
        self._read: dict[Path, tuple[_Stamp, Curve | None]] = {}

    @classmethod
    def of(cls, run: RunConfig, folder: CellFolder) -> Pruning | None:
        """For the cell of a run; None if it has no pruner."""
        return None if run.pruning is None else cls(run.pruning, run.cell, folder)

    def reason(self, history: Sequence[Mapping[str, Any]]) -> str | None:
        """Why the cell is to be ended after its latest epoch; None if it is not, or at its end.

        Args:
            history: Its lines so far, at least one.
        """
        epoch = len(history)
        if epoch >= self._cell.recipe.epochs:
            return None
        own = Curve(order=self._own_order(), status="running", values=_values(history))
        others = list(self._others())
        higher = self._metric.higher_is_better
        if not should_prune(self._config, own, others, higher_is_better=higher):
            return None
        score = score_text(own.values[-1], self._cell.recipe.metric, digits=2)
        return (
            f"epoch {epoch}: validation {score}, pruner {self._config.name}, "
            f"{counted(len(others), 'other cell')}"
        )

    def _own_order(self) -> tuple[str, str]:
        record = self._folder.read()
        return ("", "") if record is None else _order(record)

    def _others(self) -> Iterator[Curve]:
        """The curves of the study's other cells that can be compared with this one."""
        for folder in cell_folders(self._folder.study):
            if folder == self._folder:
                continue
            stamp = _stamp(folder)
            if self._read.get(folder.path, (None,))[0] != stamp:
                self._read[folder.path] = (stamp, self._curve(folder))
            curve = self._read[folder.path][1]
            if curve is not None:
                yield curve

    def _curve(self, folder: CellFolder) -> Curve | None:
        """None of a cell that says nothing, or not of the same task, or cannot be read."""
        try:
            record = folder.read()
            if record is None or _task_of(record.identity) != self._task:
                return None
            values = _values(folder.read_history())
        except (RecordError, OSError):
            # Reported by whatever plans or tabulates that cell.
            return None
        return Curve(order=_order(record), status=record.status, values=values) if values else None


#: Names, sizes and times of change of what is read of a cell.
_Stamp = tuple[tuple[int, int, int] | None, ...]


def _stamp(folder: CellFolder) -> _Stamp:
    def of(file: Path) -> tuple[int, int, int] | None:
        try:
            found = file.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    return of(folder.record_file), of(folder.history_file)


def _task_of(cell: CellConfig) -> str:
    """What two cells have in common whose validation can be compared epoch by epoch.

    The data, all but their augmentation, what is scored by, and the number of epochs, by which
    schedules go.
    """
    data = cell.dataset.model_dump(mode="json", exclude={"augment"})
    sources = {kind: (cell.sources or {}).get(kind) for kind in ("dataset", "metric")}
    recipe = cell.recipe.model_dump(mode="json", include={"metric", "metric_args", "epochs"})
    return canonical_json({"data": data, "sources": sources, "recipe": recipe})


def _order(record: Record) -> tuple[str, str]:
    return (record.attempts[0].started if record.attempts else "", record.cell_id)


def _values(history: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    """Validation after each epoch, up to the first NaN or other value that is not finite."""
    values: list[float] = []
    for row in history:
        value = row.get("val_accuracy") if isinstance(row, Mapping) else None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            break
        values.append(float(value))
    return tuple(values)


# --------------------------------------------------------------------------- Optuna


def make_pruner(config: PruningConfig) -> Any:
    """The pruner, an ``optuna.pruners.BasePruner``.

    Raises:
        ConfigError: If it is not there, does not take its arguments, or is no pruner.
    """
    component = PRUNERS.find(config.name)
    what = f"pruner={config.name}"
    try:
        pruner = make(what, component.factory, component.with_args(config.args))
    except ConfigError:
        raise
    except Exception as error:
        typed = [what, *(f"pruner_args.{key}={value}" for key, value in config.args.items())]
        raise ConfigError(f"{' '.join(typed)}: {str(error).rstrip('.')}.") from error
    if not callable(getattr(pruner, "prune", None)):
        raise ConfigError(
            f"{what} gives {type(pruner).__name__}, which has no method prune: "
            "return an optuna.pruners.BasePruner."
        )
    return pruner


def should_prune(
    config: PruningConfig, own: Curve, others: Sequence[Curve], *, higher_is_better: bool
) -> bool:
    """Whether a pruner ends a cell after its latest epoch.

    Args:
        config: Names the pruner, which is made afresh.
        own: The cell's curve so far.
        others: Those of the cells that it is compared with.
        higher_is_better: What the metric wants.
    """
    replays = PRUNERS.find(config.name).replays
    with _quiet_optuna() as optuna:
        study = optuna.create_study(
            direction="maximize" if higher_is_better else "minimize", pruner=make_pruner(config)
        )
        asked = None
        for curve in sorted([own, *others], key=lambda curve: curve.order):
            trial = study.ask()
            if curve is own:
                # In its place by number, and only then asked when all others have reported.
                asked = trial
            else:
                _report(trial, curve.values, replays=replays)
                _tell(study, trial, curve, optuna)
        assert asked is not None
        _report(asked, own.values[:-1], replays=replays)
        asked.report(own.values[-1], len(own.values) - 1)
        return bool(asked.should_prune())


def _report(trial: Any, values: Sequence[float], *, replays: bool) -> None:
    """Report all epochs, from 0, and let the pruner take note of each if it has to."""
    for step, value in enumerate(values):
        trial.report(value, step)
        if replays:
            trial.should_prune()


def _tell(study: Any, trial: Any, curve: Curve, optuna: Any) -> None:
    """The end of a trial whose cell is at its end."""
    name = _STATES.get(curve.status)
    if name is not None:
        state = optuna.trial.TrialState[name]
        study.tell(trial, curve.values[-1] if name == "COMPLETE" else None, state=state)


@contextmanager
def _quiet_optuna() -> Iterator[Any]:
    """Optuna, which else logs every study that it makes."""
    # Late: it takes seconds to import, and only cells with a pruner need it.
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)
