"""Seconds per SAM step with dense and with torch's own convolutions on small images.

    python benchmarks/convolutions.py

The two take their steps in turn; medians are reported.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from tabulate import tabulate
from torch import nn
from torch.nn import functional as F

from samsweep.models import build_model
from samsweep.models.conv import Conv2d
from samsweep.optim import SAM, frozen_statistics


def make_step(name: str, *, size: int, batch_size: int, dense: bool):
    torch.manual_seed(0)
    model = build_model(name, in_channels=1, num_classes=10).to(memory_format=torch.channels_last)
    if not dense:
        for module in model.modules():
            if type(module) is Conv2d:
                module.__class__ = nn.Conv2d
    images = torch.randn(batch_size, 1, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))
    base = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    optimizer = SAM(base, rho=0.1, second_pass=frozen_statistics(model))
    return lambda: optimizer.step(lambda: F.cross_entropy(model(images), labels))


def seconds_of(step) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--size", type=int, default=8, help="side of the images")
    parser.add_argument("--batch-size", type=int, default=128)
    arguments = parser.parse_args()
    rows = []
    for name in ("resnet8", "resnet18", "resnet34"):
        keys = {"size": arguments.size, "batch_size": arguments.batch_size}
        steps = [make_step(name, dense=dense, **keys) for dense in (False, True)]
        for step in steps:
            step()
        times = [[seconds_of(step) for step in steps] for _ in range(arguments.rounds)]
        plain, dense = (statistics.median(column) for column in zip(*times, strict=True))
        rows.append((name, f"{plain:.4f}", f"{dense:.4f}", f"{plain / dense:.2f}"))
    print(tabulate(rows, headers=["model", "torch's", "dense", "ratio"]))


if __name__ == "__main__":
    main()
