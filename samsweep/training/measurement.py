"""Measure a trained cell from the weights on disk: what is asked for and not there yet."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from samsweep.records.identity import measurement_settings
from samsweep.records.provenance import now
from samsweep.records.remaining_work import missing_measurements
from samsweep.records.schema import CellFailed, Measurement
from samsweep.system.progress import Snapshot
from samsweep.training.checkpoint import read_weights
from samsweep.training.measured_examples import measured_examples
from samsweep.training.task import Task
from samsweep.training.trainer import initial_model
from samsweep.training.workspace import Workspace

log = logging.getLogger(__name__)


#: Of five eigenvalues the largest is known too, and of that its relatives.
_AFTER = {"top5": 0, "lambda_max": 1}


def measure_missing(workspace: Workspace) -> None:
    """Take every missing measurement; one that fails does not keep the others from being taken.

    Raises:
        CellFailed: In the end, if one did.
    """
    writer = workspace.writer
    failures: list[CellFailed] = []
    tracebacks: list[str] = []
    missing = missing_measurements(workspace.config, writer.record)
    # What others are read off goes first, whatever the order in which they are asked for.
    for key, name in sorted(missing.items(), key=lambda item: _AFTER.get(item[1], 2)):
        log.info("%s: measuring %s", writer.name, name)
        try:
            measurement = _measurement(workspace, name)
        except Exception as error:
            failures.append(writer.failure(f"measuring {name}", error))
            tracebacks.append(traceback.format_exc())
            writer.update(measuring_error="\n".join(tracebacks))
        else:
            writer.update(
                measurements={**writer.record.measurements, key: measurement},
                measuring_error="\n".join(tracebacks) or None,
            )
    if failures:
        raise CellFailed("; ".join(map(str, failures))) from failures[0]


def _measurement(workspace: Workspace, name: str) -> Measurement:
    with workspace.progress as report:
        report(_snapshot(workspace, name))
        result = _result(workspace, name)
    return Measurement(
        name=name,
        settings=measurement_settings(workspace.config.sharpness, name),
        result=result,
        measured=now(),
        provenance=workspace.provenance(),
    )


def _snapshot(workspace: Workspace, name: str) -> Snapshot:
    recipe = workspace.config.cell.recipe
    steps = recipe.epochs * (len(workspace.data.train) // recipe.batch_size)
    return Snapshot(
        num_steps=steps,
        num_epochs=recipe.epochs,
        step=steps,
        epoch=recipe.epochs,
        measuring=name,
    )


def _result(workspace: Workspace, name: str) -> dict[str, Any]:
    # Late, since the training need not wait for scipy.
    from samsweep.sharpness.measures import measure

    settings, cell, folder = workspace.config.sharpness, workspace.config.cell, workspace.folder
    files = {"last": folder.weights_file, "best": folder.best_weights_file}
    model = initial_model(cell, workspace.data)
    model.load_state_dict(read_weights(files[settings.weights]))
    inputs, labels = measured_examples(name, settings, cell, workspace.data)
    # Of the same weights and examples: what one measure has searched, another need not.
    same = measurement_settings(settings, name)
    there = workspace.writer.record.measurements.values()
    known = {m.name: m.result for m in there if m.settings == same}
    loss_fn = None if cell.recipe.uses_plain_loss else Task(cell.recipe, workspace.device).loss
    model = model.to(workspace.device)
    return measure(name, settings, model, inputs, labels, known=known, loss_fn=loss_fn)
