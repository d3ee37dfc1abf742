"""Resumable states on disk: the latest, and the one before it."""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._pytree import tree_map_only

from samsweep.config import CheckpointConfig
from samsweep.records.store import CellFolder, atomic_path
from samsweep.system.text import first_line

log = logging.getLogger(__name__)


class Checkpoints:
    """When to write a state, and where; a thread writes it while the training continues.

    Args:
        folder: The cell's folder.
        config: Periods in steps and seconds.
        confirm: Raises if the folder is another process's by now; asked before a file takes its
            name.
    """

    def __init__(
        self,
        folder: CellFolder,
        config: CheckpointConfig,
        *,
        confirm: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._config = config
        self._confirm = confirm
        self._steps_since = 0
        self._written = time.monotonic()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def due(self) -> bool:
        """Whether it is time to write one; called once after each step."""
        self._steps_since += 1
        every_steps, every_seconds = self._config.every_steps, self._config.every_seconds
        return (every_steps is not None and self._steps_since >= every_steps) or (
            every_seconds is not None and time.monotonic() - self._written >= every_seconds
        )

    def write(self, state: dict[str, Any]) -> None:
        """Have a copy of a state written; what was the latest becomes the one before.

        Raises:
            Exception: What kept the state before this one from being written; this one is none the
                less on its way.
        """
        try:
            self._wait()
        finally:
            # A copy in main memory, which the training does not change.
            copied = tree_map_only(Tensor, lambda x: x.detach().to("cpu", copy=True), state)
            self._writing = self._writer.submit(self._write, copied)
            self._steps_since = 0
            self._written = time.monotonic()

    def finish(self) -> None:
        """Wait until the latest state is on disk; that it could not be written is logged.

        The state before it is still there, and whatever ends the training is not hidden.
        """
        try:
            self._wait()
        except Exception as error:
            log.error("%s: the last checkpoint was not written: %s", self._folder.path.name, error)

    def _wait(self) -> None:
        writing = self._writing
        if writing is not None:
            wait([writing])  # which an interrupt may end
            self._writing = None
            writing.result()

    def _write(self, state: dict[str, Any]) -> None:
        latest = self._folder.checkpoint_file
        with atomic_path(latest) as temporary:
            torch.save(state, temporary)
            self._confirm()
            if latest.exists():
                latest.replace(self._folder.previous_checkpoint_file)

    def read(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The states that can be read, the latest first, on the CPU, each with its file.

        What is no state, or not the one that was written, is set aside and passed over.
        """
        self._wait()
        for file in (self._folder.checkpoint_file, self._folder.previous_checkpoint_file):
            if not file.exists():
                continue
            try:
                yield file, read_state(file)
            except UnusableCheckpoint as error:
                self.set_aside(file, str(error))

    def set_aside(self, file: Path, why: str) -> None:
        """Rename a checkpoint that is of no use, so that it stays to be looked at."""
        aside = self._folder.set_aside(file)
        log.warning("%s is passed over and kept as %s: %s", file, aside.name, why)

    def discard(self) -> None:
        """Delete them after completion, unless they are to be kept."""
        self._wait()
        if not self._config.keep:
            self._folder.checkpoint_file.unlink(missing_ok=True)
            self._folder.previous_checkpoint_file.unlink(missing_ok=True)


class UnusableCheckpoint(ValueError):
    """A checkpoint that is not what was written, or not of this cell."""


def read_state(file: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU.

    ``torch.save`` keeps a checksum (CRC32) of each tensor, which ``torch.load`` does not look at.

    Raises:
        UnusableCheckpoint: If it is no checkpoint, or not as it was written.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise UnusableCheckpoint(f"{damaged} does not agree with its checksum")
        state = torch.load(file, map_location="cpu", weights_only=True)
    except UnusableCheckpoint:
        raise
    # Of bytes from anywhere torch and zipfile raise what their parsers come to.
    except Exception as error:
        raise UnusableCheckpoint(f"no checkpoint: {first_line(error)}") from error
    if not isinstance(state, dict) or not {"epoch", "step", "model", "optimizer"} <= state.keys():
        raise UnusableCheckpoint("no checkpoint of a training")
    return state


def write_weights(state: Mapping[str, Tensor], file: Path) -> None:
    """Write a network's ``state_dict`` as safetensors, atomically; tied weights under each name."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        memory = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if memory in seen else tensor.contiguous()
        seen.add(memory)
    with atomic_path(file) as temporary:
        save_file(own, temporary)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The ``state_dict`` that :func:`write_weights` wrote, on the CPU.

    Raises:
        FileNotFoundError: In one sentence.
    """
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is missing, and the cell cannot be measured without these weights: put the "
            "file back, or move the cell's folder away to train it anew"
        )
    state: dict[str, Tensor] = load_file(file)
    return state
