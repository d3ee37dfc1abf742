"""Small runs for tests."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir

from samsweep.config import RunConfig
from samsweep.hydra_config import conf_dir, register_resolvers, to_run_config


def compose_run(*overrides: str) -> RunConfig:
    """The run that a command line asks for."""
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return to_run_config(compose("config", overrides=list(overrides)))


def make_folder(root: Path, name: str = "cell") -> Path:
    """An empty cell folder where the lock expects one."""
    folder = root / "study" / "cells" / name
    folder.mkdir(parents=True)
    return folder
