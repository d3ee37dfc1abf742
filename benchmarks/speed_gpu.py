"""A step of SAM on a GPU, in each way to take it.

    mkdir -p data && tar -xf cifar100-mini.tar -C data    # or --data FOLDER
    make bench-gpu

What is compared takes turns; medians are reported, and written to benchmarks/results/speed_gpu.json
with the environment.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import DATA, RESULTS, check_images, environment, in_turn, medians, seconds_of, write
from speed_training import BATCH_SIZE, load, make_trainer
from tabulate import tabulate

from samsweep.data.splits import SplitData
from samsweep.training.device import prepare_device
from samsweep.training.trainer import Trainer

#: Ways to take the same step.
WAYS = {
    "plain": ["cuda_graphs=false"],
    "recorded": [],
    "compiled": ["compile=true", "cuda_graphs=false"],
    "compiled and recorded": ["compile=true"],
}
NUM_STEPS = 10


def take_steps(trainer: Trainer, number: int = NUM_STEPS) -> None:
    for step in range(number):
        trainer.step = step
        trainer.take_step(torch.arange(BATCH_SIZE))
    torch.cuda.synchronize()


def steps(
    model: str, data: Path, images: SplitData, precision: str, ways: list[str], rounds: int
) -> dict[str, Any]:
    """Milliseconds of a step, and how much of them the GPU is at work."""
    trainers, first_s = {}, {}
    for way in ways:
        trainer = make_trainer(model, data, images, "opt=sam", f"precision={precision}", *WAYS[way])
        trainer.model.train()
        first_s[way] = seconds_of(partial(trainer.take_step, torch.arange(BATCH_SIZE)))
        trainers[way] = trainer
    seconds = in_turn({way: partial(take_steps, t) for way, t in trainers.items()}, rounds)
    step_s = {way: s / NUM_STEPS for way, s in medians(seconds).items()}
    busy_s = {way: _busy_seconds(t) for way, t in trainers.items()}
    return {
        "model": model,
        "precision": precision,
        "step_ms": {way: 1000 * s for way, s in step_s.items()},
        "busy_ms": {way: 1000 * s for way, s in busy_s.items()},
        "first_step_s": first_s,
        "seconds": seconds,
    }


def _busy_seconds(trainer: Trainer) -> float:
    """Time of all kernels of a step, one after the other."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        take_steps(trainer, 5)  # of which one is looked at
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of train/<class>/*.png")
    parser.add_argument("--out", type=Path, default=RESULTS / "speed_gpu.json")
    arguments = parser.parse_args()
    check_images(arguments.data)
    device = prepare_device("cuda")
    images = load(arguments.data).to(device)
    most, no_compiler = list(WAYS), ["plain", "recorded"]
    cases = [
        ("resnet20", "float32", most),
        ("resnet20", "bfloat16", no_compiler),
        ("resnet18", "float32", no_compiler),
        ("resnet18", "bfloat16", no_compiler),
        ("wrn28_10", "float32", no_compiler),
        ("wrn28_10", "bfloat16", no_compiler),
    ]
    content: dict[str, Any] = {"environment": environment("cuda"), "steps": []}
    for model, precision, ways in cases:
        content["steps"].append(steps(model, arguments.data, images, precision, ways, rounds=3))
        write(arguments.out, content)
    lines = [
        (c["model"], c["precision"], way, f"{ms:.2f}", f"{c['busy_ms'][way]:.2f}")
        for c in content["steps"]
        for way, ms in c["step_ms"].items()
    ]
    print(tabulate(lines, headers=["model", "precision", "way", "ms a step", "of which kernels"]))


if __name__ == "__main__":
    main()
