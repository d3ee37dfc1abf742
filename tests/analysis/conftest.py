"""Small sets of records, written as a run writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multirun_analysis.runs.load import Frames, read_frames
from samsweep.config import (
    CORNERS,
    AugmentConfig,
    CellConfig,
    DatasetConfig,
    ModelConfig,
    RecipeConfig,
    Variant,
)
from samsweep.records.identity import RESULTS_VERSION, cell_id, short_hash
from samsweep.records.schema import (
    Attempt,
    Measurement,
    Metrics,
    Progress,
    Provenance,
    Record,
    Status,
)
from samsweep.records.store import CellFolder

NOW = "2025-01-01T00:00:00+00:00"
RECIPE = {
    "base": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.001,
    "lr_schedule": "cosine_per_step",
    "epochs": 40,
    "batch_size": 128,
    "precision": "float32",
}


def variant(name: str, rho: float | None = None, **changes: Any) -> Variant:
    """A variant as ``opt=<name>`` resolves it, with changes."""
    sources = {corner: pair for pair, corner in CORNERS.items()}
    sources |= {"asam": ("sam", "sam"), "sgdhess": ("sgd", "sgd")}
    direction, magnitude = sources[name]
    usual: dict[str, Any] = {"direction": direction, "magnitude": magnitude, "rho": rho}
    if "sam" in name:
        usual["ascent"] = "adaptive" if name == "asam" else "plain"
    if name in ("samdirection", "sammagnitude"):
        usual["granularity"] = "element"
    if name == "asam":
        usual |= {"eta": 0.01, "scaled": "weights"}
    if name == "sgdhess":
        usual["curvature"] = "hutchinson"
    return Variant(name=name, **(usual | changes))


DATASET = {"name": "digits", "augment": AugmentConfig(crop_padding=1), "label_noise": 0.4}


def cell(
    variant: Variant,
    *,
    model: str = "resnet8",
    seed: int = 0,
    dataset: Mapping[str, Any] | None = None,
    **recipe: Any,
) -> CellConfig:
    """A cell of the digits setting, with changes."""
    return CellConfig(
        model=ModelConfig(name=model),
        variant=variant,
        dataset=DatasetConfig.model_validate({**DATASET, **(dataset or {})}),
        recipe=RecipeConfig.model_validate({**RECIPE, **recipe}),
        seed=seed,
    )


def metrics(test: float, best: float | None = None) -> Metrics:
    """Metrics with a given test accuracy; the others follow from it."""
    return Metrics(
        test_accuracy=test,
        test_loss=0.25,
        val_accuracy=test - 1,
        val_loss=0.5,
        train_accuracy=60.0,
        train_loss=1.5,
        best_epoch=37,
        best_val_accuracy=test,
        best_test_accuracy=test + 1 if best is None else best,
        best_test_loss=0.2,
        weight_norm=12.5,
    )


#: Settings of the measures that take no eigenvalues.
FIXED = {"num_examples": 2048, "weights": "last", "seed": 0}


def taken(name: str, result: Mapping[str, Any], **settings: Any) -> Measurement:
    """A measurement of any measure."""
    return Measurement(
        name=name,
        settings=FIXED | settings,
        result=dict(result),
        measured=NOW,
        provenance=provenance(),
    )


def measurement(lambda_max: float | None, name: str = "lambda_max", **settings: Any) -> Measurement:
    """A measurement as ``samsweep.sharpness`` gives it."""
    result = {
        "lambda_max": lambda_max,
        "eigenvalues": [lambda_max],
        "errors": [1e-5],
        "residuals": [1e-3],
        "num_hvps": 6,
        "converged": True,
        "loss": 1.4,
        "weight_norm": 12.5,
        "seconds": 0.2,
    }
    return taken(name, result, **({"tolerance": 1e-4, "max_hvps": 200} | settings))


def spectrum(*eigenvalues: float, **changes: Any) -> Measurement:
    """A spectral density of two starting vectors, on which all eigenvalues weigh the same."""
    count = len(eigenvalues)
    result: dict[str, Any] = {
        "nodes": [list(eigenvalues)] * 2,
        "weights": [[1 / count] * count] * 2,
        "largest": max(eigenvalues),
        "smallest": min(eigenvalues),
        "mean": sum(eigenvalues) / count,
        "dim": 1000,
        "num_hvps": 2 * count,
        "loss": 1.4,
    }
    return taken("spectral_density", result | changes)


def line(curvature: float, floor: float = 0.1, **changes: Any) -> Measurement:
    """A landscape_1d that is a parabola."""
    alphas = [-1.0, -0.5, 0.0, 0.5, 1.0]
    losses = [floor + curvature * a**2 for a in alphas]
    return taken("landscape_1d", {"alphas": alphas, "losses": losses, "num_forwards": 5} | changes)


def plane(slope: float = 1.0, **changes: Any) -> Measurement:
    """A landscape_2d that rises along alpha, and faster along beta; it is not symmetric."""
    alphas, betas = [-1.0, 0.0, 1.0], [-1.0, -0.5, 0.0, 0.5, 1.0]
    losses = [[slope * (4 + a + 2 * b) for b in betas] for a in alphas]
    result = {"alphas": alphas, "betas": betas, "losses": losses, "num_forwards": 15}
    return taken("landscape_2d", result | changes)


def provenance(**changes: Any) -> Provenance:
    """Where and by what work was done."""
    usual: dict[str, Any] = {
        "host": "node1",
        "device": "cpu",
        "num_threads": 1,
        "git_commit": "abc",
        "git_dirty": False,
        "versions": {"python": "3.11.7"},
        "command": "python -m samsweep.run",
    }
    return Provenance(**(usual | changes))


def attempt(**changes: Any) -> Attempt:
    """One process that worked on a cell."""
    usual = {"started": NOW, "seconds": 10.0, "start_step": 0, "provenance": provenance()}
    return Attempt.model_validate(usual | changes)


def record_of(
    config: CellConfig,
    test: float | None = None,
    *measured: Measurement,
    status: Status | None = None,
    **fields: Any,
) -> Record:
    """A record: complete if there is a test accuracy, else as ``status`` says, or planned."""
    usual: dict[str, Any] = {
        "results_version": RESULTS_VERSION,
        "cell_id": cell_id(config),
        "study": "default",
        "identity": config,
        "formula": config.variant.formula,
        "status": status or ("planned" if test is None else "complete"),
        "progress": Progress(
            epoch=0 if test is None else config.recipe.epochs,
            num_epochs=config.recipe.epochs,
            steps_per_epoch=7,
            updated=NOW,
        ),
        "metrics": None if test is None else metrics(test),
        "measurements": {f"{m.name}-{short_hash(m.settings)}": m for m in measured},
        "attempts": (attempt(),),
    }
    return Record(**(usual | fields))


@dataclass
class Study:
    """A study that is being written."""

    folder: Path  # multirun/<study>
    written: list[Record] = field(default_factory=list)

    def add(self, *args: Any, **fields: Any) -> Record:
        """Write the record of :func:`record_of`."""
        record = record_of(*args, **fields)
        folder = self.cell_folder(record)
        folder.mkdir(parents=True)
        CellFolder(folder).write(record)
        self.written.append(record)
        return record

    def add_history(self, record: Record, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write a cell's history; epochs are counted for lines that do not say theirs."""
        folder = CellFolder(self.cell_folder(record))
        folder.write_history([{"epoch": index, **row} for index, row in enumerate(rows, start=1)])
        return folder.history_file

    def cell_folder(self, record: Record) -> Path:
        """Where a record was written."""
        return self.folder / "cells" / record.cell_id

    def plant(self, name: str, content: bytes = b"{") -> Path:
        """The record of a cell that no run wrote."""
        file = self.folder / "cells" / name / "record.json"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        return file

    def launch(self, time: str, *cells: str, **changes: Any) -> Path:
        """The manifest of a launch of cells."""
        usual = {
            "started": NOW,
            "command": "python -m samsweep.run -m opt=sgd",
            "git_commit": None,
            "git_dirty": None,
            "launcher": {"name": "local"},
            "cells": {name: {"runs": []} for name in cells},
        }
        file = self.folder / "launches" / time / "manifest.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(usual | changes))
        return file


def panels(figure: Figure | None) -> list[Axes]:
    """The panels in which something is drawn, but the colour bar."""
    assert figure is not None
    return [axes for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"]


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    """The dtype of each column, by name."""
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def frames(records: Iterable[Record]) -> Frames:
    """What is read of records that a run has written."""
    with TemporaryDirectory() as folder:
        for record in records:
            path = Path(folder) / "cells" / record.cell_id
            path.mkdir(parents=True)
            (path / "record.json").write_text(record.model_dump_json())
        return read_frames(folder)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of all studies."""
    return tmp_path / "multirun"


@pytest.fixture
def study(root: Path) -> Study:
    """An empty study called ``default``."""
    return Study(root / "default")


@pytest.fixture
def small_grid(study: Study) -> Study:
    """The study filled by :func:`small`."""
    return small(study)


def small(study: Study) -> Study:
    """SGD and the corners at two radii: one diverged, one failed, one planned, one unmeasured."""
    add = study.add
    add(cell(variant("sgd")), 92.4, measurement(131.96))
    add(cell(variant("sgdhess", 0.5)), 92.25, measurement(101.5))
    add(cell(variant("sam", 0.1)), 96.66, measurement(53.2))
    add(cell(variant("sam", 0.2)), status="diverged", error="the loss is nan at step 12")
    add(cell(variant("samdirection", 0.1)), 91.72, measurement(213.04))
    add(cell(variant("samdirection", 0.2)), 96.0)
    add(cell(variant("samdirection", 0.1, granularity="global")), 97.1, measurement(3737.54))
    add(cell(variant("sammagnitude", 0.1)), status="planned")
    failure = "Traceback (most recent call last):\n  ...\nRuntimeError: out of memory"
    add(cell(variant("sammagnitude", 0.2)), status="failed", error=failure)
    return study
