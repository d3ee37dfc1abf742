"""What runs in a process of the pool: a cell, the check of the machine, or a probe of its speed.

:mod:`samsweep.sweep` starts these functions by name.
"""

from __future__ import annotations

import faulthandler
import logging
import math
import os
import signal
import socket
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from samsweep.config import DATASETS, ConfigError, RunConfig
from samsweep.config.plugins import load_plugins
from samsweep.data.load import download_dataset
from samsweep.records.schema import CellFailed
from samsweep.records.store import CellFolder
from samsweep.system.machine import Machine, Slot
from samsweep.system.progress import Snapshot
from samsweep.system.signals import when_parent_ends
from samsweep.training.cell import run_cell
from samsweep.training.device import (
    check_compiler,
    describe_device,
    num_cores,
    resolve_device,
)
from samsweep.training.pruning import make_pruner
from samsweep.training.trial import try_out

log = logging.getLogger(__name__)

#: Seconds between two snapshots of one epoch.
_SNAPSHOT_EVERY_S = 0.2


# --------------------------------------------------------------------------- a cell


def work(
    folder: Path,
    runs: tuple[RunConfig, ...],
    slot: Slot,
    num_attempts: int,
    reports: Connection,
) -> None:
    """The life of a process of the pool: bring one cell to where all its runs want it.

    What is logged and printed goes to the cell's run.log.

    Args:
        folder: The cell's folder.
        runs: What is asked of the cell, in order.
        slot: What it gets of the machine.
        num_attempts: How often it had been tried when this was planned.
        reports: Takes :class:`Snapshot` objects, and the sentence of an unforeseen end as a string.

    Raises:
        SystemExit: With status 1 if the cell failed, with ``os.EX_TEMPFAIL`` if another process
            works on it, with 128 + signal if it was interrupted.
    """
    # Signals of the terminal go to the pool alone, which passes on what is meant for the cells.
    os.setsid()
    cell = CellFolder(folder)
    when_parent_ends(_stop)
    if slot.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    torch.set_num_threads(slot.num_threads)
    reporter = _Reporter(reports)
    try:
        _log_to(cell.log_file)
        for run in runs:
            if slot.gpu is not None:  # the only one that this process sees
                run = run.model_copy(update={"device": "cuda:0"})
            if math.isnan(run_cell(run, cell, nullcontext(reporter), num_attempts=num_attempts)):
                sys.exit(os.EX_TEMPFAIL)
    except CellFailed:
        sys.exit(1)
    except Exception as error:
        log.exception("%s: failed", folder.name)
        reports.send(f"{type(error).__name__}: {error}")
        sys.exit(1)


def _log_to(file: Path) -> None:
    """Send everything that is logged, printed or written by a dying process to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    faulthandler.enable()
    logging.captureWarnings(True)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )


def _stop() -> None:
    """Stop cleanly, so that nobody trains unattended."""
    while True:
        # Again, since a cell that is just starting does not listen yet.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.0)


class _Reporter:
    """Sends every epoch's snapshot, and of the steps between them a few a second."""

    def __init__(self, reports: Connection) -> None:
        self._reports = reports
        self._latest: Snapshot | None = None
        self._sent_at = 0.0

    def __call__(self, snapshot: Snapshot) -> None:
        latest, moment = self._latest, time.monotonic()
        news = latest is None or replace(snapshot, step=latest.step) != latest
        if news or moment - self._sent_at >= _SNAPSHOT_EVERY_S:
            # The pool may be gone; whoever takes its place reads the record.
            with suppress(BrokenPipeError):
                self._reports.send(snapshot)
            self._latest, self._sent_at = snapshot, moment


# --------------------------------------------------------------------------- the machine


def prepare_runs(runs: tuple[RunConfig, ...], *, download: bool = True) -> None:
    """Download data sets, make pruners, and try components that are not samsweep's.

    Args:
        runs: What is to be run.
        download: Whether to download; without, what needs a download is not tried.

    Raises:
        ConfigError: If a data set cannot be had, or a component or its arguments do not fit.
    """
    for run in runs:
        load_plugins(run.plugins)
    if download:
        for name, data_dir in dict.fromkeys((run.cell.dataset.name, run.data_dir) for run in runs):
            download_dataset(name, data_dir)
    problems: dict[str, None] = {}
    for run in runs:
        dataset = run.cell.dataset
        try:
            if run.pruning is not None:
                make_pruner(run.pruning)
            if download or DATASETS.find(dataset.name, dataset.factory).download is None:
                try_out(run)
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(*problems)


def prepare_machine(
    device: str, runs: tuple[RunConfig, ...], compiles: bool, download: bool = True
) -> Machine:
    """Check the device, prepare what is to be run, and describe the machine.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
        runs: See :func:`prepare_runs`.
        compiles: Whether networks are to be compiled.
        download: See :func:`prepare_runs`.

    Raises:
        ConfigError: If the device or a compiler is not there, or as :func:`prepare_runs`.
    """
    found = resolve_device(device)
    if compiles:
        check_compiler()
    prepare_runs(runs, download=download)
    return Machine(
        host=socket.gethostname(),
        num_cores=num_cores(),
        device=describe_device(found),
        gpus=_gpus(found) if found.type == "cuda" else (),
    )


def _gpus(device: torch.device) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs: a Slurm job may see only some of them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return tuple(names) if device.index is None else (names[device.index],)
