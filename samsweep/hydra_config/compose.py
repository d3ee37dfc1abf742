"""Compose ``conf/``: once for a command, and once for each combination of options of a grid."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from samsweep.config import ConfigError, Options, conf_dir
from samsweep.config.conf_folders import no_such_folder
from samsweep.hydra_config.convert import cell_folder, to_options, to_run_config
from samsweep.hydra_config.explain import explain
from samsweep.records.store import CellFolder
from samsweep.sweep.plan import Point


@contextmanager
def composition(
    name: str, overrides: Sequence[str], config_dir: str | None
) -> Iterator[tuple[ConfigLoader, DictConfig]]:
    """Compose ``conf/`` as Hydra does for a sweep, for a command that is none; sets up logging too.

    Overrides with several values are left to be composed; the options of ``config_dir`` go before
    those of ``conf/``.

    Yields:
        What composes more, and the composed configuration.

    Raises:
        ConfigError: If there is no such folder.
    """
    path = create_config_search_path(str(conf_dir()))
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise ConfigError(no_such_folder(config_dir))
        source = f"file://{os.path.abspath(config_dir)}"
        path.prepend("command-line", source, SearchPathQuery(provider="main"))
    hydra = Hydra.create_main_hydra2(task_name=name, config_search_path=path)
    try:
        master = hydra.compose_config(
            "config", list(overrides), run_mode=RunMode.MULTIRUN, with_log_configuration=True
        )
        yield hydra.config_loader, master
    finally:
        GlobalHydra.instance().clear()


def with_option_as_text(override: str, is_group: Callable[[str], object]) -> str:
    """An override whose option's name reads as a number, a truth value or null, as the text it is.

    Hydra raises a ``ValueError`` for ``dataset=nan`` or ``model=null``; of a text it says which
    options there are, and one that is really called so can be chosen.

    Args:
        override: As the user writes it; several values are left as they are, until they are points.
        is_group: Whether a key is that of a group of options.

    Raises:
        ConfigError: If a group of ours is given a list, of which Hydra would take the last.
    """
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return override  # which Hydra refuses in its turn
    if parsed.is_delete() or parsed.is_sweep_override():
        return override
    if isinstance(parsed.value(), list) and "/" not in parsed.key_or_group:
        if is_group(parsed.key_or_group):
            raise ConfigError(
                f"{override}: one option is chosen at a time, write {override.translate(_NO_LIST)} "
                "with -m for a cell of each."
            )
        return override
    if not isinstance(parsed.value(), bool | int | float | None):
        return override
    key, _, value = override.partition("=")
    return f"{key}='{value}'" if is_group(parsed.key_or_group) else override


#: Without the brackets of a list.
_NO_LIST = str.maketrans("", "", "[]")


class Composer:
    """Composes the points of a grid, each combination of options once.

    Hydra composes from the files anew for every point. Points that differ in plain values alone,
    such as rho and seed, here share that work: a copy is taken and the values are set, which is
    what Hydra does last in any case.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader = loader
        self._master = master
        parser = OverridesParser.create(config_loader=loader)
        is_group = functools.cache(loader.get_group_options)
        self._parse = functools.cache(
            lambda override: parser.parse_override(with_option_as_text(override, is_group))
        )
        self._compose = functools.cache(self._compose_options)
        self._problem = functools.cache(self._problem_of_point)

    def points(self, grid: Iterable[Sequence[str]]) -> list[Point]:
        """All points of a grid, by the overrides of each.

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
        run = to_run_config(config)
        return Point(
            run=run, overrides=tuple(overrides), folder=CellFolder(cell_folder(config, run))
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
            return explain(error, ("-m", *overrides))
        return None

    def _compose_options(self, options: tuple[str, ...]) -> DictConfig:
        return self._loader.load_sweep_config(self._master, list(options))

    def _is_plain_value(self, override: Override) -> bool:
        """Whether it only sets a value that every composition has, outside of Hydra's own."""
        key = override.key_or_group
        if override.package or key.startswith("hydra"):
            return False
        if override.type is OverrideType.FORCE_ADD:
            return True
        if override.type is not OverrideType.CHANGE:
            return False
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(self._master, parent) if parent else self._master
        return isinstance(node, DictConfig) and name in node and not _is_group(node, name)


def _is_group(node: DictConfig, name: str) -> bool:
    return isinstance(node._get_node(name), DictConfig)


def options_of_grid(loader: ConfigLoader, master: DictConfig) -> list[Options]:
    """The options of each combination of the values that the command line gives.

    Raises:
        ConfigError: If a value cannot be.
    """
    parser = OverridesParser.create(config_loader=loader)
    overrides = parser.parse_overrides(list(master.hydra.overrides.task))
    composer = Composer(loader, master)
    (grid,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return [to_options(composer.config(chosen)) for chosen in grid]
