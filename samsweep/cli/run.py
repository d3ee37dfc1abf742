"""``samsweep run``: train and measure one cell, or with ``-m`` a grid of them."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from samsweep.cli.errors import ends_in_sentences
from samsweep.cli.overrides import given_twice, split_overrides
from samsweep.config import ConfigError, conf_dir
from samsweep.config.conf_folders import no_such_folder, take_config_dir
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
        for sentence in given_twice(overrides):
            print(sentence, file=sys.stderr, flush=True)
        first, flags = _folders(flags)
        parser = get_args_parser()
        version.setbase("1.3")
        # What hydra.main does, which would read sys.argv: records have that as the user typed it.
        _run_hydra(
            args=parser.parse_args([*flags, *overrides]),
            args_parser=parser,
            task_function=task,
            config_path=first,
            config_name="config",
        )


def _folders(flags: Sequence[str]) -> tuple[str, list[str]]:
    """The folder of options that goes first, the user's where there is one, and Hydra's flags.

    Hydra looks last into what ``--config-dir`` names: an option of the user's own with a name that
    we have too would be passed over.

    Raises:
        ConfigError: If there is no such folder.
    """
    own, others = take_config_dir(flags)
    if own is None or not {"--config-path", "-cp"}.isdisjoint(f.partition("=")[0] for f in flags):
        return str(conf_dir()), list(flags)
    if not Path(own).is_dir():
        raise ConfigError(no_such_folder(own))
    return os.path.abspath(own), [*others, "--config-dir", str(conf_dir())]
