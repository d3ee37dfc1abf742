"""Where the time of training goes, and what of it is not the two gradients.

    mkdir -p data && tar -xf cifar100-mini.tar -C data    # or --data FOLDER
    make bench                                            # all parts
    python benchmarks/speed.py --only pipeline steps-resnet20

What is compared takes turns; medians and ratios are reported. Each part adds itself to
benchmarks/results/speed.json when it is done, with the environment it was measured in.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import speed_commands
import speed_training
from harness import DATA, RESULTS, check_images, environment, write
from tabulate import tabulate


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        what: Is measured.
        target: In words.
        value: What was reached.
        unit: Of the value.
        least: The target, if it is to be reached.
        most: The target, if it is not to be passed. Neither is a report.
    """

    what: str
    target: str
    value: float
    unit: str = "x"
    least: float | None = None
    most: float | None = None

    @property
    def verdict(self) -> str:
        if self.least is None and self.most is None:
            return ""
        enough = self.least is None or self.value >= self.least
        little = self.most is None or self.value <= self.most
        return "reached" if enough and little else "missed"


# --------------------------------------------------------------------------- rows of the table


def rows(parts: dict[str, Any]) -> Iterator[Row]:
    """The lines of the parts that are there."""
    for name, least in (("resnet20", 1.4), ("resnet18", 1.1)):
        if part := parts.get(f"epochs-{name}"):
            what = f"epoch of SAM, {name}: faster than the ordinary loop"
            yield Row(what, f">= {least}", part["ratio"], least=least)
            for more, ratio in part["more_ratios"].items():
                yield Row(f"... {more}", "", ratio)
            yield Row("... seconds to compile", "", part["compile_seconds"], "s")
    if part := parts.get("pipeline"):
        what = "augmented images per second, of a DataLoader's"
        yield Row(what, ">= 15", part["ratio"], least=15)
    for name, most in (("resnet18", 1.02), ("resnet20", 1.05)):
        if part := parts.get(f"steps-{name}"):
            yield from step_rows(name, part["ratios"], most)
    if part := parts.get("family"):
        for name, ratio in part["ratios"].items():
            passes = part["passes"][name]
            # Half of SAM's passes may cost half of SAM, and a tenth of it for what is added.
            most = round(passes / 2 + 0.1, 2)
            yield Row(f"{name}, {passes:g} passes, of a SAM step", f"<= {most}", ratio, most=most)
    if part := parts.get("optimizer"):
        what = "optimizer part of a step, WRN-28-10: faster than pytorch_optimizer"
        yield Row(what, ">= 1.5", part["ratio"], least=1.5)
        what = "... its memory traffic, of a copy's bandwidth"
        yield Row(what, "or >= 1", part["share_of_bandwidth"], least=1)
    if part := parts.get("memory"):
        what = "memory of a SAM step, WRN-28-10, in copies of all parameters"
        yield Row(what, "<= 5", part["live"], most=5)
        yield Row("... with the allocator that cells use", "", part["as cells run"])
    if part := parts.get("arithmetic"):
        what = "matrix product rate reached in a step of ResNet-18"
        yield Row(what, ">= 70 %", 100 * part["share"], "%", least=70)
    if part := parts.get("start-up"):
        what = "to the first step on digits, more than import torch"
        yield Row(what, "<= 2 s", part["more"], "s", most=2)
    if part := parts.get("fixed-cost"):
        for name, percent in part["percent"].items():
            what = f"fixed cost of a digits cell, {name}"
            yield Row(what, "<= 5 %", percent, "%", most=5)
    if part := parts.get("pool"):
        what = "16 digits cells with two workers: faster than with the basic launcher"
        yield Row(what, ">= 1.3", part["ratio"], least=1.3)


def step_rows(model: str, ratios: dict[str, float], most: float) -> Iterator[Row]:
    for name, ratio in ratios.items():
        if name == "sam of two sgd":
            yield Row(f"SAM step, {model}, of two SGD steps", f"<= {most}", ratio, most=most)
        elif name == "sgdhess of sgd":
            yield Row(f"SGDHESS step, {model}, of an SGD step", "<= 4", ratio, most=4)
        else:
            what = f"{name.removesuffix(' of sam')} step, {model}, of a SAM step"
            yield Row(what, "<= 1.05", ratio, most=1.05)


def table(parts: dict[str, Any]) -> str:
    shown = [(r.what, r.target, f"{r.value:.3g} {r.unit}", r.verdict) for r in rows(parts)]
    return tabulate(shown, headers=["what", "target", "reached", ""], disable_numparse=True)


# --------------------------------------------------------------------------- command line


def parts_of(data: Path) -> dict[str, Callable[[], Any]]:
    """The parts by name, in the order in which they run."""
    training, commands = speed_training, speed_commands
    return {
        "pipeline": partial(training.pipeline, data, rounds=3),
        "steps-resnet20": partial(training.steps, "resnet20", data, rounds=15),
        "steps-resnet18": partial(training.steps, "resnet18", data, rounds=5),
        "family": partial(training.family, "resnet20", data, num_steps=10, rounds=7),
        "optimizer": partial(training.optimizer_part, rounds=15),
        "memory": training.memory,
        "arithmetic": partial(training.arithmetic, "resnet18", data, rounds=5),
        "epochs-resnet20": partial(training.epochs, "resnet20", data, num_images=2560, rounds=5),
        "epochs-resnet18": partial(training.epochs, "resnet18", data, num_images=640, rounds=3),
        "start-up": partial(commands.start_up, rounds=5),
        "fixed-cost": partial(commands.fixed_cost, rounds=3),
        "pool": partial(commands.pool, rounds=2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = list(parts_of(DATA))
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names)
    )
    parser.add_argument("--data", type=Path, default=DATA, help=f"images; default: {DATA}")
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json")
    arguments = parser.parse_args()
    check_images(arguments.data)
    found = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    work = parts_of(arguments.data)
    for name in arguments.only:
        print(f"{name} ...", flush=True)
        found[name] = {"result": work[name](), "environment": environment()}
        write(arguments.out, found)
    print(table({name: part["result"] for name, part in found.items()}))


if __name__ == "__main__":
    main()
