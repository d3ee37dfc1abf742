"""Processes that start quickly: forked from a server that has the heavy imports behind it.

What they run is given by name, ``module:function``, since the launching process is free of torch.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
from collections.abc import Iterable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

from samsweep.config.errors import ConfigError
from samsweep.system.signals import when_parent_ends

#: What every process needs: everything that works on a cell, and what that imports only when it is
#: used.
_PRELOADED = (
    "samsweep.sweep.local.ignore_signals",
    "samsweep.training.worker",
    "samsweep.models.resnet",
)
#: What the cells of a data set need beside that.
_OF_DATASETS = {"digits": "sklearn.datasets"}

#: What an import, an allocation of torch's and the system say.
_NO_MEMORY = ("failed to map segment", "allocate memory")

_context = multiprocessing.get_context("forkserver")


def preload(datasets: Iterable[str], *, pruning: bool = False) -> None:
    """Choose what the server imports for these data sets; to be called before its first process.

    ``pruning`` is whether a pruner of Optuna's is used, too.
    """
    modules = [_OF_DATASETS[name] for name in datasets if name in _OF_DATASETS]
    modules += ["optuna"] * pruning
    _context.set_forkserver_preload([*_PRELOADED, *modules])


def start(name: str, *arguments: Any) -> tuple[ForkServerProcess, Connection]:
    """Start a process that runs ``module:function``.

    Its arguments are pickled through a pipe; a connection to send to follows them.

    Returns:
        The process, and the receiving end of the connection.

    Raises:
        ProcessDied: If none can be started.
    """
    reports, sender = _context.Pipe(duplex=False)
    # Daemonic: it gets SIGTERM when this process ends.
    process = _context.Process(target=_run, args=(name, (*arguments, sender)), daemon=True)
    try:
        process.start()
    # The server that starts it has died, or cannot.
    except (EOFError, OSError, MemoryError) as error:
        reports.close()
        raise ProcessDied("could not be started") from error
    finally:
        sender.close()
    return process, reports


class ProcessDied(ConfigError):
    """A process ended before it could answer, or did not begin.

    Args:
        how: It ended, ``ended with status -9``.
    """

    def __init__(self, how: str) -> None:
        self.how = how
        super().__init__(
            f"A process that samsweep needs {how}, most likely for want of memory: free some, or "
            "let fewer cells run at a time."
        )


def call(name: str, *arguments: Any) -> Any:
    """Call ``module:function`` in a process of its own and return what it returns.

    Raises:
        ProcessDied: If the process died.
        Exception: What the function raised.
    """
    process, answers = start(f"{__name__}:_answer", name, arguments)
    try:
        result, error = answers.recv()
    except EOFError:
        process.join()
        raise ProcessDied(f"ended with status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        process.close()
        answers.close()
    if error is not None:
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
            raise ProcessDied(f"ended with {type(error).__name__}: {error}") from error
        raise error
    return result


def _answer(name: str, arguments: tuple[Any, ...], answers: Connection) -> None:
    # Then no process waits for the answer.
    when_parent_ends(lambda: os._exit(1))
    answer: tuple[Any, Exception | None]
    try:
        answer = (_run(name, arguments), None)
    except Exception as error:
        answer = (None, error)
    answers.send(answer)


def _run(name: str, arguments: tuple[Any, ...]) -> Any:
    return pkgutil.resolve_name(name)(*arguments)
