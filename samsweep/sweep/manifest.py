"""A launch on disk: its cells, their settings, and whether it is running.

``multirun/<study>/launches/<time>/manifest.json`` freezes the settings, so that a cell can be
retried as it was launched, whatever ``conf/`` says by then. While the launch is running its folder
is locked, so that it can be found and cancelled from any shell.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samsweep.config import RunConfig
from samsweep.records.identity import CellKey
from samsweep.records.lock import FolderLock
from samsweep.records.provenance import command_line, git_state, now
from samsweep.records.store import RecordError, first_problem, write_text
from samsweep.records.transitions import register
from samsweep.sweep.plan import PlannedCell

log = logging.getLogger(__name__)

#: Version of the form of ``manifest.json``.
SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LauncherSettings(_Part):
    """The option of ``hydra/launcher`` that started the cells, and its values."""

    name: str
    settings: dict[str, Any] = {}


class LaunchedCell(_Part):
    """A cell of a launch.

    Args:
        runs: How it was to run, worked through in this order.
        job_id: Slurm job, ``A_a`` in an array, if any.
        intent: Comment of the job that is about to be submitted, by which it is found if whoever
            submits does not live to write down its id.
        place: Index of the job in its array.
    """

    runs: tuple[RunConfig, ...]
    job_id: str | None = None
    intent: str | None = None
    place: int = 0


class Manifest(_Part):
    """Everything about a launch.

    Args:
        schema_version: :data:`SCHEMA_VERSION` of the writer.
        started: When.
        command: The command line, as it can be typed again.
        git_commit: Of samsweep's source; None outside a checkout.
        git_dirty: Whether that source differed from the commit.
        launcher: What started the cells, with its settings.
        cells: By their ids, all of one study.
    """

    schema_version: Annotated[int, Field(le=SCHEMA_VERSION)] = SCHEMA_VERSION
    started: str
    command: str
    git_commit: str | None
    git_dirty: bool | None
    launcher: LauncherSettings
    cells: dict[str, LaunchedCell]


@dataclass(frozen=True)
class LaunchFolder:
    """The folder of one launch, ``multirun/<study>/launches/<time>``."""

    path: Path

    @property
    def study(self) -> str:
        """Name of the study."""
        return self.path.parent.parent.name

    @property
    def manifest_file(self) -> Path:
        """What was launched, and how."""
        return self.path / "manifest.json"

    def read(self) -> Manifest:
        """The manifest.

        Raises:
            RecordError: If it is not there or is no manifest of a known version.
        """
        try:
            return Manifest.model_validate_json(self.manifest_file.read_bytes())
        except FileNotFoundError as error:
            raise RecordError(f"{self.manifest_file}: {error.strerror}") from None
        except ValidationError as error:
            raise RecordError(first_problem(self.manifest_file, error)) from None

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest."""
        write_text(self.manifest_file, manifest.model_dump_json(indent=1) + "\n")

    def cells(self) -> set[CellKey]:
        """The cells of the launch; raises as :meth:`read` does."""
        return {CellKey(self.study, cell_id) for cell_id in self.read().cells}

    def jobs(self) -> dict[CellKey, str]:
        """Job ids of the cells that have one; none if the manifest is broken."""
        return {key: job_id for key, job_id in self.job_of_each().items() if job_id}

    def job_of_each(self) -> dict[CellKey, str | None]:
        """Job ids of all cells, None of one that has none; empty if the manifest is broken."""
        return {key: job_id for key, (job_id, *_) in self._jobs_alone().items()}

    def _jobs_alone(self) -> dict[CellKey, tuple[str | None, str | None, int]]:
        """Job id, intent and place of each cell; empty if the manifest is broken.

        Nothing else is read or checked, since this is read often.
        """
        try:
            cells = json.loads(self.manifest_file.read_bytes())["cells"]
            return {
                CellKey(self.study, name): (c.get("job_id"), c.get("intent"), c.get("place", 0))
                for name, c in cells.items()
            }
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def record_jobs(self, jobs: Mapping[CellKey, str]) -> None:
        """Add to the manifest in which job each of these cells is; others are skipped."""
        self._update({key: {"job_id": job_id, "intent": None} for key, job_id in jobs.items()})

    def record_intent(self, intent: str, jobs: Sequence[Iterable[CellKey]]) -> None:
        """Add to the manifest, before jobs are submitted, with what comment each cell's will be."""
        self._update(
            {key: {"intent": intent, "place": n} for n, keys in enumerate(jobs) for key in keys}
        )

    def intents(self) -> dict[CellKey, tuple[str, int]]:
        """Comment and place of the jobs whose ids are not known; none if the manifest is broken."""
        return {
            key: (intent, place)
            for key, (_, intent, place) in self._jobs_alone().items()
            if intent is not None
        }

    def forget_intents(self) -> None:
        """No job is about to be submitted any more."""
        self._update(dict.fromkeys(self.intents(), {"intent": None}))

    def _update(self, changes: Mapping[CellKey, Mapping[str, Any]]) -> None:
        """Change these cells; those of other launches are skipped."""
        manifest = self.read()
        cells = {
            cell_id: cell.model_copy(update=changes.get(CellKey(self.study, cell_id), {}))
            for cell_id, cell in manifest.cells.items()
        }
        if cells != manifest.cells:
            self.write(manifest.model_copy(update={"cells": cells}))


def launch_folders(study: Path) -> list[LaunchFolder]:
    """The launches of a study, oldest first."""
    return [LaunchFolder(path.parent) for path in sorted(study.glob("launches/*/manifest.json"))]


def readable_manifests(study: Path) -> Iterator[Manifest]:
    """The manifests of a study, latest first; broken ones are logged and skipped."""
    for launch in reversed(launch_folders(study)):
        try:
            yield launch.read()
        except RecordError as error:
            log.warning("%s; skipped", error)


@contextmanager
def launched(
    cells: Sequence[PlannedCell], launcher: LauncherSettings
) -> Iterator[list[LaunchFolder]]:
    """Register cells as planned and write the manifests; inside the block the launch is running.

    Yields:
        The folder of the launch in each study.
    """
    for cell in cells:
        register(cell.folder, cell.run)
    folders = []
    with ExitStack() as locks:
        for study in dict.fromkeys(cell.folder.study for cell in cells):
            for before in launch_folders(study):
                FolderLock(before.path).clear()
            folder = _new_folder(study / "launches")
            folder.write(_manifest((c for c in cells if c.folder.study == study), launcher))
            locks.enter_context(FolderLock(folder.path))
            folders.append(folder)
        yield folders


def _new_folder(launches: Path) -> LaunchFolder:
    """A folder named after this second, and a number if that is taken."""
    launches.mkdir(parents=True, exist_ok=True)
    second = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in itertools.count(1):
        path = launches / (second if number == 1 else f"{second}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            break
    return LaunchFolder(path)


def _manifest(cells: Iterable[PlannedCell], launcher: LauncherSettings) -> Manifest:
    commit, dirty = git_state()
    return Manifest(
        started=now(),
        command=command_line(),
        git_commit=commit,
        git_dirty=dirty,
        launcher=launcher,
        cells={
            cell.key.cell_id: LaunchedCell(runs=tuple(point.run for point in cell.points))
            for cell in cells
        },
    )
