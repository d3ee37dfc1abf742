"""The form of ``record.json``: the single source of truth about a cell.

Accuracies are percentages, losses are mean cross-entropies in nats, times are UTC in ISO 8601,
durations are seconds.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from samsweep.config import MEASURES, CellConfig, RunConfig
from samsweep.records.identity import RESULTS_VERSION, CellKey, cell_id
from samsweep.system.text import printable, score_text

#: Version of this form; readers refuse a newer one and convert older ones.
SCHEMA_VERSION = 1

Status = Literal["planned", "running", "complete", "diverged", "failed", "interrupted", "pruned"]

#: A cell in one of these states has a result: running it again would change nothing.
FINISHED: frozenset[Status] = frozenset({"complete", "diverged"})
#: A cell in one of these was not stopped by anything but itself: the command that ran it runs it no
#: further.
ENDED: frozenset[Status] = FINISHED | {"pruned"}


#: Measurements that a summary shows.
_MOST_HEADLINES = 3


class CellFailed(RuntimeError):
    """A cell ended with an exception, which its record holds in full."""


class _Part(BaseModel):
    """A part of the record, immutable; a field of a later minor version is ignored."""

    # JSON has no NaN: as strings they survive the way out and back.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class Progress(_Part):
    """How far training has come.

    Args:
        epoch: Complete epochs.
        num_epochs: Epochs in all.
        steps_per_epoch: Optimizer steps of one epoch.
        train_loss: Of the latest complete epoch.
        val_accuracy: Of the latest complete epoch, in percent.
        updated: When this was written.
    """

    epoch: int
    num_epochs: int
    steps_per_epoch: int
    train_loss: float | None = None
    val_accuracy: float | None = None
    updated: str


class Metrics(_Part):
    """The results of a trained network.

    ``train_*`` are on the un-augmented training images, with their labels as trained on;
    ``best_*`` belong to the epoch of best validation accuracy, the others to the last epoch.

    Args:
        weight_norm: Euclidean norm of all trainable parameters together.
    """

    test_accuracy: float
    test_loss: float
    val_accuracy: float
    val_loss: float
    train_accuracy: float
    train_loss: float
    best_epoch: int
    best_val_accuracy: float
    best_test_accuracy: float
    best_test_loss: float
    weight_norm: float


class Provenance(_Part):
    """Which code, machine and versions were at work.

    Args:
        host: Machine.
        job_id: Slurm job, if any.
        device: Torch device with the hardware's name.
        num_threads: CPU threads of one operation.
        compiled: Whether the network was compiled.
        parts_at_once: Parts of m-SAM that were one pass.
        git_commit: Of samsweep's source; None outside a checkout.
        git_dirty: Whether that source differed from the commit.
        versions: Of Python and of the libraries that decide the result.
        command: The command line.
    """

    host: str
    job_id: str | None = None
    device: str
    num_threads: int
    compiled: bool = False
    parts_at_once: int = 1
    git_commit: str | None
    git_dirty: bool | None
    versions: dict[str, str]
    command: str


class Measurement(_Part):
    """A quantity computed from final weights.

    Args:
        name: A key of ``samsweep.config.MEASURES``.
        settings: What decides the value.
        result: The value, its error estimate and its cost.
        measured: When.
        provenance: By what.
    """

    name: str
    settings: dict[str, Any]
    result: dict[str, Any]
    measured: str
    provenance: Provenance


class Attempt(_Part):
    """One process that worked on the cell.

    Args:
        started: When it started.
        ended: When it ended; None while it runs, and for ever if it was killed.
        seconds: Duration in training and evaluation.
        start_step: Optimizer steps already done when it started; None until that is known.
        end_step: Optimizer steps done when it ended.
        provenance: Where and by what.
    """

    started: str
    ended: str | None = None
    seconds: float | None = None
    start_step: int | None = None
    end_step: int | None = None
    provenance: Provenance


class Record(_Part):
    """Everything about a cell.

    Args:
        schema_version: :data:`SCHEMA_VERSION` of the writer.
        results_version: ``RESULTS_VERSION`` of the code that trained.
        cell_id: Name of the folder.
        study: Name of the study.
        identity: The cell's configuration.
        formula: The vector that was handed to the base optimizer.
        status: See DESIGN: planned, running, then one of the others; ``pruned`` was ended early by
            the study's pruner, with a checkpoint.
        progress: How far training has come.
        metrics: Of a complete cell.
        measurements: By the keys of :func:`~samsweep.records.identity.wanted_measurements`.
        attempts: Every process that worked on the cell, in order.
        error: Traceback of a failed cell, what became NaN or infinite in a diverged one, why a
            pruned one was ended, or what stopped an interrupted one, if more is known than that a
            signal did.
        measuring_error: Why the latest attempt to measure a trained cell came to nothing.
    """

    schema_version: Annotated[int, Field(le=SCHEMA_VERSION)] = SCHEMA_VERSION
    results_version: int
    cell_id: str
    study: str
    identity: CellConfig
    formula: str
    status: Status
    progress: Progress | None = None
    metrics: Metrics | None = None
    measurements: dict[str, Measurement] = {}
    attempts: tuple[Attempt, ...] = ()
    error: str | None = None
    measuring_error: str | None = None

    @model_validator(mode="after")
    def _results_of_complete(self) -> Self:
        """A complete cell has its numbers; NaN is none. A metric of one's own may be undefined."""
        if self.status != "complete" or self.metrics is None:
            return self
        for name, value in self.metrics:
            own = self.metric is not None and name.endswith("_accuracy")
            if isinstance(value, float) and math.isnan(value) and not own:
                raise ValueError(f"a complete cell whose {name} is NaN")
        return self

    @classmethod
    def planned(cls, run: RunConfig) -> Self:
        """The record of a cell on which no work has been done."""
        return cls(
            results_version=RESULTS_VERSION,
            cell_id=cell_id(run.cell),
            study=run.study,
            identity=run.cell,
            formula=run.cell.variant.formula,
            status="planned",
        )

    @property
    def key(self) -> CellKey:
        """The cell's study and id."""
        return CellKey(study=self.study, cell_id=self.cell_id)

    @property
    def finished(self) -> bool:
        """Whether the cell has a result."""
        return self.status in FINISHED

    @property
    def objective(self) -> float:
        """What a sweeper optimizes: validation after the last epoch that was trained.

        0 for a cell that diverged, since its network classifies nothing and NaN would end an
        optimizer's search; NaN for one that is not at its end.
        """
        if self.metrics is not None:
            return self.metrics.val_accuracy
        if self.status == "pruned" and self.progress and self.progress.val_accuracy is not None:
            return self.progress.val_accuracy
        return 0.0 if self.status == "diverged" else math.nan

    @property
    def metric(self) -> str | None:
        """What its network is scored by; None is the accuracy."""
        return self.identity.recipe.metric

    @property
    def summary(self) -> str:
        """State and results in a few words, on one line."""
        parts: list[str] = [self.status]
        if self.metrics is not None:
            parts.append(f"test {score_text(self.metrics.test_accuracy, self.metric, digits=2)}")
        parts += self._headlines()
        if self.error:
            parts.append(_last_line(self.error))
        if self.measuring_error:
            parts.append(f"measuring failed: {_last_line(self.measuring_error)}")
        return printable("  ".join(parts))

    def _headlines(self) -> list[str]:
        """Each measurement's name and number; of many the first few, and how many more."""
        headlines = []
        for measurement in self.measurements.values():
            info = MEASURES.get(measurement.name)
            value = measurement.result.get(info.headline or "") if info else None
            if isinstance(value, float):
                headlines.append(f"{measurement.name} {value:.4g}")
        more = len(self.measurements) - _MOST_HEADLINES
        shown = headlines[:_MOST_HEADLINES]
        return [*shown, f"and {more} more measures"] if more > 0 else shown

    @property
    def seconds(self) -> float:
        """Time spent on it by all attempts that ended cleanly."""
        return sum(attempt.seconds or 0.0 for attempt in self.attempts)


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
