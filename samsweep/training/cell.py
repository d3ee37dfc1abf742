"""One cell from its folder to its record: train what is missing, measure what is missing."""

from __future__ import annotations

import logging
import math
import time
import traceback
from functools import cached_property
from typing import Any

import torch

from samsweep.config import RunConfig
from samsweep.data.images import ImageData
from samsweep.data.load import load_dataset
from samsweep.records.identity import RESULTS_VERSION, cell_id, measurement_settings
from samsweep.records.lock import CellBusy, CellLock
from samsweep.records.provenance import new_attempt, now
from samsweep.records.schema import Attempt, Measurement, Metrics, Progress, Record
from samsweep.records.store import CellFolder
from samsweep.records.work import missing_measurements, work_left
from samsweep.sharpness.measure import measure
from samsweep.tracking import Tracker, start_tracker
from samsweep.training.checkpoint import Checkpoints, read_weights, write_weights
from samsweep.training.device import describe_device, make_deterministic, resolve_device
from samsweep.training.evaluate import Score, evaluate
from samsweep.training.progress import TrainingProgress
from samsweep.training.signals import StopRequest
from samsweep.training.trainer import Trainer, initial_model

log = logging.getLogger(__name__)


class CellFailed(RuntimeError):
    """A cell ended with an exception, which its record tells in full."""


class Diverged(ArithmeticError):
    """The loss left the numbers: a result of the optimizer, not of the program."""


def run_cell(config: RunConfig, folder: CellFolder) -> float:
    """Bring a cell to its end, from wherever it is.

    A finished cell is not trained again, an interrupted one goes on at its checkpoint, and a
    measurement that is there is not repeated.

    Args:
        config: The cell and how it runs here.
        folder: Its folder, which exists.

    Returns:
        Validation accuracy of the last epoch in percent; NaN for a cell that diverged or that
        another process is working on.

    Raises:
        CellFailed: If training or measuring raised.
        Interrupted: If a signal stopped it; there is a checkpoint.
    """
    try:
        with CellLock(folder.path) as lock:
            return CellRun(config, folder, lock).run()
    except CellBusy as busy:
        log.info("%s: left alone, %s", folder.path.name, busy)
        return math.nan


class CellRun:
    """The work of one process on one cell, under the cell's lock.

    Args:
        config: The cell and how it runs here.
        folder: Its folder.
        lock: Its lock, held.
    """

    def __init__(self, config: RunConfig, folder: CellFolder, lock: CellLock) -> None:
        self.config = config
        self.cell = config.cell
        self.folder = folder
        self._lock = lock
        self._record = folder.read() or planned_record(config)
        self._checkpoints = Checkpoints(folder, config.checkpoint)

    def run(self) -> float:
        """Train and measure what is missing; see :func:`run_cell`."""
        work = work_left(self.config, self._record)
        if work != "nothing":
            with StopRequest() as stop:
                self._prepare_machine()
                self._work(stop)
        self._report(already=" already" if work == "nothing" else "")
        metrics = self._record.metrics
        return math.nan if metrics is None else metrics.val_accuracy

    # ------------------------------------------------------------------ states of the record

    def _work(self, stop: StopRequest) -> None:
        tracker = start_tracker(self.config.tracking, self._record, self.folder.path)
        try:
            if not self._record.finished:
                self._train(tracker, stop)
                stop.check()
            if self._record.status == "complete":
                for key, name in missing_measurements(self.config, self._record).items():
                    self._measure(key, name)
        finally:
            tracker.finish(self._record)

    def _train(self, tracker: Tracker, stop: StopRequest) -> None:
        """Train to the end and say in the record how that went."""
        started = time.monotonic()
        trainer, history = self._trainer(), self.folder.read_history()
        attempt = self._begin_attempt(trainer)
        end: dict[str, Any] = {}
        try:
            with stop.deferred():
                self._run_epochs(trainer, history, tracker, stop)
                end = {"status": "complete", "metrics": self._final_metrics(trainer, history)}
        except Diverged as error:
            end = {"status": "diverged", "error": str(error)}
        except Exception as error:
            end = {"status": "failed", "error": traceback.format_exc()}
            log.exception("%s failed", self.folder.path.name)
            raise CellFailed(f"{self.folder.path.name}: {_one_line(error)}") from error
        except BaseException:
            end = {"status": "interrupted"}
            raise
        finally:
            attempt = attempt.model_copy(
                update={
                    "ended": now(),
                    "seconds": round(time.monotonic() - started, 3),
                    "end_step": trainer.total_steps,
                }
            )
            self._update(attempts=(*self._record.attempts[:-1], attempt), **end)
        self._checkpoints.discard()

    def _begin_attempt(self, trainer: Trainer) -> Attempt:
        attempt = new_attempt(
            device=describe_device(self._device),
            num_threads=torch.get_num_threads(),
            start_step=trainer.total_steps,
        )
        for earlier in self._record.attempts[-1:]:
            if trainer.total_steps and earlier.num_threads != attempt.num_threads:
                log.warning(
                    "%s: resumed with %d threads after %d: the results are as good, but not bit "
                    "for bit those of an uninterrupted run",
                    self.folder.path.name,
                    attempt.num_threads,
                    earlier.num_threads,
                )
        self._update(status="running", attempts=(*self._record.attempts, attempt), error=None)
        return attempt

    def _update(self, **changes: Any) -> None:
        """Change the record, on disk too, unless somebody else has taken the cell over."""
        self._lock.confirm()
        self._record = self._record.model_copy(update=changes)
        self.folder.write(self._record)

    # ------------------------------------------------------------------ training

    def _prepare_machine(self) -> None:
        if self.config.num_threads is not None:
            torch.set_num_threads(self.config.num_threads)
        make_deterministic(self._device)
        self.folder.freeze_config(self.cell)

    @cached_property
    def _device(self) -> torch.device:
        return resolve_device(self.config.device)

    @cached_property
    def _data(self) -> ImageData:
        data = load_dataset(
            self.cell.dataset, data_dir=self.config.data_dir, path=self.config.data_path
        )
        return data.to(self._device)

    def _trainer(self) -> Trainer:
        """A trainer where the checkpoint left it, or at initialisation."""
        trainer = Trainer(self.cell, self._data, diagnostics_every=self.config.diagnostics_every)
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
        self.folder.write_history(history[: trainer.epoch])
        return trainer

    def _write_checkpoint(self, trainer: Trainer) -> None:
        self._lock.confirm()
        state = trainer.state_dict()
        if self.folder.best_weights_file.exists():
            # Trained again elsewhere, the epochs after this checkpoint may differ in their last
            # bits; the best weights until here must not be overwritten by theirs.
            state["best_weights"] = read_weights(self.folder.best_weights_file)
        self._checkpoints.write(state)

    def _run_epochs(
        self,
        trainer: Trainer,
        history: list[dict[str, Any]],
        tracker: Tracker,
        stop: StopRequest,
    ) -> None:
        with TrainingProgress(
            self.folder.path.name,
            num_epochs=self.cell.recipe.epochs,
            steps_per_epoch=trainer.steps_per_epoch,
            done_steps=trainer.total_steps,
        ) as progress:

            def after_step() -> None:
                progress.step()
                if stop.signum is not None or self._checkpoints.due():
                    self._write_checkpoint(trainer)
                stop.check()

            while trainer.epoch < self.cell.recipe.epochs:
                started = time.monotonic()
                row = trainer.run_epoch(after_step)
                if not math.isfinite(row["train_loss"]):
                    raise Diverged(f"train loss was {row['train_loss']} in epoch {row['epoch']}")
                val = evaluate(trainer.model, self._data, self._data.val)
                row |= {"val_accuracy": val.accuracy, "val_loss": val.loss}
                row["seconds"] = round(time.monotonic() - started, 3)
                self._end_epoch(trainer, history, row)
                progress.epoch(row)
                tracker.log_epoch(row)

    def _end_epoch(
        self, trainer: Trainer, history: list[dict[str, Any]], row: dict[str, Any]
    ) -> None:
        """Keep the weights if they are the best so far, the line of the history, the progress."""
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

    def _measure(self, key: str, name: str) -> None:
        """Take one measurement from the weights on disk and add it to the record."""
        settings = self.config.sharpness
        files = {"last": self.folder.weights_file, "best": self.folder.best_weights_file}
        log.info("%s: measuring %s", self.folder.path.name, name)
        try:
            model = initial_model(self.cell, self._data)
            model.load_state_dict(read_weights(files[settings.weights]))
            images, labels = self._data.train.batch(torch.arange(settings.num_examples))
            result = measure(
                name, settings, model.to(self._device), self._data.normalize(images), labels
            )
        except Exception as error:
            log.exception("%s: %s could not be measured", self.folder.path.name, name)
            raise CellFailed(f"{self.folder.path.name}: {name}: {_one_line(error)}") from error
        measurement = Measurement(
            name=name,
            settings=measurement_settings(settings),
            result=result,
            measured=now(),
            device=describe_device(self._device),
        )
        self._update(measurements={**self._record.measurements, key: measurement})

    # ------------------------------------------------------------------ telling

    def _report(self, *, already: str) -> None:
        record = self._record
        parts = [f"{record.cell_id}:{already} {record.status}"]
        if record.metrics is not None:
            parts.append(f"test {record.metrics.test_accuracy:.2f} %")
        for measurement in record.measurements.values():
            if "lambda_max" in measurement.result:
                parts.append(f"{measurement.name} {measurement.result['lambda_max']:.4g}")
        log.info("  ".join(parts))


def planned_record(config: RunConfig) -> Record:
    """The record of a cell on which no work has been done."""
    return Record(
        results_version=RESULTS_VERSION,
        cell_id=cell_id(config.cell),
        study=config.study,
        identity=config.cell,
        formula=config.cell.variant.formula,
        status="planned",
    )


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
