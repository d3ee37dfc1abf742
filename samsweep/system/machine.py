"""What there is to run on, and what of it one cell gets."""

from __future__ import annotations

import os
from dataclasses import dataclass


def slurm_job_id() -> str | None:
    """The Slurm job that this is, if any: ``A_a`` in an array, as in the queue and in manifests."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What there is to run on.

    Args:
        host: Its name.
        num_cores: CPU cores that may be used.
        device: Kind and name of the device that the cells asked for, such as
            ``cpu (AMD EPYC)``; the form of ``Provenance.device``.
        gpus: For each GPU that may be used what CUDA_VISIBLE_DEVICES calls it; empty if the cells
            run on the CPU.
    """

    host: str
    num_cores: int
    device: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What one cell gets of the machine.

    Args:
        num_threads: CPU threads of one operation.
        gpu: What CUDA_VISIBLE_DEVICES calls its GPU; None on the CPU.
    """

    num_threads: int
    gpu: str | None = None

    def __str__(self) -> str:
        """Such as ``GPU 0`` or ``1 thread``."""
        if self.gpu is not None:
            return f"GPU {self.gpu}"
        return f"{self.num_threads} thread{'' if self.num_threads == 1 else 's'}"
