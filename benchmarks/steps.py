"""Seconds per training step of each optimizer, beside SGD's of the same run.

    python benchmarks/steps.py                                    # resnet8 on digits
    python benchmarks/steps.py model=resnet18 dataset=image_folder dataset.path=FOLDER

Overrides are those of samsweep.run. The optimizers take their steps in turn, so that a slow moment
of the machine meets all of them; medians are reported. The JSON goes to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from rich.progress import track
from tabulate import tabulate

from samsweep.config import RunConfig
from samsweep.data.load import load_dataset
from samsweep.hydra_config import conf_dir, register_resolvers, to_run_config
from samsweep.records.provenance import git_state, now, versions
from samsweep.training.device import describe_device, resolve_device
from samsweep.training.trainer import Trainer

RESULTS = Path(__file__).parent / "results"

OPTIMIZERS = {
    "sgd": ["opt=sgd"],
    "sam": ["opt=sam"],
    "samdirection element": ["opt=samdirection", "granularity=element"],
    "samdirection global": ["opt=samdirection", "granularity=global"],
    "sammagnitude element": ["opt=sammagnitude", "granularity=element"],
    "asam": ["opt=asam"],
    "sgdhess": ["opt=sgdhess"],
}


def compose_run(overrides: list[str]) -> RunConfig:
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return to_run_config(compose("config", overrides=overrides))


def make_trainers(overrides: list[str], names: list[str]) -> dict[str, Trainer]:
    runs = {name: compose_run([*overrides, *OPTIMIZERS[name]]) for name in names}
    first = next(iter(runs.values()))
    data = load_dataset(first.cell.dataset, data_dir=first.data_dir, path=first.data_path)
    data = data.to(resolve_device(first.device))
    return {
        name: Trainer(run.cell, data, diagnostics_every=run.diagnostics_every)
        for name, run in runs.items()
    }


def time_step(trainer: Trainer, step: int) -> float:
    size = trainer.cell.recipe.batch_size
    step %= trainer.steps_per_epoch
    trainer.step = step
    started = time.perf_counter()
    trainer.take_step(torch.arange(step * size, (step + 1) * size))
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(trainers: dict[str, Trainer], num_rounds: int) -> dict[str, list[float]]:
    for trainer in trainers.values():
        trainer.model.train()
        time_step(trainer, 0)
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for step in track(range(num_rounds), description="rounds"):
        for name, trainer in trainers.items():
            seconds[name].append(time_step(trainer, step))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="of samsweep.run, such as model=resnet18")
    parser.add_argument("--rounds", type=int, default=20, help="steps of each optimizer")
    parser.add_argument("--only", nargs="+", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--out", type=Path, default=RESULTS / "steps.json")
    arguments = parser.parse_args()

    trainers = make_trainers(arguments.overrides, arguments.only)
    trainer = next(iter(trainers.values()))
    seconds = measure(trainers, arguments.rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = medians.get("sgd", min(medians.values()))
    shown = [(name, f"{s:.4f}", f"{s / base:.2f}") for name, s in medians.items()]
    images = "x".join(map(str, trainer.data.train.images.shape[1:]))
    batch_size = trainer.cell.recipe.batch_size
    print(f"{trainer.cell.model.name}, batch of {batch_size} images of {images}")
    print(tabulate(shown, headers=["optimizer", "seconds per step", "of sgd's"]))

    commit, dirty = git_state()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        "commit": commit,
        "dirty": dirty,
        "time": now(),
        "device": describe_device(trainer.device),
        "num_threads": torch.get_num_threads(),
        "versions": versions(),
    }
    arguments.out.write_text(
        json.dumps(
            {
                "model": trainer.cell.model.name,
                "batch_size": batch_size,
                "images": images,
                "rounds": arguments.rounds,
                "median_seconds": medians,
                "environment": environment,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
