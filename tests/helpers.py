"""Small runs for tests, in this process and as commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from samsweep.config import RunConfig, conf_dir
from samsweep.hydra_config import register_resolvers, to_run_config


def compose_run(*overrides: str) -> RunConfig:
    """The run that a command line asks for."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return to_run_config(compose("config", overrides=list(overrides)))


def train_until(trainer, num_steps: int) -> None:
    """Stop a trainer where so many steps are taken, as an interruption does."""

    class Stop(Exception):
        pass

    def stop_there():
        if trainer.total_steps == num_steps:
            raise Stop

    with suppress(Stop):
        while True:
            trainer.run_epoch(stop_there)


def make_folder(root: Path, name: str = "cell") -> Path:
    """An empty cell folder where the lock expects one."""
    folder = root / "study" / "cells" / name
    folder.mkdir(parents=True)
    return folder


# --------------------------------------------------------------------------- commands

#: A cell of a second.
QUICK = ["epochs=2", "sharpness=none", "num_threads=1"]


def run(folder, *arguments, check=True, module="samsweep.run", **env):
    """The command as a user types it, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def start(folder, *arguments, module="samsweep.run"):
    """The command as a user types it, going on in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        # Whoever runs the tests in the background has it ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition, *, seconds=90):
    """Look until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def records(folder):
    """The records under a folder, by cell id."""
    found = [json.loads(f.read_text()) for f in Path(folder).glob("multirun/*/cells/*/record.json")]
    return sorted(found, key=lambda record: record["cell_id"])


def assert_same_result(cell, reference):
    """Two cells have the same weights, to the bit, and the same metrics."""
    for name in ("weights", "weights-best"):
        ours, theirs = (load_file(c / f"{name}.safetensors") for c in (cell, reference))
        assert ours.keys() == theirs.keys()
        assert all(ours[key].equal(theirs[key]) for key in ours)
    metrics = [json.loads((c / "record.json").read_text())["metrics"] for c in (cell, reference)]
    assert metrics[0] == metrics[1]
