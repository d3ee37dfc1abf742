"""Small runs for tests, in this process and as commands."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
import venv
from contextlib import suppress
from functools import cache
from pathlib import Path

from command_server import Command
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException
from safetensors.torch import load_file

from samsweep.config import RunConfig, conf_dir, with_arguments_added
from samsweep.hydra_config import Composer, register_resolvers, to_run_config
from samsweep.records.identity import cell_id
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder
from samsweep.sweep.plan import Point


def compose_run(*overrides: str) -> RunConfig:
    """The run that a command line asks for; what was asked before is not composed again."""
    overrides = tuple(map(with_arguments_added, overrides))
    if any("path" in override or "data_dir" in override for override in overrides):
        return _compose_run(overrides, "")
    return _composed_before(overrides, os.getcwd())


@cache
def _composer() -> Composer:
    """It loads no option twice, and is tested to compose what Hydra does."""
    register_resolvers()
    path = create_config_search_path(str(conf_dir()))
    loader = Hydra.create_main_hydra2("run", path).config_loader
    try:
        return Composer(loader, loader.load_configuration("config", [], RunMode.RUN))
    finally:
        GlobalHydra.instance().clear()


def _compose_run(overrides: tuple[str, ...], folder: str) -> RunConfig:
    try:
        return to_run_config(_composer().config(overrides))
    except (HydraException, OmegaConfBaseException):
        # Which Hydra tells in its own words.
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return to_run_config(compose("config", overrides=list(overrides)))


_composed_before = cache(_compose_run)


def point(root: Path, *overrides: str) -> Point:
    """A point of a grid, in the folder that a sweep gives it."""
    run = compose_run(*overrides)
    folder = CellFolder(root / "multirun" / run.study / "cells" / cell_id(run.cell))
    return Point(run=run, folder=folder, overrides=overrides)


def leave(root: Path, *overrides: str, status: str = "complete", **changes) -> CellFolder:
    """A cell with a record that says so."""
    found = point(root, *overrides)
    found.folder.path.mkdir(parents=True)
    changes["status"] = status
    found.folder.write(Record.planned(found.run).model_copy(update=changes))
    return found.folder


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


def run(folder, *arguments, check=True, module="samsweep.run", code=None, **env):
    """The command as a user types it, to its end; or a program, given as its text."""
    command = start(folder, *arguments, module=module, code=code, merged=False, **env)
    done = subprocess.CompletedProcess(arguments, None, *command.communicate())
    done.returncode = command.returncode
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def start(folder, *arguments, module="samsweep.run", code=None, merged=True, **env):
    """The command as a user types it, going on in a process group of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    words = arguments if code else (module, *arguments)
    return Command(code, words, folder, env=env, merged=merged)


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


def new_environment(folder, *paths):
    """An empty environment that finds this one's libraries, and modules of these folders.

    A .pth file makes them importable without the editable install beside them, since the .pth
    files of a folder that is added so are not read.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin/python"
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    found = subprocess.run(ask, capture_output=True, text=True, check=True)
    site = Path(found.stdout.strip())
    lines = [*map(str, paths), sysconfig.get_path("purelib")]
    (site / "dependencies.pth").write_text("\n".join(lines) + "\n")
    return python, site
