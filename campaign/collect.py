"""Add what came home to a campaign's results, and mark its units as done.

    python -m campaign.collect [campaign/home/*.tar.xz]

Each archive is one unit's, as campaign/unit.py packs it. The records join those that are there, and
all tables, figures and the report are made anew from them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign.units import HOME, ROOT, Campaign, CampaignError
from multirun_analysis.__main__ import main as analyse
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, atomic_path

#: What of a cell is kept in the repository.
_KEPT = ("history.jsonl", "record.json")
#: Larger files are none of ours.
_MOST_BYTES = 64 * 2**20
_RECORDS = "records.tar.xz"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What one archive holds.

    Args:
        about: Of ``unit.json``: unit, epochs, minutes, phases.
        record: Of the cell.
        files: Contents of the files that are kept, by name.
    """

    about: Mapping[str, Any]
    record: Record
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, archive: Path) -> Unit:
        """Read an archive in memory; nothing of it becomes a path.

        Raises:
            CampaignError: If it is no unit's.
        """
        files: dict[str, bytes] = {}
        try:
            with tarfile.open(archive) as tar:
                for entry in tar:
                    file = tar.extractfile(entry) if entry.size <= _MOST_BYTES else None
                    if file is not None:
                        files[Path(entry.name).name] = file.read()
            about = json.loads(files["unit.json"])
            record = Record.model_validate_json(files["record.json"])
            kept = {name: files[name] for name in _KEPT}
        except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
            raise CampaignError(f"{archive} is no unit of a campaign: {error!r}") from None
        return cls(about=about, record=record, files=kept)

    def entry(self) -> dict[str, Any]:
        """What the list of units that are done says of it."""
        here = self.record.attempts[-1].provenance
        return {
            **{key: self.about[key] for key in ("unit", "epochs")},
            "cell": self.record.cell_id,
            "status": self.record.status,
            "measured": sorted(
                f"{m.name}, {m.settings['weights']} weights"
                for m in self.record.measurements.values()
            ),
            "device": here.device,
            "commit": here.git_commit,
            "phases": self.about["phases"],
        }


def collect(campaign: Campaign, archives: Sequence[Path]) -> None:
    """Add finished units to the results; unfinished ones are told of and left out.

    Raises:
        CampaignError: If an archive is no unit of this campaign.
    """
    units = [_read_checked(campaign, archive) for archive in archives]
    finished = [unit for unit in units if _is_finished(campaign, unit)]
    if not finished:
        print("Nothing to add.")
        return
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch) / "multirun"
        _unpack_known(campaign.results_folder / _RECORDS, runs)
        for unit in finished:
            _lay_out(unit, runs / campaign.study)
        _make_tables(campaign, runs, Path(scratch) / "tables")
    for unit in finished:
        campaign.mark_done(unit.entry())
        print(f"Done: {unit.about['unit']}, {unit.about['phases']}")


def _read_checked(campaign: Campaign, archive: Path) -> Unit:
    """Read an archive of this campaign.

    Raises:
        CampaignError: If it is of another one, or of another number of epochs.
    """
    unit = Unit.read(archive)
    if unit.about["unit"] not in campaign.units or unit.record.study != campaign.study:
        raise CampaignError(
            f"{archive} is of {unit.about['unit']!r} in study {unit.record.study}, which is no "
            f"unit of study {campaign.study}: give the campaign's file with --units."
        )
    common = campaign.common_epochs()
    if common not in (None, unit.about["epochs"]):
        raise CampaignError(
            f"{archive} has {unit.about['epochs']} epochs where the units that are done have "
            f"{common}: cells of different length are not compared."
        )
    return unit


def _is_finished(campaign: Campaign, unit: Unit) -> bool:
    if campaign.is_finished(unit.record):
        return True
    progress = unit.record.progress
    print(
        f"Not done: {unit.about['unit']} is {unit.record.status} after "
        f"{progress.epoch if progress is not None else 0} of {unit.about['epochs']} epochs in "
        f"{unit.about['minutes']} minutes, with {len(unit.record.measurements)} of "
        f"{campaign.measurements} measurements, {unit.about['phases']}."
    )
    return False


def _unpack_known(archive: Path, runs: Path) -> None:
    if archive.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(runs, filter="data")


def _lay_out(unit: Unit, study: Path) -> None:
    folder = CellFolder(study / "cells" / unit.record.cell_id)
    folder.path.mkdir(parents=True, exist_ok=True)
    for name, content in unit.files.items():
        (folder.path / name).write_bytes(content)


def _make_tables(campaign: Campaign, runs: Path, tables: Path) -> None:
    """Tables, figures and the report of all records, and the records themselves."""
    status = analyse(
        [
            *(f"study={campaign.study}", f"root={runs}", f"out={tables}"),
            *("quiet=true", "report=true", "reference=empirical_sam"),
        ]
    )
    if status != 0:
        raise CampaignError(f"The tables of study {campaign.study} could not be made.")
    results = campaign.results_folder
    results.mkdir(parents=True, exist_ok=True)
    for file in (tables / campaign.study).iterdir():
        if file.suffix in (".md", ".csv", ".png") or file.name == "report.html":
            shutil.copyfile(file, results / file.name)
    with atomic_path(results / _RECORDS) as temporary, tarfile.open(temporary, "w:xz") as tar:
        tar.add(runs / campaign.study, campaign.study)


def main(arguments: Sequence[str]) -> int:
    """Collect the archives that the command line names; by default all that are home."""
    parser = argparse.ArgumentParser(prog="python -m campaign.collect", description=__doc__)
    parser.add_argument("archives", nargs="*", type=Path)
    parser.add_argument("--units", type=Path, default=ROOT / "campaign/units.yaml")
    given = parser.parse_args(arguments)
    try:
        collect(Campaign.read(given.units), given.archives or sorted(HOME.glob("*.tar.xz")))
    except CampaignError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
