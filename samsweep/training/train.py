"""Train one cell from wherever it is to its metrics."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from samsweep.records.provenance import now
from samsweep.records.schema import Metrics, Progress
from samsweep.system.progress import Snapshot
from samsweep.system.signals import StopRequest
from samsweep.system.text import first_line
from samsweep.training.checkpoint import (
    Checkpoints,
    UnusableCheckpoint,
    read_weights,
    write_weights,
)
from samsweep.training.evaluate import Score, evaluate
from samsweep.training.pruning import Pruned, Pruning
from samsweep.training.trainer import Trainer
from samsweep.training.workspace import Workspace

log = logging.getLogger(__name__)

#: Numbers of an epoch that end a training when one of them is NaN or infinite.
_FINITE = ("train_loss", "weight_norm", "val_loss", "val_accuracy")

#: Lines of ``history.jsonl``.
History = list[dict[str, Any]]


class Diverged(ArithmeticError):
    """The loss became NaN or infinite: a result of the optimizer, not of the program."""


def train(workspace: Workspace, checkpoints: Checkpoints, stop: StopRequest) -> Metrics:
    """Train to the last epoch, resuming at a checkpoint if there is one.

    Raises:
        Diverged: If a loss or the weights' norm became NaN or infinite.
        Pruned: If the pruner calls it hopeless; a checkpoint is written first.
        Interrupted: If a signal came; likewise.
    """
    trainer, history = _resume(workspace, checkpoints)
    for row in history:
        workspace.tracker.log_epoch(row)
    workspace.writer.amend_attempt(start_step=trainer.total_steps)
    with stop.deferred():
        try:
            _run_epochs(workspace, trainer, history, checkpoints, stop)
        finally:
            checkpoints.finish()
            workspace.writer.amend_attempt(end_step=trainer.total_steps)
        return _metrics(workspace, trainer, history)


def _resume(workspace: Workspace, checkpoints: Checkpoints) -> tuple[Trainer, History]:
    """A trainer at the latest checkpoint, or at initialisation, and its history so far."""
    folder, name = workspace.folder, workspace.writer.name
    history, had_one = folder.read_history(), folder.checkpoint_file.exists()
    trainer = None
    for file, state in checkpoints.read():
        try:
            trainer = _trainer_at(workspace, state, history)
        except UnusableCheckpoint as error:
            checkpoints.set_aside(file, str(error))
        else:
            log.info("%s: resumed at step %d", name, trainer.total_steps)
            break
    if trainer is None:
        if had_one:
            log.warning("%s: no checkpoint can be resumed, training starts anew", name)
        trainer = _new_trainer(workspace)
    # Epochs that ended after the checkpoint was written are trained again.
    history = history[: trainer.epoch]
    folder.write_history(history)
    return trainer, history


def _trainer_at(workspace: Workspace, state: dict[str, Any], history: History) -> Trainer:
    """A trainer that goes on from a state.

    Raises:
        UnusableCheckpoint: If the state is not of this cell, or of epochs that the history lacks.
    """
    if len(history) < state["epoch"]:
        raise UnusableCheckpoint(f"the history has {len(history)} of its {state['epoch']} epochs")
    trainer = _new_trainer(workspace)
    try:
        trainer.load_state_dict(state)
    # A state of another network or optimizer: torch and the parts raise what they come to.
    except Exception as error:
        raise UnusableCheckpoint(f"not of this cell: {first_line(error)}") from error
    if "best_weights" in state:
        write_weights(state["best_weights"], workspace.folder.best_weights_file)
    return trainer


def _new_trainer(workspace: Workspace) -> Trainer:
    config = workspace.config
    return Trainer(
        config.cell,
        workspace.data,
        diagnostics_every=config.diagnostics_every,
        compiled=config.compiles,
        cuda_graphs=config.cuda_graphs,
        parts_at_once=config.parts_together,
    )


def _run_epochs(
    workspace: Workspace,
    trainer: Trainer,
    history: History,
    checkpoints: Checkpoints,
    stop: StopRequest,
) -> None:
    pruning = Pruning.of(workspace.config, workspace.folder)
    with workspace.progress as report:

        def after_step() -> None:
            report(_snapshot(workspace, trainer, history))
            # Read once: a signal that comes after it finds its state saved at the next step.
            stopping = stop.signum is not None
            if checkpoints.due() or stopping:
                _write_checkpoint(workspace, trainer, checkpoints)
            if stopping:
                stop.check()

        report(_snapshot(workspace, trainer, history))
        while trainer.epoch < workspace.config.cell.recipe.epochs:
            row = _run_epoch(workspace, trainer, after_step)
            _end_epoch(workspace, trainer, history, row)
            report(_snapshot(workspace, trainer, history))
            workspace.tracker.log_epoch(row)
            reason = pruning.reason(history) if pruning is not None else None
            if reason is not None:
                _write_checkpoint(workspace, trainer, checkpoints)
                raise Pruned(reason)


def _snapshot(workspace: Workspace, trainer: Trainer, history: History) -> Snapshot:
    latest = history[-1] if history else {}
    num_epochs = workspace.config.cell.recipe.epochs
    return Snapshot(
        num_steps=num_epochs * trainer.steps_per_epoch,
        num_epochs=num_epochs,
        step=trainer.total_steps,
        epoch=trainer.epoch,
        train_loss=latest.get("train_loss"),
        val_accuracy=latest.get("val_accuracy"),
        metric=workspace.config.cell.recipe.metric,
    )


def _write_checkpoint(workspace: Workspace, trainer: Trainer, checkpoints: Checkpoints) -> None:
    workspace.writer.confirm()
    state = trainer.state_dict()
    best = workspace.folder.best_weights_file
    if best.exists():
        # Trained again elsewhere, the epochs after this checkpoint may differ in their last bits;
        # the best weights until here must not be overwritten by theirs.
        state["best_weights"] = read_weights(best)
    checkpoints.write(state)


def _run_epoch(
    workspace: Workspace, trainer: Trainer, after_step: Callable[[], None]
) -> dict[str, Any]:
    """One epoch's line of the history."""
    started = time.monotonic()
    row = trainer.run_epoch(after_step)
    val = evaluate(trainer.evaluated, workspace.data, workspace.data.val, trainer.task)
    row |= {"val_accuracy": val.accuracy, "val_loss": val.loss}
    row["seconds"] = round(time.monotonic() - started, 3)
    for name in _FINITE:
        if not math.isfinite(row[name]):
            raise Diverged(f"{name} was {row[name]} in epoch {row['epoch']}")
    return row


def _end_epoch(
    workspace: Workspace, trainer: Trainer, history: History, row: dict[str, Any]
) -> None:
    """Keep the weights if they are the best so far, the line of the history, the progress."""
    workspace.writer.confirm()
    if not history or trainer.task.is_better(row, trainer.task.best(history)):
        write_weights(trainer.evaluated.state_dict(), workspace.folder.best_weights_file)
    history.append(row)
    workspace.folder.write_history(history)
    progress = Progress(
        epoch=trainer.epoch,
        num_epochs=workspace.config.cell.recipe.epochs,
        steps_per_epoch=trainer.steps_per_epoch,
        train_loss=row["train_loss"],
        val_accuracy=row["val_accuracy"],
        updated=now(),
    )
    workspace.writer.update(progress=progress)


def _metrics(workspace: Workspace, trainer: Trainer, history: History) -> Metrics:
    """Score the last epoch's weights, which are kept, and the best epoch's."""
    workspace.writer.confirm()
    folder, data = workspace.folder, workspace.data

    def score(split: str) -> Score:
        return evaluate(trainer.evaluated, data, getattr(data, split), trainer.task)

    write_weights(trainer.evaluated.state_dict(), folder.weights_file)
    weight_norm = trainer.weight_norm()
    last = {name: score(name) for name in ("test", "val", "train")}
    best = trainer.task.best(history)
    trainer.evaluated.load_state_dict(read_weights(folder.best_weights_file))
    best_test = score("test")
    return Metrics(
        **{f"{name}_accuracy": found.accuracy for name, found in last.items()},
        **{f"{name}_loss": found.loss for name, found in last.items()},
        best_epoch=best["epoch"],
        best_val_accuracy=best["val_accuracy"],
        best_test_accuracy=best_test.accuracy,
        best_test_loss=best_test.loss,
        weight_norm=weight_norm,
    )
