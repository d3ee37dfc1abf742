"""What the benchmarks share: turns, medians, runs as the command line composes them, results."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from rich.progress import track

from samsweep.config import RunConfig, conf_dir
from samsweep.hydra_config import register_resolvers, to_run_config
from samsweep.records.provenance import git_state, now, versions

RESULTS = Path(__file__).parent / "results"

#: Images that benchmarks train on, unless told otherwise.
DATA = Path("data/cifar100-mini")


def check_images(data: Path) -> None:
    """Make sure of a folder of images.

    Raises:
        SystemExit: With the remedy, if there is none.
    """
    if not (data / "train").is_dir():
        raise SystemExit(
            f"{data} has no images: extract cifar100-mini.tar (mkdir -p data && "
            "tar -xf cifar100-mini.tar -C data), or give --data FOLDER with train/<class>/*.png "
            "and test/<class>/*.png."
        )


def compose_run(overrides: Iterable[str]) -> RunConfig:
    """What ``python -m samsweep.run`` would run."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return to_run_config(compose("config", overrides=list(overrides)))


def seconds_of(work: Callable[[], object]) -> float:
    import torch

    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(
    works: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each piece of work, once a round: a slow moment of the machine meets all."""
    if warm_up:
        for work in works.values():
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in track(range(rounds), description=", ".join(works)[:40]):
        for name, work in works.items():
            seconds[name].append(seconds_of(work))
    return seconds


def medians(seconds: Mapping[str, Iterable[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def start_of_peak() -> float:
    """From here on ``VmHWM`` is the peak of this process; its memory now, in MiB (Linux only)."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mib("VmRSS")


def memory_mib(name: str) -> float:
    """What the kernel counts of this process's memory: ``VmRSS`` now, ``VmHWM`` at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {name}")


def environment(device: str = "cpu", **more: Any) -> dict[str, Any]:
    """Where and with what something was measured."""
    # Here, since the children of a process as large as torch are not small to the kernel.
    import torch

    from samsweep.training.device import describe_device, resolve_device

    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "time": now(),
        "device": describe_device(resolve_device(device)),
        "num_threads": torch.get_num_threads(),
        "versions": versions(),
        **more,
    }


def write(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
