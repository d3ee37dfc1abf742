"""Measure trained cells of a study from their weights; nothing is trained.

python -m samsweep.measure study=demo sharpness=full
python -m samsweep.measure study=demo sharpness=top5 model=resnet8 opt=sam rho=0.1,0.2 seed=0
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig

from samsweep.cli.endings import ends_in_sentences
from samsweep.config import ConfigError, DataInfo, Options, RunConfig, conf_dir
from samsweep.data.describe import describe
from samsweep.hydra_config import Composer, composition, register_resolvers, to_options
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, find_study
from samsweep.sweep.execute import execute
from samsweep.sweep.manifest import readable_manifests
from samsweep.sweep.measurement_table import measurement_tables
from samsweep.sweep.plan import Point, plan_sweep
from samsweep.sweep.select import KEYS, Filters, Selection, select, shown_value, unknown_key
from samsweep.system.text import console

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

    from samsweep.hydra_config.launcher import PlanLauncher

#: Where the images of an image_folder lie; no part of what is trained, hence no filter.
_PATH = "dataset.path"

#: Groups of settings of which several values may be given, each of which is measured.
_SWEPT = ("sharpness",)
_SETTINGS = (
    *_SWEPT,
    "tracking",
    *("study", "device", "num_threads", "data_dir", "dry_run"),
    *("fail_fast", "detach", "on_code_change"),
)
#: Hydra's own that decide what is composed or run, in place of where.
_NOT_OURS = ("hydra/sweeper", "hydra.sweeper", "hydra.mode", "hydra.run")


# --------------------------------------------------------------------------- what is asked for


@dataclass(frozen=True, kw_only=True)
class Request:
    """The command line, by what its parts are for.

    Args:
        filters: Which cells.
        settings: Overrides for Hydra: what to measure, and how and where that runs.
        data_path: Folder of an image_folder's images, if it is told.
    """

    filters: Filters
    settings: tuple[str, ...]
    data_path: Path | None = None

    @classmethod
    def parse(cls, arguments: Iterable[str]) -> Request:
        """Tell filters from settings.

        Args:
            arguments: ``key=value`` each.

        Raises:
            ConfigError: With a sentence for every key that means nothing here.
        """
        overrides = OverridesParser.create().parse_overrides(list(arguments))
        problems = [problem for override in overrides for problem in _problems(override)]
        if problems:
            raise ConfigError(*problems)
        paths = [_texts(o)[0] for o in overrides if o.key_or_group == _PATH]
        return cls(
            filters={o.key_or_group: _texts(o) for o in overrides if o.key_or_group in KEYS},
            settings=tuple(str(o.input_line) for o in overrides if _is_setting(o)),
            data_path=Path(paths[-1]).absolute() if paths else None,
        )


def _is_setting(override: Override) -> bool:
    key = override.key_or_group
    return override.is_hydra_override() or _group(key) in _SETTINGS


def _group(key: str) -> str:
    return key.partition(".")[0]


def _problems(override: Override) -> Iterator[str]:
    """Sentences about an override that cannot stand here."""
    key, written = override.key_or_group, str(override.input_line)
    if key.startswith(_NOT_OURS):
        yield f"{written} has no effect on measuring: leave it out."
    elif key == "experiment":
        yield (
            f"{written}: a preset is a grid to train; give study=NAME for the cells that it has "
            "trained."
        )
    elif _is_setting(override):
        if override.is_sweep_override() and _group(key) not in _SWEPT:
            yield f"{written}: give one value for all cells."
    elif key not in (*KEYS, _PATH) or override.get_key_element() != key:
        if key in Options.model_fields and key not in KEYS:
            yield f"{written} has no effect on measuring: leave it out."
        else:
            yield unknown_key(override.get_key_element(), (*KEYS, _PATH, *_SETTINGS))
    elif key == _PATH and len(_texts(override)) > 1:
        yield f"{written}: give one folder."


def _texts(override: Override) -> tuple[str, ...]:
    """The values of an override as texts, without their quotes.

    Raises:
        ConfigError: If they cannot be listed.
    """
    if not override.is_sweep_override():
        return (_text(override.value(), override),)
    try:
        return tuple(_text(value, override) for value in override.sweep_iterator())
    except HydraException:
        raise ConfigError(f"{override.input_line}: list the values, with commas.") from None


def _text(value: object, override: Override) -> str:
    if isinstance(value, list | dict):
        raise ConfigError(f"{override.input_line}: list the values, with commas.")
    if isinstance(value, QuotedString):
        return value.text
    return shown_value(value)


# --------------------------------------------------------------------------- how it is measured


class _Images:
    """Where each cell's training images are described, and lie if its user has them.

    Args:
        study: ``multirun/<study>``.
        given: What the user says of an image_folder; None is where it was when last launched.
    """

    def __init__(self, study: Path, given: Path | None) -> None:
        self._study = study
        self._given = given
        self._launched: dict[str, Path] | None = None

    def of(self, folder: CellFolder, record: Record) -> tuple[DataInfo, Path | None]:
        """What is known of a cell's images, and their folder.

        Raises:
            ConfigError: If the folder is not known, or holds other images.
        """
        dataset = record.identity.dataset
        if dataset.fingerprint is None:
            return describe(dataset.name, None, dataset.image_size), None
        path = self._given or self._last_launched().get(folder.path.name)
        if path is None:
            raise ConfigError(
                f"{_PATH} is missing: no launch knows where the images of {folder.path.name} lie; "
                f"set {_PATH}=FOLDER."
            )
        info = describe(dataset.name, path, dataset.image_size)
        if info.fingerprint != dataset.fingerprint:
            raise ConfigError(
                f"{_PATH}={path} holds other images than {folder.path.name} was trained on: "
                "give the folder of those."
            )
        return info, path

    def _last_launched(self) -> Mapping[str, Path]:
        """By cell id, the folder at the latest launch of each."""
        if self._launched is None:
            self._launched = {}
            for manifest in readable_manifests(self._study):
                for name, cell in manifest.cells.items():
                    path = cell.runs[-1].data_path if cell.runs else None
                    if path is not None:
                        self._launched.setdefault(name, path)
        return self._launched


def _runs(
    study: Path, selection: Selection, options: Sequence[Options], data_path: Path | None
) -> dict[CellFolder, list[RunConfig]]:
    """How each cell is measured: a run for each of the options.

    Raises:
        ConfigError: With a sentence for every cell whose images cannot be had.
    """
    images = _Images(study, data_path)
    runs: dict[CellFolder, list[RunConfig]] = {}
    problems: dict[str, None] = {}
    for folder, record in selection.complete.items():
        try:
            info, path = images.of(folder, record)
        except ConfigError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        runs[folder] = [
            chosen.run_of(record.identity, num_train=info.num_train, data_path=path)
            for chosen in options
        ]
    if problems:
        raise ConfigError(*problems)
    if data_path is not None and all(run.data_path is None for run, *_ in runs.values()):
        raise ConfigError(
            f"{_PATH}={data_path} has no effect: none of these cells was trained on an "
            "image_folder."
        )
    return runs


# --------------------------------------------------------------------------- the command


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: what cannot be measured ends in one sentence and exit status 2."""
    register_resolvers()
    given = _parser().parse_intermixed_args(arguments)
    with ends_in_sentences():
        request = Request.parse(given.overrides)
        with composition("measure", request.settings, given.config_dir) as (loader, master):
            _measure(request, loader, master)


def _measure(request: Request, loader: ConfigLoader, master: DictConfig) -> None:
    """Select, plan, launch and tell.

    Raises:
        SystemExit: With status 1 if a cell could not be measured.
    """
    options = _options(loader, master)
    launcher = _launcher(loader, master)
    study = find_study(Path(master.hydra.sweep.dir).absolute(), options[0].study)
    selection = select(study, request.filters)
    for sentence in selection.left_alone():
        print(sentence)
    runs = _runs(study, selection, options, request.data_path)
    points = [
        Point(run=run, overrides=(), folder=folder) for folder, some in runs.items() for run in some
    ]
    if points:
        tables = [chosen.sharpness for chosen in options]
        execute(
            plan_sweep(points),
            launcher.runner,
            dry_run=options[0].dry_run,
            print_results=lambda: console().print(measurement_tables(runs, tables)),
        )
    else:
        print(f"There is nothing to measure in study {study.name}.")
    if selection.unreadable:
        raise SystemExit(1)


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
        raise ConfigError(
            f"Nothing is asked for that could be measured: choose sharpness= one of "
            f"{', '.join(_sharpness())}."
        )
    return options


def _launcher(loader: ConfigLoader, master: DictConfig) -> PlanLauncher:
    """What works on the cells.

    Raises:
        ConfigError: If it is none of ours.
    """
    # Late, since each process of a pool imports this module anew.
    from hydra._internal.callbacks import Callbacks

    from samsweep.hydra_config.launcher import PlanLauncher

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


def _sharpness() -> list[str]:
    """Options that measure something."""
    return sorted(
        file.stem for file in (conf_dir() / "sharpness").glob("*.yaml") if file.stem != "none"
    )


_HELP = """\
Measure trained cells of a study from their weights. Nothing is trained, and what has been measured
with the same settings is not measured again.

    python -m samsweep.measure study=demo sharpness=full
    python -m samsweep.measure study=demo sharpness=top5 model=resnet8 opt=sam rho=0.1,0.2 seed=0

what to measure, sharpness=; several with commas, lambda_max unless told otherwise:
{measures}
  and sharpness.KEY=VALUE, such as sharpness.trace.num_samples=50, of conf/sharpness/lambda_max.yaml

which cells; all, but for those that lack a value that is given, several with commas:
{keys}

how and where, as for samsweep.run (conf/config.yaml, conf/hydra/launcher):
{settings}"""


def _parser() -> argparse.ArgumentParser:
    def listed(words: Iterable[str]) -> str:
        return textwrap.fill(", ".join(words), 98, initial_indent="  ", subsequent_indent="  ")

    parser = argparse.ArgumentParser(
        prog="python -m samsweep.measure",
        usage="%(prog)s [study=NAME] [sharpness=OPTION] [KEY=VALUE ...] [--config-dir FOLDER]",
        description=_HELP.format(
            measures=listed(_sharpness()),
            keys=listed(KEYS),
            settings=listed(
                [*_SETTINGS[len(_SWEPT) :], _PATH, "hydra/launcher=local|slurm", "hydra.launcher.*"]
            ),
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=argparse.SUPPRESS)
    parser.add_argument(
        "--config-dir", "-cd", metavar="FOLDER", help="a folder of your own beside conf/"
    )
    return parser


if __name__ == "__main__":
    main()
