"""``samsweep status``: list the cells of a study from any shell; watch, cancel and retry them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import yaml
from pydantic import model_validator
from rich.box import SIMPLE_HEAD
from rich.live import Live
from rich.table import Table

from samsweep.config import ConfigError, Frozen, described
from samsweep.config.arguments import help_of_keys, parse_arguments
from samsweep.config.fields import StudyName
from samsweep.records.schema import ENDED
from samsweep.records.store import CellFolder, RecordError, cell_folders, find_study, study_names
from samsweep.sweep.manifest import launch_folders, readable_manifests
from samsweep.sweep.slurm.ended import job_logs
from samsweep.sweep.slurm.job_arrays import merged
from samsweep.sweep.slurm.scheduler import SlurmUnavailable
from samsweep.sweep.status import STOPPED, CellStatus, StatusReader, read_status, totals
from samsweep.system.text import console, counted, duration, printable, printable_lines

#: Seconds between two looks with ``--watch``.
_PERIOD_S = 2.0

#: Seconds for which all who watch a study share one answer of a cluster's.
_ASKED_EVERY_S = 30.0

#: Rows of a screen that the frame of a watched table takes.
_FRAME_ROWS = 6

#: Cells named in a message.
_MOST_NAMED = 5

#: Styles of states, in the order in which --watch shows them; the others follow.
_STYLES = {
    "running": "green",
    "stalled": "bold yellow",
    "failed": "bold red",
    "unmeasured": "bold red",
    "unreadable": "bold red",
    "interrupted": "yellow",
    "queued": "cyan",
    "submitted": "cyan",
    "diverged": "magenta",
    "pruned": "magenta",
    "planned": "dim",
    "starting": "dim",
}

_HELP = """\
usage: samsweep status [study=NAME] [--watch | --failed | --logs CELL | --cancel [CELL] |
                       --retry [CELL]]

List the cells of a study: state, epoch, loss, validation accuracy, time to go, host and job. CELL
is the beginning of a cell's id; --cancel and --retry alone mean all cells.

  samsweep status study=demo
  samsweep status study=demo --watch
  samsweep status study=demo --retry
  samsweep status study=demo --retry hydra.launcher.mem_gb=32
"""

#: What --cancel and --retry alone mean; --logs needs a cell.
_ALL = "all"
#: What values of the launcher begin with.
_LAUNCHER = "hydra.launcher."
_OPTIONS = {"logs": "", "cancel": _ALL, "retry": _ALL}


class StatusOptions(Frozen):
    """The command line.

    Args:
        study: Name of the study.
        root: Folder of the studies.
        watch: Refresh every two seconds until Ctrl-C; waits for a study that does not exist yet.
            Also --watch.
        failed: Whether to print the tracebacks of failed cells; --failed.
        logs: Cell whose log to print; --logs CELL.
        cancel: Cell to stop at its next step, or all that run; --cancel, --cancel CELL.
        retry: Cell that failed or was stopped, or all of them, to run again as it was launched, but
            for what hydra.launcher.KEY=VALUE changes; --retry, --retry CELL.
    """

    study: StudyName = "default"
    root: Path = Path("multirun")
    watch: bool = False
    failed: bool = False
    logs: str | None = None
    cancel: str | None = None
    retry: str | None = None

    @model_validator(mode="after")
    def _one_action(self) -> Self:
        asked = [
            name for name in ("watch", "failed", "logs", "cancel", "retry") if getattr(self, name)
        ]
        if len(asked) > 1:
            raise ValueError(f"{' and '.join(asked)} exclude each other: choose one")
        return self


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit status."""
    if not {"-h", "--help"}.isdisjoint(arguments):
        print(_HELP)
        print(help_of_keys(described(StatusOptions)))
        return 0
    try:
        words, changes = _launcher_values(arguments)
        options = parse_arguments(StatusOptions, words, options=_OPTIONS)
        if changes and options.retry is None:
            raise ConfigError(f"{_LAUNCHER}{next(iter(changes))} is of --retry: add that.")
        if options.watch:
            _watch(options.root, options.study)
        return _answer(find_study(options.root, options.study), options, changes)
    except (ConfigError, RecordError) as error:
        print(error, file=sys.stderr)
        return 2
    except SlurmUnavailable as error:
        print(f"Slurm does not answer here ({error}): try again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _launcher_values(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The words without the values of the launcher, and those by their keys, nested as in YAML.

    Raises:
        ConfigError: If a value is no YAML.
    """
    words = [word for word in arguments if not word.lstrip("+").startswith(_LAUNCHER)]
    changes: dict[str, Any] = {}
    for word in (word for word in arguments if word not in words):
        key, _, value = word.lstrip("+").removeprefix(_LAUNCHER).partition("=")
        try:
            nested = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{word} cannot be read: look at its quotes and brackets.") from None
        for part in reversed(key.split(".")):
            nested = {part: nested}
        changes = merged(changes, nested)
    return words, changes


def _answer(study: Path, options: StatusOptions, changes: Mapping[str, Any]) -> int:
    """Do what the options ask for; returns the exit status."""
    if options.logs is not None:
        print(printable_lines(_log_of(_only_cell(study, options.logs))), end="")
    elif options.failed:
        _print_failures(study)
    elif options.cancel is not None:
        _cancel(study, options.cancel)
    elif options.retry is not None:
        return _retry(study, options.retry, changes)
    else:
        cells = read_status(study, warn=_warn)
        console().print(status_table(cells, f"study {study.name}"))
        print("\n".join(_proposals(study, cells)), end="")
    return 0


def _proposals(study: Path, cells: Sequence[CellStatus]) -> Iterator[str]:
    """How cells get more of what their jobs had too little of: twice as much."""
    lacking: dict[str, list[str]] = {}
    for cell in cells:
        if cell.lacked is not None:
            lacking.setdefault(cell.lacked, []).append(cell.name)
    for key, names in lacking.items():
        had = _had(study, key, names)
        more = "MORE" if had is None else f"{2 * had:g}"
        what = {"mem_gb": "memory", "timeout_min": "time"}[key]
        with_it = "" if had is None else f" with {key}={had:g}"
        yield (
            f"{counted(len(names), 'cell')} ran out of {what}{with_it}: samsweep status "
            f"study={study.name} --retry {_LAUNCHER}{key}={more}\n"
        )


def _had(study: Path, key: str, names: Sequence[str]) -> float | None:
    """The most that the latest launches of cells asked for."""
    found = [
        manifest.launcher.settings.get(key)
        for manifest in readable_manifests(study)
        if not manifest.cells.keys().isdisjoint(names)
    ]
    return max((value for value in found if isinstance(value, int | float)), default=None)


def _warn(text: str) -> None:
    print(text, file=sys.stderr)


def _only_cell(study: Path, start: str) -> CellFolder:
    found = [folder for folder in cell_folders(study) if folder.path.name.startswith(start)]
    if len(found) != 1:
        names = [folder.path.name for folder in found or cell_folders(study)]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise ConfigError(
            f"{len(found)} cells of {study.name} start with {start!r}: "
            f"give more of one of {', '.join(names[:_MOST_NAMED])}{more}."
        )
    return found[0]


def _log_of(folder: CellFolder) -> str:
    """The log of a cell, or of its job if that is all there is."""
    if folder.log_file.exists():
        return folder.log_file.read_text(encoding="utf-8", errors="replace")
    jobs = [
        jobs[folder.key]
        for launch in launch_folders(folder.study)
        if (jobs := launch.jobs()).get(folder.key)
    ]
    logs = [log for job_id in jobs[-1:] for log in job_logs(folder.study, job_id)]
    texts = [f"{log}:\n{log.read_text(encoding='utf-8', errors='replace')}" for log in logs]
    if not texts:
        raise ConfigError(
            f"{folder.path.name} has no log, it has not started: `samsweep status "
            f"study={folder.key.study}` shows what runs."
        )
    return "\n".join(texts)


def _print_failures(study: Path) -> None:
    cells = read_status(study)
    for cell in cells:
        if cell.state in ("failed", "unmeasured", "unreadable"):
            print(printable_lines(f"{cell.label}\n{cell.reason}"), end="")
    print(totals(cells))


def _cancel(study: Path, start: str) -> None:
    from samsweep.sweep.cancel import cancel, cancel_cell

    if start == _ALL:
        sentences, where = cancel(study), study.name
    else:
        sentences, where = cancel_cell(_only_cell(study, start)), start
    print("\n".join(sentences) or f"Nothing runs in {where}.")


def _retry(study: Path, start: str, changes: Mapping[str, Any]) -> int:
    from samsweep.sweep.cancel import active_cells
    from samsweep.sweep.retry import plan_retries, retry

    cells = [cell for cell in read_status(study) if cell.state in STOPPED]
    # What a stopped launch did not come to has been stopped as well.
    active = {key.cell_id for key in active_cells(study)}
    cells = [cell for cell in cells if cell.state != "planned" or cell.name not in active]
    if start != _ALL:
        only = _only_cell(study, start).path.name
        cells = [cell for cell in cells if cell.name == only]
    if not cells:
        print(f"Nothing has failed or was stopped in {study.name if start == _ALL else start}.")
        return 0
    folders = [CellFolder(study / "cells" / cell.name) for cell in cells]
    retries, problems = plan_retries(study, folders, changes)
    for launcher, plan in retries:
        retry(launcher, plan)
    for problem in problems:
        print(problem, file=sys.stderr)
    after = [cell for cell in read_status(study) if cell.name in {c.name for c in cells}]
    print(totals(after))
    return 0 if all(cell.state in ENDED for cell in after) else 1


# --------------------------------------------------------------------------- the table


def status_table(cells: Sequence[CellStatus], title: str) -> Table:
    """All cells as a table, with the totals by state below it."""
    table = Table(
        title=title,
        caption=totals(cells),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        # Padding takes a third of the time of a long table.
        padding=0,
    )
    for header in ("cell", "state"):
        table.add_column(header, overflow="fold")
    for header in ("epoch", "train loss", "val", "elapsed", "to go"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    for cell in cells:
        table.add_row(*_row(cell), style=_STYLES.get(cell.state))
    return table


def _row(cell: CellStatus) -> list[str]:
    progress = cell.record.progress if cell.record else None
    numbers = (progress.train_loss, progress.val_accuracy) if progress else (None, None)
    texts = [
        cell.label,
        cell.state,
        cell.epochs,
        "" if numbers[0] is None else f"{numbers[0]:.3f}",
        "" if numbers[1] is None else f"{numbers[1]:.1f}",
        _shown(cell.elapsed_s),
        _shown(cell.remaining_s),
        cell.where,
    ]
    return [printable(text) for text in texts]


def _shown(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _watch(root: Path, name: str) -> NoReturn:
    """Show a study until Ctrl-C; one that is not there yet is waited for."""
    out = console()
    if name not in (names := study_names(root)):
        others = f" Studies there: {', '.join(names)}." if names else ""
        out.print(f"Waiting for study {name}, which is not in {root}/ yet.{others}")
    while name not in study_names(root):
        time.sleep(_PERIOD_S)
    reader = StatusReader(root / name, max_age_s=_ASKED_EVERY_S)
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(_watched(reader.read(), name, out.height), refresh=True)
            time.sleep(_PERIOD_S)


def _watched(cells: Sequence[CellStatus], name: str, height: int) -> Table:
    """As much of the table as a screen holds, what moves and what went wrong first."""
    order = [*_STYLES, *{cell.state for cell in cells} - _STYLES.keys()]
    ordered = sorted(cells, key=lambda cell: order.index(cell.state))
    rows = max(1, height - _FRAME_ROWS)
    hidden = len(ordered) - rows
    more = f"; {hidden} more below" if hidden > 0 else ""
    table = status_table(ordered[:rows], f"study {name}: {totals(cells)}{more}")
    table.caption = None
    return table
