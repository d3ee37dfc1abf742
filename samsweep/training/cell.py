"""One cell from its folder to its record: train what is missing, measure what is missing."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import torch

from samsweep.config import RunConfig
from samsweep.data.images import ImageData
from samsweep.data.load import load_dataset
from samsweep.records.identity import measurement_settings
from samsweep.records.lock import FolderBusy, FolderLock, LockLost
from samsweep.records.provenance import now, provenance
from samsweep.records.schema import (
    Attempt,
    CellFailed,
    Measurement,
    Metrics,
    Progress,
    Provenance,
    Record,
    Status,
)
from samsweep.records.store import CellFolder
from samsweep.records.work import missing_measurements, work_left
from samsweep.system.progress import Show, Snapshot
from samsweep.system.signals import StopRequest
from samsweep.tracking import NoTracker, Tracker, start_tracker
from samsweep.training.checkpoint import Checkpoints, read_weights, write_weights
from samsweep.training.device import (
    describe_device,
    make_current,
    make_deterministic,
    num_cores,
    num_threads,
    resolve_device,
)
from samsweep.training.evaluate import Score, evaluate
from samsweep.training.examples import measured_examples
from samsweep.training.memory import keep_freed_memory
from samsweep.training.progress_bar import TrainingProgress
from samsweep.training.trainer import Trainer, initial_model

log = logging.getLogger(__name__)


class Diverged(ArithmeticError):
    """The training left the numbers: a result of the optimizer, not of the program."""


def run_cell(
    config: RunConfig,
    folder: CellFolder,
    progress: AbstractContextManager[Show] | None = None,
    *,
    num_attempts: int | None = None,
) -> float:
    """Bring a cell to its end, from wherever it is.

    A finished cell is not trained again, an interrupted one goes on at its checkpoint, and a
    measurement that is there is not repeated.

    Args:
        config: The cell and how it runs here.
        folder: Its folder, which exists.
        progress: What shows how far it is, entered for each part of the work; None is a bar on a
            terminal and a line per epoch elsewhere.
        num_attempts: How often it had been tried when this was planned. If it has failed since, in
            another process, it is not tried again. None is always to try.

    Returns:
        Validation accuracy of the last epoch in percent; 0 for a cell that diverged, NaN for one
        that another process is working on.

    Raises:
        CellFailed: If training or measuring raised, here or since it was planned.
        Interrupted: If a signal stopped it; there is a checkpoint.
    """
    try:
        with FolderLock(folder.path) as lock:
            _check_not_failed_since(folder, num_attempts)
            shown = progress or TrainingProgress(folder.path.name)
            return CellRun(config, folder, lock, shown).run()
    except FolderBusy as busy:
        log.info("%s: left alone, %s", folder.path.name, busy)
    except LockLost as lost:
        log.warning("%s: left to another process, %s", folder.path.name, lost)
    return math.nan


def _check_not_failed_since(folder: CellFolder, num_attempts: int | None) -> None:
    """Under the lock, so that no other process can fail between this look and what follows."""
    record = None if num_attempts is None else folder.read()
    if record is None or record.status != "failed":
        return
    if len(record.attempts) > (num_attempts or 0):
        raise CellFailed(f"{folder.path.name}: failed elsewhere, {record.summary}")


class CellRun:
    """The work of one process on one cell, under the cell's lock.

    Args:
        config: The cell and how it runs here.
        folder: Its folder.
        lock: Its lock, held.
        progress: What shows how far it is.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: CellFolder,
        lock: FolderLock,
        progress: AbstractContextManager[Show],
    ) -> None:
        self.config = config
        self.cell = config.cell
        self.folder = folder
        self._lock = lock
        self._progress = progress
        folder.remove_debris()
        self._record = folder.read() or Record.planned(config)
        self._checkpoints = Checkpoints(folder, config.checkpoint, confirm=lock.confirm)
        self._tracker: Tracker = NoTracker()

    def run(self) -> float:
        """Train and measure what is missing; see :func:`run_cell`."""
        work = work_left(self.config, self._record)
        if work != "nothing":
            with StopRequest() as stop, num_threads(self._num_threads()):
                self._work(stop)
        self._report(already=" already" if work == "nothing" else "")
        metrics = self._record.metrics
        # A network that diverged classifies nothing; NaN would end an optimizer's search.
        return 0.0 if metrics is None else metrics.val_accuracy

    # ------------------------------------------------------------------ states of the record

    def _work(self, stop: StopRequest) -> None:
        self._prepare_machine()
        try:
            if not self._record.finished:
                self._attempt(stop)
                stop.check()
            if self._record.status == "complete":
                self._measure_missing()
        finally:
            self._tracker.finish(self._record)

    def _attempt(self, stop: StopRequest) -> None:
        """Train to the end, and say in the record how that went."""
        started = time.monotonic()
        self.folder.freeze_config(self.cell)
        self._begin_attempt()

        def end(status: Status, **changes: Any) -> None:
            seconds = round(time.monotonic() - started, 3)
            self._update_attempt(ended=now(), seconds=seconds)
            self._update(status=status, **changes)

        try:
            metrics = self._train(stop)
        except LockLost:
            raise
        except Diverged as error:
            end("diverged", error=str(error))
        except Exception as error:
            end("failed", error=traceback.format_exc())
            raise self._failure("training", error) from error
        except BaseException:
            end("interrupted")
            log.info("%s: interrupted, the same command goes on here", self.folder.path.name)
            raise
        else:
            end("complete", metrics=metrics)
        self._checkpoints.discard()

    def _begin_attempt(self) -> None:
        here = self._provenance(compiled=self.config.compiles)
        attempt = Attempt(started=now(), provenance=here)
        if self.folder.checkpoint_file.exists():
            for earlier in self._record.attempts[-1:]:
                self._warn_of_changes(earlier.provenance, attempt.provenance)
        self._update(status="running", attempts=(*self._record.attempts, attempt), error=None)

    def _warn_of_changes(self, before: Provenance, here: Provenance) -> None:
        """Bit-identity after a resume holds on the same hardware, threads and versions only."""
        for name in ("num_threads", "device", "compiled", "versions"):
            old, new = getattr(before, name), getattr(here, name)
            if old != new:
                log.warning(
                    "%s: resumed with %s %s after %s: the results are as good, but not bit for bit "
                    "those of an uninterrupted run",
                    self.folder.path.name,
                    name,
                    new,
                    old,
                )

    def _update_attempt(self, **changes: Any) -> None:
        *earlier, attempt = self._record.attempts
        self._record = self._record.model_copy(
            update={"attempts": (*earlier, attempt.model_copy(update=changes))}
        )

    def _failure(self, doing: str, error: Exception) -> CellFailed:
        """Log the traceback, and give what to raise in its place."""
        log.error("%s: %s failed", self.folder.path.name, doing, exc_info=error)
        return CellFailed(f"{self.folder.path.name}: {doing} failed: {_one_line(error)}")

    def _provenance(self, *, compiled: bool = False) -> Provenance:
        return provenance(
            device=describe_device(self._device),
            num_threads=torch.get_num_threads(),
            compiled=compiled,
        )

    def _update(self, **changes: Any) -> None:
        """Change the record, on disk too, unless somebody else has taken the cell over."""
        self._lock.confirm()
        self._record = self._record.model_copy(update=changes)
        self.folder.write(self._record)

    # ------------------------------------------------------------------ training

    def _num_threads(self) -> int | None:
        """Threads to work with: as told, or those that an interrupted training had, if they fit."""
        if self.config.num_threads is not None or not self.folder.checkpoint_file.exists():
            return self.config.num_threads
        earlier = {attempt.provenance.num_threads for attempt in self._record.attempts[-1:]}
        return next((n for n in earlier if n <= num_cores()), None)

    def _prepare_machine(self) -> None:
        make_current(self._device)
        make_deterministic(self._device)
        if self._device.type == "cpu":
            keep_freed_memory()

    @cached_property
    def _device(self) -> torch.device:
        return resolve_device(self.config.device)

    @cached_property
    def _data(self) -> ImageData:
        data = load_dataset(
            self.cell.dataset, data_dir=self.config.data_dir, path=self.config.data_path
        )
        return data.to(self._device)

    def _train(self, stop: StopRequest) -> Metrics:
        """Take up the training where it is, and bring it to its end."""
        self._start_tracker()
        trainer, history = self._trainer()
        self._tell_tracker(history)
        self._update_attempt(start_step=trainer.total_steps)
        with stop.deferred():
            try:
                self._run_epochs(trainer, history, stop)
            finally:
                self._checkpoints.finish()
                self._update_attempt(end_step=trainer.total_steps)
            return self._final_metrics(trainer, history)

    def _start_tracker(self) -> None:
        self._tracker = start_tracker(self.config.tracking, self._record, self.folder.path)

    def _tell_tracker(self, history: list[dict[str, Any]]) -> None:
        """Lines of the history; it passes over what it has from an earlier process."""
        for row in history:
            self._tracker.log_epoch(row)

    def _trainer(self) -> tuple[Trainer, list[dict[str, Any]]]:
        """A trainer where the checkpoint left it, or at initialisation, and its history so far."""
        trainer = Trainer(
            self.cell,
            self._data,
            diagnostics_every=self.config.diagnostics_every,
            compiled=self.config.compiles,
            cuda_graphs=self.config.cuda_graphs,
        )
        state, history = self._checkpoints.read(), self.folder.read_history()
        if state is not None and len(history) < state["epoch"]:
            log.warning(
                "%s: the history is shorter than the checkpoint, training starts anew",
                self.folder.path.name,
            )
            state = None
        if state is not None:
            trainer.load_state_dict(state)
            if "best_weights" in state:
                write_weights(state["best_weights"], self.folder.best_weights_file)
            log.info("%s: resumed at step %d", self.folder.path.name, trainer.total_steps)
        # Epochs that ended after the checkpoint was written are trained again.
        history = history[: trainer.epoch]
        self.folder.write_history(history)
        return trainer, history

    def _write_checkpoint(self, trainer: Trainer) -> None:
        self._lock.confirm()
        state = trainer.state_dict()
        if self.folder.best_weights_file.exists():
            # Trained again elsewhere, the epochs after this checkpoint may differ in their last
            # bits; the best weights until here must not be overwritten by theirs.
            state["best_weights"] = read_weights(self.folder.best_weights_file)
        self._checkpoints.write(state)

    def _run_epochs(
        self, trainer: Trainer, history: list[dict[str, Any]], stop: StopRequest
    ) -> None:
        with self._progress as show:
            show(self._snapshot(trainer, history))

            def after_step() -> None:
                show(self._snapshot(trainer, history))
                # One look: a signal that comes after it finds its state saved at the next step.
                stopping = stop.signum is not None
                if self._checkpoints.due() or stopping:
                    self._write_checkpoint(trainer)
                if stopping:
                    stop.check()

            while trainer.epoch < self.cell.recipe.epochs:
                row = self._run_epoch(trainer, after_step)
                self._end_epoch(trainer, history, row)
                show(self._snapshot(trainer, history))
                self._tell_tracker([row])

    def _snapshot(self, trainer: Trainer, history: list[dict[str, Any]]) -> Snapshot:
        latest = history[-1] if history else {}
        return Snapshot(
            num_steps=self.cell.recipe.epochs * trainer.steps_per_epoch,
            num_epochs=self.cell.recipe.epochs,
            step=trainer.total_steps,
            epoch=trainer.epoch,
            train_loss=latest.get("train_loss"),
            val_accuracy=latest.get("val_accuracy"),
        )

    def _run_epoch(self, trainer: Trainer, after_step: Callable[[], None]) -> dict[str, Any]:
        """One epoch's line of the history."""
        started = time.monotonic()
        row = trainer.run_epoch(after_step)
        val = evaluate(trainer.model, self._data, self._data.val)
        row |= {"val_accuracy": val.accuracy, "val_loss": val.loss}
        row["seconds"] = round(time.monotonic() - started, 3)
        for name in ("train_loss", "weight_norm", "val_loss"):
            if not math.isfinite(row[name]):
                raise Diverged(f"{name} was {row[name]} in epoch {row['epoch']}")
        return row

    def _end_epoch(
        self, trainer: Trainer, history: list[dict[str, Any]], row: dict[str, Any]
    ) -> None:
        """Keep the weights if they are the best so far, the line of the history, the progress."""
        self._lock.confirm()
        if row["val_accuracy"] > max((r["val_accuracy"] for r in history), default=-1.0):
            write_weights(trainer.model.state_dict(), self.folder.best_weights_file)
        history.append(row)
        self.folder.write_history(history)
        self._update(
            progress=Progress(
                epoch=trainer.epoch,
                num_epochs=self.cell.recipe.epochs,
                steps_per_epoch=trainer.steps_per_epoch,
                train_loss=row["train_loss"],
                val_accuracy=row["val_accuracy"],
                updated=now(),
            )
        )

    def _final_metrics(self, trainer: Trainer, history: list[dict[str, Any]]) -> Metrics:
        """Score the last epoch's weights, which are kept, and the best epoch's."""
        self._lock.confirm()
        write_weights(trainer.model.state_dict(), self.folder.weights_file)
        weight_norm = trainer.weight_norm()
        last = {name: self._score(trainer, name) for name in ("test", "val", "train")}
        best = max(history, key=lambda row: row["val_accuracy"])
        trainer.model.load_state_dict(read_weights(self.folder.best_weights_file))
        best_test = self._score(trainer, "test")
        return Metrics(
            **{f"{name}_accuracy": score.accuracy for name, score in last.items()},
            **{f"{name}_loss": score.loss for name, score in last.items()},
            best_epoch=best["epoch"],
            best_val_accuracy=best["val_accuracy"],
            best_test_accuracy=best_test.accuracy,
            best_test_loss=best_test.loss,
            weight_norm=weight_norm,
        )

    def _score(self, trainer: Trainer, split: str) -> Score:
        return evaluate(trainer.model, self._data, getattr(self._data, split))

    # ------------------------------------------------------------------ measuring

    def _measure_missing(self) -> None:
        """Take what is missing from the weights on disk; one that fails keeps none from the rest.

        Raises:
            CellFailed: In the end, if one did.
        """
        failures: list[CellFailed] = []
        told: list[str] = []
        for key, name in missing_measurements(self.config, self._record).items():
            try:
                measurements = {**self._record.measurements, key: self._measurement(name)}
            except Exception as error:
                failures.append(self._failure(f"measuring {name}", error))
                told.append(traceback.format_exc())
                self._update(measuring_error="\n".join(told))
            else:
                self._update(measurements=measurements, measuring_error="\n".join(told) or None)
        if failures:
            raise CellFailed("; ".join(map(str, failures))) from failures[0]

    def _measurement(self, name: str) -> Measurement:
        log.info("%s: measuring %s", self.folder.path.name, name)
        if isinstance(self._tracker, NoTracker):
            self._start_tracker()
            self._tell_tracker(self.folder.read_history())
        with self._progress as show:
            show(self._measuring(name))
            result = self._measured(name)
        return Measurement(
            name=name,
            settings=measurement_settings(self.config.sharpness, name),
            result=result,
            measured=now(),
            provenance=self._provenance(),
        )

    def _measuring(self, name: str) -> Snapshot:
        epochs = self.cell.recipe.epochs
        steps = epochs * (len(self._data.train) // self.cell.recipe.batch_size)
        return Snapshot(
            num_steps=steps, num_epochs=epochs, step=steps, epoch=epochs, measuring=name
        )

    def _measured(self, name: str) -> dict[str, Any]:
        # Late, since the training need not wait for scipy.
        from samsweep.sharpness.measures import measure

        settings = self.config.sharpness
        files = {"last": self.folder.weights_file, "best": self.folder.best_weights_file}
        model = initial_model(self.cell, self._data)
        model.load_state_dict(read_weights(files[settings.weights]))
        inputs, labels = measured_examples(name, settings, self.cell, self._data)
        # Of the same weights and examples: what one measure has searched, another need not.
        same = measurement_settings(settings, name)
        known = {m.name: m.result for m in self._record.measurements.values() if m.settings == same}
        return measure(name, settings, model.to(self._device), inputs, labels, known=known)

    # ------------------------------------------------------------------ telling

    def _report(self, *, already: str) -> None:
        log.info("%s:%s %s", self._record.cell_id, already, self._record.summary)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
