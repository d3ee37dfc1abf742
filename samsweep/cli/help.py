"""What ``run`` and ``measure`` print for ``--help``: every key, from where it is documented."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from samsweep.cli.overrides import split_overrides
from samsweep.config import Key, Options, described
from samsweep.config.arguments import help_of_keys
from samsweep.config.conf_folders import config_dir_of, options_of
from samsweep.hydra_config import composition
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.slurm.job_arrays import ArraySettings, SubmissionSettings

_RUN = """\
usage: samsweep run [-m] [KEY=VALUE ...] [--config-dir FOLDER]

Train and measure one cell, or with -m every combination of the values given. A cell that is
finished is not trained again; one that was stopped goes on at its checkpoint.

  samsweep run opt=sam rho=0.1
  samsweep run -m model=resnet18,resnet34 opt=sam,samdirection rho=0.1,0.2,0.4
  samsweep run +experiment=demo

Each key stands with its default, that of the options given beside --help:
`samsweep run dataset=cifar100 --help`. --cfg job prints the configuration and runs nothing,
--hydra-help explains Hydra's own options.
"""


def help_of_run(arguments: Sequence[str]) -> str:
    """The help of ``samsweep run``, with the values that the overrides choose."""
    return "\n".join([_RUN, *help_of_options(list(described(Options)), arguments, presets=True)])


def help_of_options(
    keys: Sequence[Key], arguments: Sequence[str], *, presets: bool
) -> Iterator[str]:
    """The groups and values of ``conf/`` with their defaults, and those of the launcher.

    ``presets`` is whether the command takes ``+experiment=``.
    """
    _, overrides = split_overrides(arguments)
    config_dir = config_dir_of(arguments)
    with composition("help", overrides, config_dir) as (_, config):
        chosen = dict(config.hydra.runtime.choices)
        groups = [key for key in keys if key.name in chosen]
        yield "Groups, GROUP=OPTION:\n"
        for key in groups:
            group = replace(key, values=", ".join(options_of(key.name, config_dir)))
            yield help_of_keys([group], {key.name: chosen[key.name]})
        if presets:
            values = ", ".join(options_of("experiment", config_dir))
            meaning = "A preset: options, values and a grid."
            yield help_of_keys([Key(name="+experiment", values=values, meaning=meaning)])
        sections = {key.name.partition(".")[0] for key in keys if "." in key.name}
        yield "\nValues, KEY=VALUE:\n"
        yield _help_of((k for k in keys if "." not in k.name and k.name not in sections), config)
        for name in [key.name for key in keys if key.name in sections]:
            inner = [k for k in _leaves(keys) if k.name.startswith(f"{name}.")]
            inner = [k for k in inner if k.name != f"{name}.name"]
            if inner:
                yield f"\nValues of {name}{f'={chosen[name]}' if name in chosen else ''}:\n"
                yield _help_of(inner, config)
        yield f"\nValues of hydra/launcher={chosen['hydra/launcher']}:\n"
        yield _help_of(_keys_of_launcher(config), config)


def _leaves(keys: Sequence[Key]) -> list[Key]:
    """The keys that are values, not sections of others."""
    sections = {key.name.rpartition(".")[0] for key in keys}
    return [key for key in keys if key.name not in sections]


def _keys_of_launcher(config: DictConfig) -> Iterator[Key]:
    known = {
        key.name: key
        for schema in (PoolSettings, ArraySettings, SubmissionSettings)
        for key in described(schema, "hydra.launcher.")
    }
    for name in config.hydra.launcher:
        key = f"hydra.launcher.{name}"
        if name not in ("_target_", *Options.model_fields):
            yield known.get(key, Key(name=key, meaning="See docs/slurm.md and `man sbatch`."))


def _help_of(keys: Iterable[Key], config: DictConfig) -> str:
    keys = list(keys)
    return help_of_keys(keys, {key.name: _value(config, key) for key in keys})


def _value(config: DictConfig, key: Key) -> Any:
    """The composed value; the class's own default where the chosen option has none."""
    found = OmegaConf.select(config, key.name, default=key.default)
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
