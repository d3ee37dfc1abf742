"""What a campaign consists of, and which of it is done."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samsweep.records.schema import Record
from samsweep.records.store import first_problem, write_text

ROOT = Path(__file__).parents[1]

#: Where finished units wait for whoever brings them home; one file each.
HOME = ROOT / "campaign/home"


class CampaignError(ValueError):
    """What keeps a unit from being run or collected, and what to do about it."""


class Campaign(BaseModel):
    """A list of units and what they share; see ``units.yaml``.

    Args:
        experiment: Preset in ``conf/experiment``.
        study: That it adds cells to.
        dataset: Folder of the images, from the root of the repository.
        fingerprint: Of the complete folder; None takes any.
        results: Folder of the tables and of ``units.json``, likewise.
        most_epochs: Epochs of a cell if there is time for them.
        measuring_minutes: Set aside for measuring when the first unit counts its epochs.
        measurements: How many a unit that is done has, unless it diverged.
        overrides: Of every unit, beside the preset's.
        units: Overrides of each, in the order in which they are run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: str
    study: str
    dataset: Path
    fingerprint: str | None
    results: Path
    most_epochs: int = Field(ge=1)
    measuring_minutes: float = Field(ge=0)
    measurements: int = Field(ge=0)
    overrides: tuple[str, ...]
    units: tuple[str, ...] = Field(min_length=1)

    @classmethod
    def read(cls, file: Path) -> Campaign:
        """Read a campaign.

        Raises:
            CampaignError: If the file is none.
        """
        try:
            return cls.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise CampaignError(first_problem(file, error)) from None

    @property
    def results_folder(self) -> Path:
        """Where the tables lie."""
        return ROOT / self.results

    @property
    def done_file(self) -> Path:
        """A list with an entry for each unit that is done."""
        return self.results_folder / "units.json"

    def done(self) -> list[dict[str, Any]]:
        """An entry for each unit that is done, in the order in which they were collected."""
        if not self.done_file.exists():
            return []
        entries: list[dict[str, Any]] = json.loads(self.done_file.read_text(encoding="utf-8"))
        return entries

    def mark_done(self, entry: dict[str, Any]) -> None:
        """Add an entry, in place of one of the same unit."""
        others = [other for other in self.done() if other["unit"] != entry["unit"]]
        write_text(self.done_file, json.dumps([*others, entry], indent=1) + "\n")

    def next_unit(self) -> str:
        """The first unit that is not done.

        Raises:
            CampaignError: If all are.
        """
        done = {entry["unit"] for entry in self.done()}
        for unit in self.units:
            if unit not in done:
                return unit
        raise CampaignError(f"All {len(self.units)} units are done: see {self.done_file}.")

    def is_finished(self, record: Record) -> bool:
        """Whether nothing of a unit is left to be done; its weights do not come home."""
        if record.status == "diverged":
            return True
        measured = len(record.measurements) >= self.measurements
        return record.status == "complete" and measured and record.measuring_error is None

    def common_epochs(self) -> int | None:
        """How long the units that are done were trained; None before the first."""
        return next((entry["epochs"] for entry in self.done()), None)


def slug(unit: str) -> str:
    """A unit as the name of a file.

    >>> slug("opt=sgdhess rho=1")
    'opt-sgdhess-rho-1'
    """
    return re.sub(r"[^A-Za-z0-9.]+", "-", unit)
