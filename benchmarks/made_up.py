"""Made-up studies: records and histories in the form a run writes, with numbers from formulas.

    python benchmarks/made_up.py 1000 FOLDER           # FOLDER/multirun/made-up, 1,000 cells
    python benchmarks/made_up.py 1000 FOLDER --full    # with a measurement of every measure

The grid has four models, SGD and seven perturbing optimizers at three radii, and ten seeds. What is
beyond these 880 cells has other learning rates, so that the number of tables grows with the cells.
Every 50th cell diverged, every 70th failed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice, product
from pathlib import Path
from typing import Any

from samsweep.config import (
    MEASURES,
    AugmentConfig,
    CellConfig,
    DatasetConfig,
    ModelConfig,
    OptOptions,
    RecipeConfig,
    Variant,
)
from samsweep.records.identity import RESULTS_VERSION, cell_id, deciding_settings, short_hash
from samsweep.records.schema import (
    Attempt,
    Measurement,
    Metrics,
    Progress,
    Provenance,
    Record,
    Status,
)

STUDY = "made-up"
MODELS = ("resnet20", "resnet18", "resnet34", "wrn28_10")
RADII = (0.1, 0.2, 0.4)
SEEDS = range(10)
EPOCHS = 40
TIME = "2025-01-01T00:00:00+00:00"

SETTINGS = {"num_examples": 2048, "weights": "last", "tolerance": 1e-4, "max_hvps": 200, "seed": 0}

PROVENANCE = Provenance(
    host="node1",
    job_id="1234_5",
    device="cuda:0 (NVIDIA A100-SXM4-80GB)",
    num_threads=8,
    git_commit="0" * 40,
    git_dirty=False,
    versions={name: "1.2.3" for name in ("python", "samsweep", "torch", "torchvision", "numpy")},
    command="python -m samsweep.run -m opt=sam,samdirection rho=0.1,0.2,0.4 seed=range(0,10)",
)


def variants() -> Iterator[Variant]:
    """SGD, SAM and the hybrids of three granularities at each radius."""
    yield Variant(name="sgd")
    for rho in RADII:
        yield OptOptions(name="sam", direction="sam", magnitude="sam").resolve(
            rho=rho, granularity="element"
        )
        for granularity in ("element", "tensor", "global"):
            for direction, magnitude in (("sam", "sgd"), ("sgd", "sam")):
                yield OptOptions(name="hybrid", direction=direction, magnitude=magnitude).resolve(
                    rho=rho, granularity=granularity
                )


def cells() -> Iterator[CellConfig]:
    """Cells without end."""
    dataset = DatasetConfig(
        name="cifar100", augment=AugmentConfig(crop_padding=4, flip=True, cutout=16)
    )
    grid = list(product(MODELS, variants(), SEEDS))
    for number in count():
        recipe = RecipeConfig(
            base="sgd",
            lr=0.1 + number / 1000,
            momentum=0.9,
            weight_decay=0.001,
            lr_schedule="cosine_per_epoch",
            epochs=EPOCHS,
            batch_size=256,
            precision="float32",
        )
        for model, variant, seed in grid:
            yield CellConfig(
                model=ModelConfig(name=model),
                variant=variant,
                dataset=dataset,
                recipe=recipe,
                seed=seed,
            )


def record(cell: CellConfig, number: int, noise: random.Random, full: bool = False) -> Record:
    """A record as a finished run leaves it; of every measure where it is full."""
    status: Status = (
        "diverged" if number % 50 == 49 else "failed" if number % 70 == 69 else "complete"
    )
    complete = status == "complete"
    # Without the others, what is drawn of the noise is the same.
    measured = list(measurements(noise)) if complete else []
    measured += list(other_measurements(number)) if complete and full else []
    return Record(
        results_version=RESULTS_VERSION,
        cell_id=cell_id(cell),
        study=STUDY,
        identity=cell,
        formula=cell.variant.formula,
        status=status,
        progress=Progress(
            epoch=EPOCHS, num_epochs=EPOCHS, steps_per_epoch=175, train_loss=0.1, updated=TIME
        ),
        metrics=metrics(noise) if complete else None,
        measurements=dict(measured) if complete else {},
        attempts=(Attempt(started=TIME, ended=TIME, seconds=3600.0, provenance=PROVENANCE),),
        error=None if complete else "Traceback (most recent call last):\n  ...\nRuntimeError: no",
    )


def metrics(noise: random.Random) -> Metrics:
    accuracy = noise.gauss(78, 1)
    return Metrics(
        test_accuracy=accuracy,
        test_loss=noise.gauss(0.9, 0.05),
        val_accuracy=accuracy - 1,
        val_loss=noise.gauss(0.95, 0.05),
        train_accuracy=99.5,
        train_loss=0.01,
        best_epoch=EPOCHS - 1,
        best_val_accuracy=accuracy,
        best_test_accuracy=accuracy + 0.5,
        best_test_loss=0.9,
        weight_norm=noise.gauss(25, 1),
    )


def measurements(noise: random.Random) -> Iterator[tuple[str, Measurement]]:
    largest = noise.lognormvariate(4, 0.3)
    eigenvalues = [largest / (1 + k / 3) for k in range(5)]
    for name, values in (("lambda_max", eigenvalues[:1]), ("top5", eigenvalues)):
        result: dict[str, Any] = {
            "lambda_max": largest,
            "eigenvalues": values,
            "error_estimates": [1e-5] * len(values),
            "error_bounds": [1e-3] * len(values),
            "num_hvps": 12,
            "converged": True,
            "loss": 0.01,
            "weight_norm": 25.0,
            "seconds": 30.0,
        }
        if name == "top5":
            result["bulk_outlier_ratio"] = values[0] / values[4]
        yield (
            f"{name}-{short_hash(SETTINGS)}",
            Measurement(
                name=name, settings=SETTINGS, result=result, measured=TIME, provenance=PROVENANCE
            ),
        )


def other_measurements(number: int) -> Iterator[tuple[str, Measurement]]:
    """Every measure but those of :func:`measurements`, of a cell that is told by its number."""
    noise = random.Random(number)
    size = noise.lognormvariate(0, 0.3)
    common = {"loss": 0.01, "seconds": 30.0}
    for name, info in MEASURES.items():
        if info.headline == "lambda_max":
            continue
        settings = deciding_settings(SETTINGS | SECTIONS, name)
        result = common | (
            {info.headline: size * noise.gauss(1, 0.1), "standard_error": 0.01}
            if info.headline is not None
            else ARRAYS[name](size, noise)
        )
        yield (
            f"{name}-{short_hash(settings)}",
            Measurement(
                name=name, settings=settings, result=result, measured=TIME, provenance=PROVENANCE
            ),
        )


def spectrum(size: float, noise: random.Random) -> dict[str, Any]:
    """A bulk at zero and ten outliers, whose eigenvalues weigh 1 / dim each."""
    dim = 270_000
    outliers = [50 * size / (1 + k / 2) for k in range(10)]
    nodes = [
        [*(noise.gauss(0, 0.3) for _ in range(50)), *(x + noise.gauss(0, 0.01) for x in outliers)]
        for _ in range(8)
    ]
    weights = [[(1 - 10 / dim) / 50] * 50 + [1 / dim] * 10] * 8
    everything = [node for row in nodes for node in row]
    return {
        "nodes": nodes,
        "weights": weights,
        "largest": max(everything),
        "smallest": min(everything),
        "mean": sum(outliers) / dim,
        "mean_standard_error": 1e-5,
        "dim": dim,
        "num_hvps": 480,
    }


def along_line(size: float, noise: random.Random) -> dict[str, Any]:
    """A parabola with its minimum beside the weights."""
    alphas = [-1 + k / 20 for k in range(41)]
    beside = noise.gauss(0, 0.02)
    losses = [0.01 + 3 * size * (alpha - beside) ** 2 for alpha in alphas]
    return {"alphas": alphas, "losses": losses, "num_forwards": 41}


def over_plane(size: float, noise: random.Random) -> dict[str, Any]:
    """A valley; the farthest corner has no number."""
    places = [-1 + k / 7 for k in range(15)]
    slant = noise.gauss(0, 0.3)
    losses: list[list[float | None]] = [
        [0.01 + size * (3 * a * a + b * b + slant * a * b) for b in places] for a in places
    ]
    losses[-1][-1] = None
    return {"alphas": places, "betas": places, "losses": losses, "num_forwards": 226}


ARRAYS: Mapping[str, Callable[[float, random.Random], dict[str, Any]]] = {
    "spectral_density": spectrum,
    "landscape_1d": along_line,
    "landscape_2d": over_plane,
}

#: The sections of the settings, as conf/sharpness has them.
SECTIONS: Mapping[str, dict[str, Any]] = {
    "trace": {"num_samples": 50},
    "spectral_density": {"num_vectors": 5, "num_steps": 40},
    "worst_case": {
        "rho_l2": 0.1, "rho_linf": 0.001, "adaptive_rho_l2": 0.5, "adaptive_rho_linf": 0.01,
        "num_steps": 20, "batch_size": 256,
    },
    "average_case": {"rho": 0.01, "adaptive_rho": 0.1, "num_samples": 50},
    "sam_gap": {"rho": 0.1, "batch_size": 128},
    "landscape": {"radius": 1.0, "num_points_1d": 41, "num_points_2d": 15},
    "empirical_sam": {"num_batches": 40, "batch_size": 256, "num_eigenvalues": 5},
}  # fmt: skip


def histories(noise: random.Random, number: int = 50) -> list[str]:
    """Some histories of a second gradient's training, to be shared among the cells."""
    return [
        "".join(history_line(epoch, noise) for epoch in range(1, EPOCHS + 1)) for _ in range(number)
    ]


def history_line(epoch: int, noise: random.Random) -> str:
    row: dict[str, Any] = {"epoch": epoch}
    for name in (
        "lr", "train_loss", "train_accuracy", "grad_norm", "update_norm", "amplified_share",
        "sign_agreement", "cosine", "norm_ratio", "sam_gap", "update_cosine_clean",
        "update_cosine_perturbed", "update_norm_ratio", "directional_curvature", "weight_norm",
        "val_accuracy", "val_loss",
    ):  # fmt: skip
        row[name] = noise.random()
    row["layer_cosines"] = {f"stages.{k}.conv.weight": noise.random() for k in range(20)}
    row["seconds"] = 90.123
    return json.dumps(row) + "\n"


def write_study(root: Path, number: int, full: bool = False) -> Path:
    """Write a study of ``number`` cells below ``root``; the same one each time.

    Args:
        root: Gets a folder ``multirun``.
        number: Of cells.
        full: Whether every measure was taken, not the largest eigenvalues alone.

    Returns:
        Folder of all studies.
    """
    noise = random.Random(0)
    shared = histories(noise)
    for index, cell in enumerate(islice(cells(), number)):
        written = record(cell, index, noise, full)
        folder = root / "multirun" / STUDY / "cells" / written.cell_id
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(written.model_dump_json(indent=1) + "\n")
        (folder / "history.jsonl").write_text(shared[index % len(shared)])
    return root / "multirun"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", type=int, help="of cells")
    parser.add_argument("folder", type=Path, help="where multirun/ goes")
    parser.add_argument("--full", action="store_true", help="with a measurement of every measure")
    arguments = parser.parse_args()
    print(write_study(arguments.folder, arguments.number, arguments.full) / STUDY)


if __name__ == "__main__":
    main()
