"""``samsweep tables``: print and write the tables of a study."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from samsweep.config import ConfigError, Frozen, described, unknown_name
from samsweep.config.arguments import help_of_keys, parse_arguments, written
from samsweep.config.extras import lacking
from samsweep.config.factory import add_search_path
from samsweep.config.fields import StudyName
from samsweep.config.plugins import load_plugins

_HELP = """\
usage: {command} [study=NAME] [KEY=VALUE ...]

Write the tables of a study: test accuracy (last epoch, and at best validation), sharpness by every
measure that was taken, SGD beside SGDHESS, the share of amplified elements, and the effects of
direction and magnitude with a verdict on each, per model and training recipe, as Markdown, CSV,
LaTeX and HTML. The tables are also printed, with the verdicts, the cells without a result and the
commands that run these. Only records, histories and manifests are read, also while cells train.

  {command} study=cifar100
  {command} study=cifar100 reference=empirical_sam out=results
  {command} study=cifar100 export=frames quiet=true
  {command} study=cifar100 wandb=offline
  {command} study=mine rows=opt.alpha,lr cols=rho value=test_accuracy
  {command} study=mine effects=momentum:0,0.9
  {command} study=mine effects=opt:sam
  {command} study=mine effects=design value=log_trace

In a table, `96.52 ± 0.31 (n=3)` is mean and standard deviation over 3 seeds, `??` a cell without a
result, `diverged` one whose loss became NaN or inf, `pruned` one ended by a pruner. Exit status 1:
there is nothing to tabulate, or W&B refused.
"""


def _split(names: object) -> object:
    """Names between commas, in brackets or not."""
    if not isinstance(names, str):
        return names
    bare = names.strip().removeprefix("[").removesuffix("]")
    return tuple(name.strip() for name in bare.split(",") if name.strip())


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class TablesOptions(Frozen):
    """The command line.

    Args:
        study: Name of the study.
        root: Folder of the studies.
        out: Folder of the tables, which go to OUT/STUDY/.
        reference: Published values to show beside the study's, in a table of their own.
        report: Whether to write figures and one self-contained report.html.
        export: Folder for the frames of runs, measurements and history, as CSV and Parquet.
        wandb: Mode of a W&B run that tables and figures are pushed to; null is no run.
        wandb_project: W&B project.
        rows: Keys of the configuration, rows=opt.alpha,lr, whose values are the rows of a table of
            its own; as they are set, or as much of a name as says which one is meant.
        cols: Keys whose values are its columns; whatever else varies has a table for each value.
        value: What rows and cols show, test_accuracy by default, and what effects are of, by
            default all outcomes: a result of training, generalization_gap, a quantity that was
            measured, by a measure of one's own too, another number of a measure
            (top5.bulk_outlier_ratio), or the logarithm of one of these (log_trace).
        effects: A key and two of its values, effects=lr:0.1,0.5, of which the second is compared
            with the first, paired by seed and by everything else that varies; or a key and one
            value, effects=opt:sam, with which every other value is compared, in a table and a
            figure; or design, the 2x2 design of direction and magnitude.
        plugins: Modules that register components, plugins=mylab.plugin, for what measures and
            metrics are called; modules are looked for here and beside config_dir too.
        quiet: Whether to print no tables.
        config_dir: Folder of options beside conf/, whose presets name confirmatory tests too.
    """

    study: StudyName = "default"
    root: Path = Path("multirun")
    out: Path = Path("tables")
    reference: str | None = None
    report: bool = False
    export: Path | None = None
    wandb: Literal["offline", "online"] | None = None
    wandb_project: str = "samsweep"
    rows: Names = ()
    cols: Names = ()
    value: str | None = None
    effects: str | None = None
    plugins: Names = ()
    quiet: bool = False
    config_dir: Path | None = None


def main(
    arguments: Sequence[str],
    *,
    command: str = "samsweep tables",
    text: str = _HELP,
    defaults: Mapping[str, bool] | None = None,
) -> int:
    """The command; returns its exit status.

    ``command`` is its name in the help, which ``text`` opens; ``defaults`` are those of its keys.
    """
    if not {"-h", "--help"}.isdisjoint(arguments):
        print(text.format(command=command))
        print(help_of_keys(described(TablesOptions), defaults))
        print(f"\nreference is one of {', '.join(reference_names())}.")
        return 0
    words = [*(f"{key}={written(value)}" for key, value in (defaults or {}).items()), *arguments]
    try:
        options = parse_arguments(
            TablesOptions, words, options={"wandb": "offline", "config_dir": ""}
        )
        if options.reference is not None and options.reference not in reference_names():
            raise ConfigError(unknown_name("reference", options.reference, reference_names()))
        _check_extras(options)
        print(f"reading study {options.study} ...", file=sys.stderr, flush=True)
        _load_labels(options)
        # Late: pandas takes a second to import.
        from multirun_analysis.report.write import write_tables

        return write_tables(**options.model_dump(exclude={"plugins"}))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2


def _check_extras(options: TablesOptions) -> None:
    """Refuse what needs a library that is not installed.

    Raises:
        ConfigError: If something does.
    """
    needs = []
    if options.report:
        needs.append(lacking("report=true", "report"))
    if options.wandb is not None:
        key = f"wandb={options.wandb}"
        needs += [lacking(key, "wandb"), lacking(key, "report")]
    if told := [sentence for sentence in needs if sentence is not None]:
        raise ConfigError(*(f"{sentence}." for sentence in told))


def reference_names() -> list[str]:
    """The references that there are, without importing the analysis."""
    spec = importlib.util.find_spec("multirun_analysis")
    assert spec is not None and spec.origin is not None
    return sorted(file.stem for file in Path(spec.origin).parent.glob("references/*.yaml"))


def _load_labels(options: TablesOptions) -> None:
    """Let plugins say what their measures and metrics are called.

    Tables can do without: one that cannot be imported is told of, and its names stay bare.
    """
    beside = [] if options.config_dir is None else [options.config_dir.absolute().parent]
    add_search_path([Path.cwd(), *beside])
    try:
        load_plugins(options.plugins)
    except ConfigError as error:
        print(f"{error} Its components go by their bare names.", file=sys.stderr)
