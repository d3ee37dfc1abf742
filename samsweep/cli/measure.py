"""``samsweep measure``: measure trained cells of a study from their weights; nothing is trained."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from samsweep.cli.errors import ends_in_sentences
from samsweep.cli.measure_keys import PATH, SETTINGS, filters, measured_settings
from samsweep.cli.overrides import split_overrides
from samsweep.config import CellConfig, ConfigError, Options, RunConfig, unknown_name
from samsweep.config.arguments import help_of_keys
from samsweep.config.cell import MEASURING
from samsweep.config.conf_folders import config_dir_of, named_factories, options_of
from samsweep.config.factory import is_path
from samsweep.config.run import OnCodeChange
from samsweep.data.dataset_info import describe
from samsweep.hydra_config import composition, options_of_grid, plan_launcher, register_resolvers
from samsweep.records.identity import wanted_measurements
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, find_study
from samsweep.sweep.execute import Runner, execute
from samsweep.sweep.manifest import readable_manifests
from samsweep.sweep.plan import Point, plan_sweep
from samsweep.sweep.select import KEYS, select
from samsweep.system.text import counted

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
        problems += _given_twice(overrides)
        if problems:
            raise ConfigError(*problems)
        settings = [str(one.input_line) for one in overrides if _is_setting(one)]
        chosen = {one.key_or_group: _values(one) for one in overrides if not _is_setting(one)}
        path = Path(chosen.pop(PATH)[0]).absolute() if PATH in chosen else None
        with composition("measure", settings, config_dir_of(flags)) as (loader, master):
            options = options_of_grid(loader, master)
            if not all(one.sharpness.measures for one in options):
                names = ", ".join(name for name in options_of("sharpness") if name != "none")
                raise ConfigError(f"sharpness=none measures nothing: choose one of {names}.")
            runner = plan_launcher(loader, master).runner
            factories = named_factories(config_dir_of(flags))
            study = find_study(Path(master.hydra.sweep.dir).absolute(), options[0].study)
            _measure(study, chosen, path, options, runner, factories)


def _measure(
    study: Path,
    filters: Mapping[str, Sequence[Any]],
    data_path: Path | None,
    options: Sequence[Options],
    runner: Runner,
    factories: Collection[str],
) -> None:
    """Select the cells, plan and launch.

    Raises:
        SystemExit: With status 1 if a cell could not be measured.
    """
    selection = select(study, filters)
    if str(selection):
        print(selection)
    _check_components(selection.complete, factories, options[0].on_code_change)
    runs = _runs(study, selection.complete, data_path, options)
    points = [Point(run=run, folder=f) for f, some in runs.items() for run in some]
    if points:
        execute(
            plan_sweep(points),
            runner,
            dry_run=options[0].dry_run,
            print_results=lambda: _print_values(study, runs),
        )
    else:
        print(f"There is nothing to measure in study {study.name}.")
    if selection.unreadable:
        raise SystemExit(1)


def _check_components(
    records: Mapping[CellFolder, Record],
    factories: Collection[str],
    on_code_change: OnCodeChange,
) -> None:
    """What stands in a run folder is imported only if the user's configuration names it too.

    Raises:
        ConfigError: With a sentence for every cell that needs a component that is not named here,
            or if a component has changed and ``on_code_change`` refuses that.
    """
    problems: dict[str, list[str]] = {}
    for folder, record in records.items():
        for problem in _not_named(record.identity, factories):
            problems.setdefault(problem, []).append(folder.path.name)
    if problems:
        raise ConfigError(
            *(f"{counted(len(ids), 'cell')}, {ids[0]} first: {p}" for p, ids in problems.items())
        )
    changed = [f.path.name for f, record in records.items() if _has_changed(record.identity)]
    if not changed:
        return
    sentence = (
        f"{counted(len(changed), 'cell')}, {changed[0]} first: the source of a component has "
        "changed since training"
    )
    if on_code_change == "refuse":
        raise ConfigError(f"{sentence}, and on_code_change=refuse: restore it, or leave that out.")
    print(f"{sentence}; it is measured as it is now, unless on_code_change=refuse.")


def _has_changed(cell: CellConfig) -> bool:
    before, now = cell.sources or {}, cell.sources_now(MEASURING)
    return any(before.get(kind) != now.get(kind) for kind in MEASURING)


def _not_named(cell: CellConfig, factories: Collection[str]) -> Iterator[str]:
    """Sentences about what measuring a cell needs and the configuration does not name."""
    for path in filter(is_path, cell.names(MEASURING)):
        if path not in factories:
            yield f"{path} is in no option here: give --config-dir FOLDER with the one that has it."
    try:
        list(cell.components(MEASURING))
    except ConfigError as error:
        yield str(error)


def _runs(
    study: Path,
    records: Mapping[CellFolder, Record],
    given: Path | None,
    options: Sequence[Options],
) -> dict[CellFolder, list[RunConfig]]:
    """How each cell is measured, once for each choice of settings.

    Images of one's own are in the folder given, or else in that of the cell's latest launch.

    Raises:
        ConfigError: If such a folder is not known, or holds other images.
    """
    own = {f for f, r in records.items() if r.identity.dataset.fingerprint is not None}
    if given is not None and records and not own:
        raise ConfigError(
            f"{PATH}={given} has no effect: none of these cells was trained on an image_folder."
        )
    launched = {
        name: cell.runs[-1].data_path
        for manifest in (reversed([*readable_manifests(study)]) if own else ())
        for name, cell in manifest.cells.items()
    }
    runs = {}
    for folder, record in records.items():
        cell, name = record.identity, folder.path.name
        path = (given or launched.get(name)) if folder in own else None
        info = describe(cell.dataset, path)
        if folder in own and info.fingerprint != cell.dataset.fingerprint:
            raise ConfigError(
                f"{PATH}={path} holds other images than {name} was trained on: "
                "give the folder of those."
            )
        runs[folder] = [
            chosen.run_of(cell, num_train=info.num_train, data_path=path) for chosen in options
        ]
    return runs


def _print_values(study: Path, runs: Mapping[CellFolder, Sequence[RunConfig]]) -> None:
    """Measure by measure each cell's value: ?? if it is missing, * if it did not converge."""
    # Late: pandas takes a second to import.
    import pandas as pd

    from multirun_analysis.runs.load import load_measurements

    measurements = load_measurements(study).to_dict("records")
    found = {(each["cell_id"], each["measurement"]): each for each in measurements}

    def row(name: str, key: str, cell: str) -> tuple[str, str, str]:
        taken = found.get((cell, key))
        if taken is None:
            return name, cell, "??"
        # Only a figure can show a spectrum or a landscape.
        value = "measured" if pd.isna(taken["value"]) else f"{taken['value']:.4g}"
        converged = pd.isna(taken["converged"]) or taken["converged"]
        return taken["settings_label"], cell, value if converged else f"{value}*"

    asked = dict.fromkeys(
        (name, key, folder.path.name)
        for folder, some in runs.items()
        for run in some
        for key, name in wanted_measurements(run.sharpness).items()
    )
    rows = [row(*each) for each in sorted(asked, key=lambda each: each[:2])]
    table = pd.DataFrame(rows, columns=["measure", "cell", "value"])
    print(table.to_markdown(index=False, disable_numparse=True))
    if any(value.endswith("*") for *_, value in rows):
        print("* not converged: the error is above the tolerance that was asked for")


# --------------------------------------------------------------------------- the command line


def _is_setting(override: Override) -> bool:
    return override.is_hydra_override() or override.key_or_group.partition(".")[0] in SETTINGS


def _problems(override: Override) -> Iterator[str]:
    """Sentences about an override that cannot stand here."""
    key, typed = override.get_key_element(), str(override.input_line)
    valid = (*KEYS, PATH, *SETTINGS)
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
    elif key == PATH and len(_values(override)) > 1:
        yield f"{typed}: give one folder."


def _given_twice(overrides: Sequence[Override]) -> Iterator[str]:
    """A sentence for every key of which Hydra would take the last value alone."""
    typed: dict[str, list[str]] = {}
    for override in overrides:
        typed.setdefault(override.key_or_group, []).append(str(override.input_line))
    for key, words in typed.items():
        if len(words) > 1:
            yield f"{' '.join(words)}: give {key} once, several values with commas."


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


def _help() -> str:
    from samsweep.cli.help import help_of_options

    settings = help_of_options(list(measured_settings()), (), presets=False)
    return "\n".join([_HELP, help_of_keys(filters()), "", *settings])
