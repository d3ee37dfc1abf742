"""``samsweep run``: train and measure one cell, or with ``-m`` a grid of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from samsweep.cli.errors import ends_in_sentences
from samsweep.cli.overrides import split_overrides
from samsweep.config import conf_dir
from samsweep.hydra_config import register_resolvers, to_run_config


def task(cfg: DictConfig) -> float:
    """One cell: what Hydra calls for each point of the grid.

    Returns:
        Validation accuracy in percent, so that a sweeper can optimize it.

    Raises:
        CellFailed: If it failed, or is the only one and another process works on it.
    """
    # Late, since torch takes seconds to import and --help does not need it.
    from samsweep.records.schema import CellFailed
    from samsweep.records.store import CellFolder
    from samsweep.training.cell import run_cell

    folder = CellFolder(Path(HydraConfig.get().runtime.output_dir))
    value = run_cell(to_run_config(cfg), folder)
    if math.isnan(value) and HydraConfig.get().mode == RunMode.RUN:
        # In a sweep the other cells go on.
        raise CellFailed(f"{folder.path.name} is not finished: another process works on it.")
    return value


def main(arguments: Sequence[str]) -> None:
    """The command: what cannot be run ends in one sentence and exit status 2."""
    register_resolvers()
    with ends_in_sentences(arguments):
        if not {"-h", "--help"}.isdisjoint(arguments):
            from samsweep.cli.help import help_of_run

            print(help_of_run(arguments))
            return
        # Hydra's parser takes flags before overrides only.
        flags, overrides = split_overrides(arguments)
        sys.argv[1:] = [*flags, *overrides]
        command = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
        command(task)()
