"""The device a cell runs on, and what makes it deterministic."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from joblib import cpu_count

from samsweep.config import ConfigError
from samsweep.training.memory import keep_freed_memory


def resolve_device(name: str) -> torch.device:
    """The torch device of ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:i``.

    Raises:
        ConfigError: If this machine has no such device.
    """
    num_gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if num_gpus else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        raise ConfigError(
            f"device={name}: this machine has {num_gpus} GPUs that torch can use; "
            "choose device=auto or device=cpu."
        )
    return device


def check_compiler() -> None:
    """Make sure that ``torch.compile`` finds what it needs.

    Raises:
        ConfigError: If this machine has no C++ compiler.
    """
    compiler = os.environ.get("CXX", "clang++" if platform.system() == "Darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"compile=true: this machine has no C++ compiler {compiler}, which torch.compile "
            "needs; install it, name another in CXX, or choose compile=false."
        )


def prepare_device(name: str) -> torch.device:
    """The device of :func:`resolve_device`, made deterministic.

    CPUs give equal bits anyway, for one number of threads.
    """
    device = resolve_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        # What names no GPU, such as pinned memory, uses this one and not the first.
        torch.cuda.set_device(device)
        # cuBLAS reads this when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        # Else every new tensor is filled once more before it is written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return device


def describe_device(device: torch.device) -> str:
    """The kind of device with the hardware's name, such as ``cpu (AMD EPYC)``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return f"{device.type} ({name})"


def num_cores() -> int:
    """Physical cores that this process may use, by its affinity, its container and its Slurm job.

    Not every cluster binds a job to the cores that it gave it.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    cores = int(cpu_count(only_physical_cores=True))
    return min(cores, int(given)) if given.isdecimal() and int(given) > 0 else cores


@contextmanager
def num_threads(number: int | None) -> Iterator[None]:
    """Inside the block an operation on the CPU uses so many threads; None changes nothing."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
