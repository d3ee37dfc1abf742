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
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
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
    """A command that goes on; what tests use of :class:`subprocess.Popen`."""

    def __init__(self, code, arguments, folder, *, env, merged=False, new_session=False):
        self.args, self.returncode = arguments, None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_address())
        ends = [os.pipe() for _ in range(1 if merged else 2)]
        asked = {
            "code": code,
            "arguments": [str(argument) for argument in arguments],
            "folder": str(folder),
            "env": {key: str(value) for key, value in env.items()},
            "new_session": new_session,
        }
        socket.send_fds(
            self._connection, [json.dumps(asked).encode() + b"\n"], [write for _, write in ends]
        )
        for _, write in ends:
            os.close(write)
        self.stdout, *rest = (open(read, errors="replace") for read, _ in ends)
        self.stderr = rest[0] if rest else None
        self._answers = self._connection.makefile()
        self.pid = int(self._answers.readline())

    def poll(self):
        if self.returncode is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = os.waitstatus_to_exitcode(int(self._answers.readline()))
            self._answers.close()
            self._connection.close()
        return self.returncode

    def communicate(self, timeout=None):
        """All that it says and whatever it has started, to their ends."""
        texts = {}

        def read(name, stream):
            with stream:
                texts[name] = stream.read()

        streams = {"out": self.stdout, "err": self.stderr}
        readers = [
            threading.Thread(target=read, args=item, daemon=True)
            for item in streams.items()
            if item[1] is not None
        ]
        for reader in readers:
            reader.start()
        deadline = None if timeout is None else time.monotonic() + timeout
        for reader in readers:
            reader.join(None if deadline is None else max(0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(None if deadline is None else max(0, deadline - time.monotonic()))
        return texts["out"], texts.get("err")

    def send_signal(self, signum):
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


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
    """Fork a command for every connection, and tell its end; go when the tests have gone."""
    for name in PRELOADED:
        importlib.import_module(name)
    sys.path.remove(str(Path(__file__).parent))
    gc.freeze()
    listener = socket.socket(fileno=listener_fd)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    for fd in (listener, alive, ended):
        selector.register(fd, selectors.EVENT_READ)
    commands = {}
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if alive in ready:
            return
        if ended in ready:
            os.read(ended, 4096)
            _tell_ends(commands)
        if listener in ready:
            connection, _ = listener.accept()
            asked, fds = _receive(connection)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                selector.close()
                for each in (connection, listener, *commands.values()):
                    each.close()
                for fd in (alive, ended, wake):
                    os.close(fd)
                _become(asked, fds)
            for fd in fds:
                os.close(fd)
            commands[pid] = connection
            connection.sendall(b"%d\n" % pid)


def _receive(connection):
    text, fds, _, _ = socket.recv_fds(connection, 65536, 2)
    while not text.endswith(b"\n"):
        text += connection.recv(65536)
    return json.loads(text), fds


def _tell_ends(commands):
    while commands:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        connection = commands.pop(pid)
        with contextlib.suppress(BrokenPipeError), connection:
            connection.sendall(b"%d\n" % status)


def _become(asked, fds):
    """Be the command: all that an interpreter finds when it starts, then its code."""
    if asked["new_session"]:
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
