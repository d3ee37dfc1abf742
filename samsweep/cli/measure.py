"""``samsweep measure``: measure trained cells of a study from their weights; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from pydantic_core import PydanticUndefined

from samsweep.cli.errors import ends_in_sentences
from samsweep.cli.overrides import config_dir_of, options_of, split_overrides
from samsweep.config import ConfigError, DataInfo, Options, described, unknown_name
from samsweep.config.arguments import help_of_keys
from samsweep.data.describe import describe
from samsweep.hydra_config import Composer, composition, register_resolvers, to_options
from samsweep.hydra_config.launcher import PlanLauncher
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, find_study
from samsweep.sweep.execute import execute
from samsweep.sweep.manifest import readable_manifests
from samsweep.sweep.measurement_table import measurement_table
from samsweep.sweep.plan import Point, plan_sweep
from samsweep.sweep.select import KEYS, select
from samsweep.system.text import console

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

#: Where the images of an image_folder lie; no part of what is trained, hence no filter.
_PATH = "dataset.path"
#: Keys of Options that are overrides here; of sharpness, several values may be given.
_SETTINGS = (
    *("sharpness", "tracking", "study", "device", "num_threads", "data_dir", "dry_run"),
    *("fail_fast", "detach", "on_code_change"),
)
#: Hydra's own that have no effect here.
_NOT_OURS = ("hydra/sweeper", "hydra.sweeper", "hydra.mode", "hydra.run")

_HELP = """\
usage: samsweep measure [study=NAME] [sharpness=OPTION] [KEY=VALUE ...] [--config-dir FOLDER]

Measure trained cells of a study from their weights. Nothing is trained, and what has been measured
with the same settings is not measured again.

  samsweep measure study=demo sharpness=full
  samsweep measure study=demo sharpness=top5 model=resnet8 opt=sam rho=0.1,0.2 seed=0

Which cells: all that are complete, or those that have the given values; several with commas.
"""


def main(arguments: Sequence[str]) -> None:
    """The command: what cannot be measured ends in one sentence and exit status 2."""
    register_resolvers()
    with ends_in_sentences(arguments):
        if not {"-h", "--help"}.isdisjoint(arguments):
            print(_help())
            return
        flags, words = split_overrides(arguments)
        overrides = OverridesParser.create().parse_overrides(words)
        problems = [problem for override in overrides for problem in _problems(override)]
        if problems:
            raise ConfigError(*problems)
        settings = [str(one.input_line) for one in overrides if _is_setting(one)]
        chosen = {one.key_or_group: _values(one) for one in overrides if not _is_setting(one)}
        path = Path(chosen.pop(_PATH)[0]).absolute() if _PATH in chosen else None
        with composition("measure", settings, config_dir_of(flags)) as (loader, master):
            _measure(chosen, path, _options(loader, master), loader, master)


def _measure(
    filters: Mapping[str, Sequence[Any]],
    data_path: Path | None,
    options: Sequence[Options],
    loader: ConfigLoader,
    master: DictConfig,
) -> None:
    """Select the cells, plan and launch.

    Raises:
        SystemExit: With status 1 if a cell could not be measured.
    """
    launcher = _launcher(loader, master)
    study = find_study(Path(master.hydra.sweep.dir).absolute(), options[0].study)
    selection = select(study, filters)
    if str(selection):
        print(selection)
    data = _data_of(study, selection.complete, data_path)
    runs = {
        folder: [
            chosen.run_of(
                selection.complete[folder].identity, num_train=info.num_train, data_path=path
            )
            for chosen in options
        ]
        for folder, (info, path) in data.items()
    }
    points = [Point(run=run, overrides=(), folder=f) for f, some in runs.items() for run in some]
    if points:
        execute(
            plan_sweep(points),
            launcher.runner,
            dry_run=options[0].dry_run,
            print_results=lambda: console().print(measurement_table(runs)),
        )
    else:
        print(f"There is nothing to measure in study {study.name}.")
    if selection.unreadable:
        raise SystemExit(1)


# --------------------------------------------------------------------------- the command line


def _is_setting(override: Override) -> bool:
    return override.is_hydra_override() or override.key_or_group.partition(".")[0] in _SETTINGS


def _problems(override: Override) -> Iterator[str]:
    """Sentences about an override that cannot stand here."""
    key, typed = override.get_key_element(), str(override.input_line)
    valid = (*KEYS, _PATH, *_SETTINGS)
    if key.lstrip("+") == "experiment":
        yield f"{typed}: a preset is a grid to train; write study=NAME for cells that it trained."
    elif key.startswith(_NOT_OURS) or (key in Options.model_fields and key not in valid):
        yield f"{typed} has no effect on measuring: leave it out."
    elif _is_setting(override):
        if override.is_sweep_override() and not key.startswith("sharpness"):
            yield f"{typed}: give one value for all cells."
    elif key not in valid:
        parent = key.rpartition(".")[0]
        beside = [name for name in valid if name.rpartition(".")[0] == parent]
        yield unknown_name("key", key, beside or valid)
    elif key == _PATH and len(_values(override)) > 1:
        yield f"{typed}: give one folder."


def _values(override: Override) -> list[Any]:
    """The values of an override.

    Raises:
        ConfigError: If they cannot be listed.
    """
    try:
        sweeps = override.is_sweep_override()
        values: list[Any] = list(override.sweep_iterator()) if sweeps else [override.value()]
    except HydraException:
        values = [[]]
    if any(isinstance(value, list | dict) for value in values):
        raise ConfigError(f"{override.input_line}: list the values, with commas.")
    return [value.text if isinstance(value, QuotedString) else value for value in values]


def _options(loader: ConfigLoader, master: DictConfig) -> list[Options]:
    """What to measure and how: one for each combination of the settings.

    Raises:
        ConfigError: If a value cannot be, or no measure is asked for.
    """
    parser = OverridesParser.create(config_loader=loader)
    overrides = parser.parse_overrides(list(master.hydra.overrides.task))
    composer = Composer(loader, master)
    (grid,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    options = [to_options(composer.config(chosen)) for chosen in grid]
    if not all(chosen.sharpness.measures for chosen in options):
        names = ", ".join(name for name in options_of("sharpness") if name != "none")
        raise ConfigError(f"Nothing is asked for that could be measured: sharpness= {names}.")
    return options


def _launcher(loader: ConfigLoader, master: DictConfig) -> PlanLauncher:
    """What runs the plan.

    Raises:
        ConfigError: If it cannot run one.
    """
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()),
        task_function=to_options,
        config=master,
    )
    if not isinstance(launcher, PlanLauncher):
        name = master.hydra.runtime.choices["hydra/launcher"]
        raise ConfigError(
            f"hydra/launcher={name} cannot measure: choose hydra/launcher=local or "
            "hydra/launcher=slurm."
        )
    return launcher


def _help() -> str:
    from samsweep.cli.help import help_of_options

    keys = list(described(Options))
    filters = [
        replace(key, values=key.values or KEYS[key.name].values, default=PydanticUndefined)
        for key in keys
        if key.name in KEYS
    ]
    settings = [key for key in keys if key.name.partition(".")[0] in _SETTINGS]
    return "\n".join([_HELP, help_of_keys(filters), "", *help_of_options(settings, ())])


# --------------------------------------------------------------------------- images of one's own


def _data_of(
    study: Path, records: Mapping[CellFolder, Record], given: Path | None
) -> dict[CellFolder, tuple[DataInfo, Path | None]]:
    """What is known of each cell's images, and the folder of an image_folder's.

    The folder is the one given, or else that of the cell's latest launch.

    Raises:
        ConfigError: With a sentence for every folder that is not known, or holds other images.
    """
    own = {f: r for f, r in records.items() if r.identity.dataset.fingerprint is not None}
    if given is not None and records and not own:
        raise ConfigError(
            f"{_PATH}={given} has no effect: none of these cells was trained on an image_folder."
        )
    launched: dict[str, Path | None] = {}
    for manifest in readable_manifests(study) if own and given is None else ():
        for name, cell in manifest.cells.items():
            if cell.runs:
                launched.setdefault(name, cell.runs[-1].data_path)
    found: dict[CellFolder, tuple[DataInfo, Path | None]] = {}
    problems: dict[str, None] = {}
    for folder, record in records.items():
        dataset, name = record.identity.dataset, folder.path.name
        path = (given or launched.get(name)) if folder in own else None
        try:
            if folder in own and path is None:
                raise ConfigError(
                    f"{_PATH} is missing: no launch knows where the images of {name} lie; "
                    f"set {_PATH}=FOLDER."
                )
            info = describe(dataset.name, path, dataset.image_size)
            if folder in own and info.fingerprint != dataset.fingerprint:
                raise ConfigError(
                    f"{_PATH}={path} holds other images than {name} was trained on: "
                    "give the folder of those."
                )
            found[folder] = info, path
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise ConfigError(*problems)
    return found
