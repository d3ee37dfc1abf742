"""Between Hydra and the rest: the one home of DictConfig.

Names a cell's folder, turns a composed configuration into a
:class:`~samsweep.config.RunConfig`, and refuses what cannot be run before anything is created.
"""

from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from samsweep.config import (
    ConfigError,
    Options,
    RunConfig,
    conf_dir,
    sibling_keys,
    unknown_name,
)
from samsweep.data.describe import describe
from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder, RecordError
from samsweep.sweep.local.launcher import look_ahead
from samsweep.sweep.plan import Point, plan_sweep
from samsweep.sweep.plan_table import tell


class Refusal(SystemExit):
    """A command that ends before any work is done: its reason, and exit status 2.

    It is no ``Exception``, since Hydra only warns of those when a callback raises them.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(2)
        self.reason = explain(error)


def register_resolvers() -> None:
    """Make ``${cell_id:}`` stand for the id of the cell that the configuration describes."""
    OmegaConf.register_new_resolver("cell_id", _resolve_cell_id, replace=True)


def _resolve_cell_id(*, _root_: DictConfig) -> str:
    return cell_id(to_run_config(_root_).cell)


def to_run_config(cfg: DictConfig) -> RunConfig:
    """Check and freeze a composed configuration.

    Args:
        cfg: What Hydra composed from ``conf/`` and the command line.

    Returns:
        The run it describes.

    Raises:
        ConfigError: With one sentence for every value that is wrong.
    """
    options = to_options(cfg)
    dataset = options.dataset
    path = None if dataset.path is None else Path(dataset.path)
    return options.resolve(describe(dataset.name, path, dataset.image_size))


def to_options(cfg: DictConfig) -> Options:
    """Check and freeze a composed configuration, whatever data set there is.

    Raises:
        ConfigError: With one sentence for every value that is wrong.
    """
    return Options.parse(_plain(cfg))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, without Hydra's own node."""
    masked = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        plain = OmegaConf.to_container(masked, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing: set {error.full_key}=VALUE.") from None
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@contextmanager
def composition(
    name: str, overrides: Sequence[str], config_dir: str | None
) -> Iterator[tuple[ConfigLoader, DictConfig]]:
    """Compose ``conf/`` as Hydra does for a sweep, for a command that is none; sets up logging too.

    Args:
        name: Of the command.
        overrides: As on the command line; those with several values are left to be composed.
        config_dir: A folder whose options go before those of ``conf/``.

    Yields:
        What composes more, and the composed configuration.

    Raises:
        ConfigError: If there is no such folder.
    """
    path = create_config_search_path(str(conf_dir()))
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise ConfigError(f"--config-dir {config_dir}: there is no such folder.")
        source = f"file://{os.path.abspath(config_dir)}"
        path.prepend("command-line", source, SearchPathQuery(provider="schema"))
    hydra = Hydra.create_main_hydra2(task_name=name, config_search_path=path)
    try:
        master = hydra.compose_config(
            "config", list(overrides), run_mode=RunMode.MULTIRUN, with_log_configuration=True
        )
        yield hydra.config_loader, master
    finally:
        GlobalHydra.instance().clear()


# --------------------------------------------------------------------------- a grid


class Composer:
    """Composes the points of a grid, each combination of options once.

    Hydra composes from the files anew for every point. Points that differ in plain values alone,
    such as rho and seed, here share that work: a copy is taken and the values are set, which is
    what Hydra does last in any case.

    Args:
        loader: Hydra's.
        master: The sweep's own configuration.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader = loader
        self._master = master
        parser = OverridesParser.create(config_loader=loader)
        self._parse = functools.cache(parser.parse_override)
        self._compose = functools.cache(self._compose_options)
        self._problem = functools.cache(self._problem_of_point)

    def points(self, grid: Iterable[Sequence[str]]) -> list[Point]:
        """All points of a grid.

        Args:
            grid: The overrides of each point.

        Raises:
            ConfigError: With a sentence for every problem of any point.
        """
        points: list[Point] = []
        problems: dict[str, None] = {}
        for overrides in grid:
            try:
                points.append(self._point(overrides))
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems)
            except (HydraException, OmegaConfBaseException):
                problems |= dict.fromkeys(self._problems(tuple(overrides)))
        if problems:
            raise ConfigError(*problems)
        return points

    def _point(self, overrides: Sequence[str]) -> Point:
        config = self.config(overrides)
        sweep = config.hydra.sweep
        return Point(
            run=to_run_config(config),
            overrides=tuple(overrides),
            folder=CellFolder(Path(sweep.dir).absolute() / sweep.subdir),
        )

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """One point's configuration, as Hydra would compose it."""
        parsed = [self._parse(override) for override in overrides]
        values = [override for override in parsed if self._is_plain_value(override)]
        options = tuple(o.input_line for o in parsed if o not in values and o.input_line)
        config = copy.deepcopy(self._compose(options))
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config

    def _problems(self, overrides: tuple[str, ...]) -> list[str]:
        """Every sentence about a point that Hydra stops composing at the first of its problems.

        An override is to blame if without it there is another problem, or none.
        """
        problem = self._problem(overrides)
        if problem is None:
            return []
        for index in range(len(overrides)):
            rest = overrides[:index] + overrides[index + 1 :]
            if self._problem(rest) != problem:
                return [*problem.splitlines(), *self._problems(rest)]
        return problem.splitlines()

    def _problem_of_point(self, overrides: tuple[str, ...]) -> str | None:
        try:
            self._point(overrides)
        except (ConfigError, HydraException, OmegaConfBaseException) as error:
            return explain(error)
        return None

    def _compose_options(self, options: tuple[str, ...]) -> DictConfig:
        return self._loader.load_sweep_config(self._master, list(options))

    def _is_plain_value(self, override: Override) -> bool:
        """Whether it only sets a value that every composition has, outside of Hydra's own."""
        key = override.key_or_group
        if override.type is not OverrideType.CHANGE or override.package or key.startswith("hydra"):
            return False
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(self._master, parent) if parent else self._master
        return isinstance(node, DictConfig) and name in node and not _is_group(node, name)


def _is_group(node: DictConfig, name: str) -> bool:
    return isinstance(node._get_node(name), DictConfig)


# --------------------------------------------------------------------------- a single run


class Preflight(Callback):
    """Before a folder is created: is everything there that the command needs?"""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a single run, tell what it would do, or get its data set ready."""
        try:
            _refuse_launcher(config)
            run = to_run_config(config)
            if config.dry_run:
                _tell_single_run(config, run)
                raise SystemExit(0)
            prepare_run(run)
        except (ConfigError, RecordError) as error:
            raise Refusal(error) from error

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse what only our own sweeper can do."""
        sweeper = config.hydra.runtime.choices["hydra/sweeper"]
        if config.dry_run and sweeper != "samsweep":
            problem = (
                f"dry_run=true: hydra/sweeper={sweeper} has no plan to tell; "
                "leave dry_run out, or use hydra/sweeper=samsweep."
            )
            raise Refusal(ConfigError(problem))


def _refuse_launcher(config: DictConfig) -> None:
    """Without ``-m`` Hydra ignores launchers, and would train where it stands.

    Raises:
        ConfigError: If one was chosen.
    """
    launcher = ("hydra/launcher=", "hydra.launcher.")
    chosen = [o for o in config.hydra.overrides.hydra if o.lstrip("+").startswith(launcher)]
    name = config.hydra.runtime.choices["hydra/launcher"]
    if name != "local":
        # Perhaps by a preset.
        chosen.append(f"hydra/launcher={name}")
    if chosen:
        raise ConfigError(
            f"{chosen[0]} has no effect on a single run, which trains in this process: "
            "add -m to launch, also a single cell."
        )


def _tell_single_run(config: DictConfig, run: RunConfig) -> None:
    folder = CellFolder(Path(config.hydra.run.dir).absolute())
    plan = plan_sweep([Point(run=run, overrides=(), folder=folder)])
    tell(plan, look_ahead(plan, None, prepare=False) if plan.to_do else None)


def prepare_run(config: RunConfig) -> None:
    """Download what a run needs and make sure of its device and compiler.

    Raises:
        ConfigError: If one cannot be had.
    """
    from samsweep.data.load import prepare
    from samsweep.training.device import check_compiler, resolve_device

    resolve_device(config.device)
    if config.compiles:
        check_compiler()
    prepare(config.cell.dataset.name, config.data_dir)


# --------------------------------------------------------------------------- telling what is wrong


def explain(error: BaseException) -> str:
    """What is wrong with a command, in sentences that name the value and the valid choices."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ConfigError):
            return str(link)
        if isinstance(link, RecordError):
            return f"{link}. Move that cell's folder away to train it anew."
    text = "\n".join(str(link) for link in chain)
    key = re.search(r"Could not override '([^']+)'", text)
    if key is not None:
        return _not_overridable(key[1], text)
    option = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if option is not None:
        return unknown_name(option[1], option[2], _available_options(text))
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if ambiguous is not None:
        return f"{ambiguous[1]} gives several values: add -m to sweep over them."
    for link in chain:
        if isinstance(link, OverrideParseException):
            return f"{link.override} cannot be read: look at its quotes, commas and brackets."
    swept = re.search(r"Sweeping over Hydra's configuration is not supported : '([^']+)'", text)
    if swept is not None:
        return f"{swept[1]}: give one value for the whole sweep."
    return str(error).splitlines()[0]


def is_refusal(error: BaseException) -> bool:
    """Whether an exception speaks of the command rather than of a failure."""
    kinds = (ConfigError, RecordError, HydraException, OmegaConfBaseException)
    return any(isinstance(link, kinds) for link in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _not_overridable(key: str, text: str) -> str:
    """A key that is unknown, or one that has nothing to override yet."""
    valid = sibling_keys(Options, key)
    inner = re.search(r"full_key: (\S+)", text)
    if inner is not None and inner[1].startswith(f"{key}."):
        return f"{inner[1]} is not there to be replaced: write +{inner[1]}=VALUE."
    if (conf_dir() / key).is_dir():
        addition = re.search(r"use (\+\S+)", text)
        remedy = addition[1] if addition else f"+{key}=OPTION"
        return f"no {key} is chosen yet that could be replaced: write {remedy}."
    if key in valid:
        return f"{key} is not among the chosen options' own values: write +{key}=VALUE."
    if key.startswith("hydra.launcher."):
        valid = sorted(_launcher_keys())
    return unknown_name("key", key, valid)


def _launcher_keys() -> set[str]:
    """What can be set of the launchers that conf/ describes."""
    files = (conf_dir() / "hydra/launcher").glob("*.yaml")
    keys = {str(key) for file in files for key in OmegaConf.load(file)}
    return {f"hydra.launcher.{key}" for key in keys - {"_target_", "defaults"}}


def _available_options(text: str) -> list[str]:
    """The options that Hydra lists in its own message, those of --config-dir among them."""
    return re.findall(r"^\t(\S+)$", text, flags=re.MULTILINE)
