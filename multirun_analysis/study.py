"""A study that has been read: its frames, each read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from multirun_analysis.runs.launches import resume_commands
from multirun_analysis.runs.load import load_history, read_frames
from multirun_analysis.runs.reading import Skipped
from multirun_analysis.stats.contrasts import matched_effects
from multirun_analysis.stats.effects import estimate_effects
from multirun_analysis.stats.families import confirmatory_of
from samsweep.config import Confirmatory
from samsweep.records.store import find_study


class StudyError(ValueError):
    """A study of which no table can be made: where its records should be, and how to get them."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The frames of a study; everything that is shown of it is a function of them."""

    name: str
    folder: Path  # multirun/<study>
    runs: pd.DataFrame  # of load_runs
    measurements: pd.DataFrame  # of load_measurements
    skipped: tuple[Skipped, ...] = ()  # records that could not be read, and why
    confirmatory: Confirmatory | None = None  # the tests that the study's preset names beforehand

    @cached_property
    def history(self) -> pd.DataFrame:
        """Frame of :func:`.load_history`."""
        return load_history(self.folder)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """Frame of :func:`.estimate_effects`."""
        return estimate_effects(self.runs, self.measurements, self.confirmatory)

    @cached_property
    def matched(self) -> pd.DataFrame:
        """Frame of :func:`.matched_effects`."""
        return matched_effects(self.runs, self.history)

    @property
    def resume_commands(self) -> tuple[str, ...]:
        """The recorded commands of the launches whose cells are unfinished."""
        return tuple(self._launches[0])

    @cached_property
    def _launches(self) -> tuple[list[str], list[Skipped]]:
        skipped: list[Skipped] = []
        return resume_commands(self.folder, self.runs, skipped), skipped

    @property
    def problems(self) -> tuple[Skipped, ...]:
        """Everything that the tables need and that could not be read."""
        return (*self.skipped, *self.history.attrs["skipped"], *self._launches[1])


def open_study(name: str, runs_root: Path | str, config_dir: Path | str | None = None) -> Study:
    """Read a study.

    Args:
        name: Of the study.
        runs_root: Folder of all studies, ``multirun``.
        config_dir: A folder of options beside ``conf/``, whose presets may be of the study.

    Raises:
        ConfigError: If there is no such study, or its preset names its tests in a form that cannot
            be read.
        StudyError: If there is no record in it that can be read.
    """
    folder = find_study(Path(runs_root), name)
    runs, measurements, skipped = read_frames(folder)
    if runs.empty:
        unreadable = f" that can be read ({len(skipped)} cannot)" if skipped else ""
        raise StudyError(
            f"There is no record in {folder}/cells/{unreadable}: train some cells with "
            f"`samsweep run -m study={name} opt=sgd,sam rho=0.1,0.2`."
        )
    return Study(
        name=name,
        folder=folder,
        runs=runs,
        measurements=measurements,
        skipped=tuple(skipped),
        confirmatory=confirmatory_of(name, config_dir),
    )
