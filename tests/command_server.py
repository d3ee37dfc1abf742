"""Commands that start at once: forked from a process that has the heavy imports behind it.

An interpreter takes seconds to import torch, and a sweep does so twice: the command itself may, and
its server of processes (:mod:`samsweep.sweep.local.process`). Here both are forked. Every command
is a process of its own, in its own folder, with its own environment, arguments and signal handlers;
what it shares with the others is which modules are imported already. What depends on that, such as
that ``--help`` imports no torch, is tested with an interpreter of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing import process, util
from pathlib import Path

from samsweep.system.signals import STOP_SIGNALS

#: What commands and cells import, but for what is to be imported at its time: the commands' own
#: modules, and those that act when they are imported.
PRELOADED = (
    "hydra",
    "hydra._internal.hydra",
    "hydra.core.plugins",
    "hydra.experimental.callback",
    "jinja2",
    "multirun_analysis.study",
    "rich.live",
    "sklearn.datasets",
    "samsweep.cli.errors",
    "samsweep.hydra_config",
    "samsweep.models.resnet",
    "samsweep.sweep.local.runner",
    "samsweep.training.worker",
    "tabulate",
)

# --------------------------------------------------------------------------- the tests' side


class Command:
    """A command that goes on, in a session of its own; what tests use of a ``Popen``."""

    def __init__(self, code, arguments, folder, *, env, merged):
        self.returncode = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_address())
        ends = [os.pipe() for _ in range(1 if merged else 2)]
        asked = {
            "code": code,
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder),
            "env": {key: str(value) for key, value in env.items()},
        }
        socket.send_fds(
            self._connection, [json.dumps(asked).encode() + b"\n"], [write for _, write in ends]
        )
        for _, write in ends:
            os.close(write)
        self.stdout, *rest = self._streams = [open(read, errors="replace") for read, _ in ends]
        self.stderr = rest[0] if rest else None
        self._answers = self._connection.makefile()
        self.pid = int(self._answers.readline())

    def poll(self):
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self):
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(int(self._answers.readline()))
            self._answers.close()
            self._connection.close()
        return self.returncode

    def communicate(self):
        """All that it says and whatever it has started, to their ends."""

        def read(stream):
            with stream:
                return stream.read()

        with ThreadPoolExecutor(len(self._streams)) as readers:
            out, *err = readers.map(read, self._streams)
        self.wait()
        return out, err[0] if err else None

    def terminate(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


@cache
def _address():
    """Where the server listens; it is started when it is first asked for."""
    listener = socket.socket(socket.AF_UNIX)
    address = f"\0samsweep-tests-{os.getpid()}-{time.monotonic_ns()}"
    listener.bind(address)
    listener.listen()
    # As long as this end is open, the tests go on.
    alive, ours = os.pipe()
    code = f"from command_server import serve; serve({listener.fileno()}, {alive})"
    server = subprocess.Popen(
        [sys.executable, "-c", code],
        pass_fds=[listener.fileno(), alive],
        stdin=subprocess.DEVNULL,
        # Not a terminal, where Python would write by the line.
        stdout=subprocess.DEVNULL,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
            ),
        },
        start_new_session=True,
        # Whoever runs the tests in the background has it ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    listener.close()
    os.close(alive)

    def stop():
        os.close(ours)
        server.wait()

    atexit.register(stop)
    return address


# --------------------------------------------------------------------------- the server's side


def serve(listener_fd, alive):
    """Fork a command for every connection; go when the tests have gone."""
    for name in PRELOADED:
        importlib.import_module(name)
    sys.path.remove(str(Path(__file__).parent))
    gc.freeze()
    # Nobody waits for those who wait for commands.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(fileno=listener_fd)
    while True:
        ready, _, _ = select.select([listener, alive], [], [])
        if alive in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(alive)
            _run(connection)
        connection.close()


def _run(connection):
    """Fork the command that is asked for, and tell its process id and its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, fds, _, _ = socket.recv_fds(connection, 65536, 2)
    while not text.endswith(b"\n"):
        text += connection.recv(65536)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _become(json.loads(text), fds)
    for fd in fds:
        os.close(fd)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % pid)
        connection.sendall(b"%d\n" % os.waitpid(pid, 0)[1])
    os._exit(0)


def _become(asked, fds):
    """Be the command: all that an interpreter finds when it starts, then its code."""
    os.setsid()
    os.dup2(fds[0], 1)
    os.dup2(fds[-1], 2)
    for fd in fds:
        os.close(fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    sys.path[0] = process.ORIGINAL_DIR = os.getcwd()
    _fork_servers_too()
    if asked["code"] is None:
        sys.argv[:] = ["", *asked["arguments"][1:]]
        _end(runpy._run_module_as_main, asked["arguments"][0])
    else:
        sys.argv[:] = ["-c", *asked["arguments"]]
        _end(exec, asked["code"], vars(sys.modules["__main__"]))


def _end(function, *arguments):
    """Run something and end as an interpreter does, but for taking the heap apart."""
    status = 0
    try:
        function(*arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    if status == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    os._exit(status & 0xFF)


def _fork_servers_too():
    """Keep a copy of this process as it is now, to become its server of processes."""
    ours, theirs = socket.socketpair()
    spare = os.fork()
    if spare == 0:
        ours.close()
        # What is sent to all processes of the command is not meant for this one.
        handlers = {s: signal.signal(s, signal.SIG_IGN) for s in STOP_SIGNALS}
        text, fds, _, _ = socket.recv_fds(theirs, 65536, 2)
        if not text:
            os._exit(0)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        asked = json.loads(text)
        theirs.close()
        # Under the numbers that they have there; none of them is in the way of the other.
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 500) for fd in fds]
        for fd in fds:
            os.close(fd)
        for fd, number in zip(moved, asked["fds"], strict=True):
            os.dup2(fd, number)
            os.close(fd)
        _end(exec, asked["code"], {"__name__": "__main__"})
    theirs.close()
    os.set_inheritable(ours.fileno(), False)
    spawn = util.spawnv_passfds
    spares = [spare]

    def spawnv_passfds(path, arguments, fds):
        code = os.fsdecode(arguments[-1])
        if "forkserver" not in code or not spares:
            return spawn(path, arguments, fds)
        asked = {"code": code, "fds": [int(fd) for fd in fds]}
        with ours:
            socket.send_fds(ours, [json.dumps(asked).encode()], fds)
        return spares.pop()

    util.spawnv_passfds = spawnv_passfds
