"""What a name that a user gives means in a study: a result of training, or a quantity measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from multirun_analysis.runs.columns import VALUES
from multirun_analysis.runs.measurements import with_numbers
from samsweep.config import ConfigError, unknown_name
from samsweep.records.schema import Metrics

#: Numbers that the training of a cell leaves.
OF_CELLS = (*Metrics.model_fields, "generalization_gap", "epochs_done", "seconds")
#: What stands before a name whose natural logarithm is meant.
LOG = "log_"
#: Numbers of a measurement beside the one that tables show.
_BESIDE = tuple(
    name for name, column in VALUES.items() if column.dtype != "object" and column.dtype != "string"
)


class NamedValue(NamedTuple):
    """Numbers that go by one name."""

    name: str
    rows: pd.DataFrame  # a row per cell, or per cell and measurement
    column: str  # of ``rows``, in float64
    of_cells: bool  # whether the training gives it, with a row per cell


def named_value(runs: pd.DataFrame, measurements: pd.DataFrame, name: str) -> NamedValue:
    """What a name means: ``test_loss``, ``trace``, ``top5.bulk_outlier_ratio``, ``log_trace``.

    Args:
        runs: Frame of :func:`.load_runs`, of one study.
        measurements: Frame of :func:`.load_measurements`.
        name: A number of :data:`OF_CELLS`; a measure or its quantity; with a dot a measure and one
            of its columns; or one of these after ``log_``, which leaves numbers that are not
            positive without a value.

    Raises:
        ConfigError: If the study has nothing of that name.
    """
    found = _plain(runs, measurements, name)
    if found is None and name.startswith(LOG):
        found = _plain(runs, measurements, name.removeprefix(LOG))
        if found is not None:
            numbers = found.rows[found.column].astype("float64")
            logs = np.log(numbers.where(numbers > 0))
            found = found._replace(name=name, rows=found.rows.assign(**{found.column: logs}))
    if found is None:
        choices = [*OF_CELLS, *_measured_names(measurements)]
        raise ConfigError(
            f"{unknown_name('value', name, choices)} {LOG}NAME is the logarithm of any of them, "
            f"MEASURE.COLUMN another number of a measure ({', '.join(_BESIDE)})."
        )
    return found


def _plain(runs: pd.DataFrame, measurements: pd.DataFrame, name: str) -> NamedValue | None:
    """As :func:`named_value`, without logarithms."""
    if name in OF_CELLS:
        gap = runs["train_accuracy"] - runs["test_accuracy"]
        return NamedValue(name, runs.assign(generalization_gap=gap), name, True)
    measured = with_numbers(measurements)
    if name in _measured_names(measurements):
        of_name = measured["name"] == name
        rows = measured[of_name if of_name.any() else measured["quantity"] == name]
        return NamedValue(name, rows, "value", False)
    measure, dot, column = name.rpartition(".")
    rows = measurements[measurements["name"] == measure]
    if not dot or column not in _BESIDE or rows.empty:
        return None
    numbers = rows[column].astype("float64")
    return NamedValue(name, rows.assign(value=numbers), "value", False)


def _measured_names(measurements: pd.DataFrame) -> list[str]:
    measured = with_numbers(measurements)
    return list(dict.fromkeys([*measured["name"], *measured["quantity"]]))
