"""Train and measure one cell, or with ``-m`` a grid of them.

python -m samsweep.run opt=sam rho=0.1
python -m samsweep.run -m model=resnet18,resnet34 opt=sam,samdirection rho=0.1,0.2,0.4
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from samsweep.cli.endings import ends_in_sentences
from samsweep.config import conf_dir
from samsweep.hydra_config import register_resolvers, to_run_config

#: Hydra's options that take the next argument.
_OPTIONS_WITH_VALUE = frozenset(
    "--config-dir -cd --config-path -cp --config-name -cn --package -p --cfg -c".split()
)


def task(cfg: DictConfig) -> float:
    """One cell: what Hydra calls for each point of the grid.

    Returns:
        Validation accuracy in percent, so that a sweeper can optimize it.
    """
    # Late, since torch takes seconds to import and --help does not need it.
    from samsweep.records.store import CellFolder
    from samsweep.training.cell import run_cell

    folder = Path(HydraConfig.get().runtime.output_dir)
    return run_cell(to_run_config(cfg), CellFolder(folder))


def main() -> None:
    """The command: what cannot be run ends in one sentence and exit status 2."""
    register_resolvers()
    with ends_in_sentences():
        sys.argv[1:] = _options_first(sys.argv[1:])
        command = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
        command(task)()


def _options_first(arguments: list[str]) -> list[str]:
    """Let ``-m`` and ``--config-dir`` stand anywhere: Hydra's parser does not between overrides."""
    options: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in _OPTIONS_WITH_VALUE:
            options += [argument, *itertools.islice(rest, 1)]
        else:
            (options if argument.startswith("-") else overrides).append(argument)
    return options + overrides


if __name__ == "__main__":
    main()
