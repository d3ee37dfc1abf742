"""Processes that start quickly: forked from a server that has the heavy imports behind it.

What they run is given by name, ``module:function``, since whoever launches is free of torch.
"""

from __future__ import annotations

import multiprocessing
import pkgutil
import signal
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

#: What every process needs: what the command imports, which each process reads anew, everything
#: that works on a cell, and what that imports only when it is used.
_PRELOADED = ("samsweep.hydra_config", "samsweep.training.worker", "samsweep.models.resnet")
#: What the cells of a data set need beside that.
_OF_DATASETS = {"digits": "sklearn.datasets"}

_context = multiprocessing.get_context("forkserver")


def preload(datasets: Iterable[str]) -> None:
    """Say what the server is to import; to be called before its first process.

    Args:
        datasets: Names of the data sets that cells will be trained on.
    """
    modules = [_OF_DATASETS[name] for name in datasets if name in _OF_DATASETS]
    _context.set_forkserver_preload([*_PRELOADED, *modules])


def start(name: str, *arguments: Any) -> tuple[ForkServerProcess, Connection]:
    """Start a process that runs a function.

    Args:
        name: ``module:function``.
        arguments: Of the function, pickled through a pipe; a connection to send to follows them.

    Returns:
        The process, and the end of the connection that hears it.
    """
    reports, sender = _context.Pipe(duplex=False)
    # Daemonic: if we end without a word, it is told to stop.
    process = _context.Process(target=_run, args=(name, (*arguments, sender)), daemon=True)
    process.start()
    sender.close()
    return process, reports


def call(name: str, *arguments: Any) -> Any:
    """Call a function in a process of its own and return what it returns.

    Args:
        name: ``module:function``.
        arguments: Of the function; they and the result are pickled through a pipe.

    Raises:
        BrokenProcessPool: If the process died.
    """
    with ProcessPoolExecutor(1, mp_context=_context, initializer=_ignore_interrupts) as executor:
        return executor.submit(_run, name, arguments).result()


def _ignore_interrupts() -> None:
    # Ctrl-C reaches the whole process group; who waits for us decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(name: str, arguments: tuple[Any, ...]) -> Any:
    return pkgutil.resolve_name(name)(*arguments)
