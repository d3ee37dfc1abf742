"""Run the next unit of a campaign that is not done, within some minutes.

    python -m campaign.unit --minutes 10.5

The unit works in a process of its own, which outlives this command: where a call may last ten
minutes only, the next call of the same command picks the unit up and shows how it goes on. What
came of it is one file in campaign/home, also when the time was too short.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from campaign.units import HOME, ROOT, Campaign, CampaignError, slug
from samsweep.config import ConfigError
from samsweep.data.folder_tree import read_tree
from samsweep.records.schema import Record
from samsweep.records.store import CellFolder, atomic_path, cell_folders, write_text

#: Seconds kept free at the end: an interrupted cell saves its state, and everything is packed.
_ENDING_S = 30.0
#: Seconds that an interrupted sweep gets to end in an orderly way.
_PATIENCE_S = 25.0
#: Epochs vary: what is timed is taken to be this much longer.
_MARGIN = 1.05
#: Epochs of the cell that is timed; the first one pays for what is set up once.
_TIMED_EPOCHS = 2
_TIMING = "timing"

#: Exit status of a unit of which something is left to be done.
_UNFINISHED = 3

_LOG = HOME / "unit.log"
_STATUS = HOME / "status"
_LOCK = HOME / ".lock"


# --------------------------------------------------------------------------- the work


@dataclass
class Phases:
    """Seconds of each phase, printed as they end.

    Args:
        ends: When the time is over, on the monotonic clock.
    """

    ends: float
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds until work has to stop, so that the ending still fits."""
        return self.ends - _ENDING_S - time.monotonic()

    def add(self, name: str, seconds: float) -> None:
        """Note what a phase took."""
        self.seconds[name] = round(seconds, 1)
        print(f"[{name}: {seconds:.1f} s, {max(self.left, 0):.0f} s left]", flush=True)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block."""
        started = time.monotonic()
        yield
        self.add(name, time.monotonic() - started)


def run_unit(campaign: Campaign, unit: str, minutes: float) -> bool:
    """Train and measure a unit, and pack what comes home.

    Args:
        campaign: That it belongs to.
        unit: One of its units.
        minutes: After which it ends, whether or not it is complete.

    Returns:
        Whether nothing of it is left to be done. Record, history, config and log of the cell and
        ``unit.json`` are packed in either case.

    Raises:
        CampaignError: If the data are not complete, or the time is too short for an epoch.
    """
    phases = Phases(time.monotonic() + 60 * minutes)
    print(f"Unit {campaign.units.index(unit) + 1} of {len(campaign.units)}: {unit}", flush=True)
    with phases.phase("data checked"):
        _check_images(campaign)
    epochs = campaign.common_epochs() or _epochs_begun(unit)
    if epochs is None:
        epochs = _epochs_that_fit(campaign, unit, phases)
        write_text(_epochs_file(unit), str(epochs))
    started = time.monotonic()
    _sweep(campaign, unit, f"epochs={epochs}", phases=phases)
    folder, record = _find_cell(unit, campaign.study, epochs)
    training, measuring = _seconds(record)
    phases.add("trained", training)
    phases.add("measured", measuring)
    phases.add("start-up and the rest", time.monotonic() - started - training - measuring)
    about = {"unit": unit, "epochs": epochs, "minutes": minutes, "phases": phases.seconds}
    archive = _pack(folder, about)
    reached = record.progress.epoch if record.progress is not None else 0
    print(f"{record.status}, epoch {reached} of {epochs}: {archive}", flush=True)
    return campaign.is_finished(record)


def _check_images(campaign: Campaign) -> None:
    """Make sure of the whole data set: with an archive missing another one would be trained on."""
    tree = read_tree(ROOT / campaign.dataset)
    if campaign.fingerprint not in (None, tree.fingerprint):
        raise CampaignError(
            f"{campaign.dataset} holds {len(tree.train):,} + {len(tree.test):,} images with "
            f"fingerprint {tree.fingerprint}, not {campaign.fingerprint}: unpack all archives into "
            "it with python -m campaign.mosaics unpack."
        )


def _epochs_file(unit: str) -> Path:
    return ROOT / _runs(unit) / "epochs"


def _epochs_begun(unit: str) -> int | None:
    """Of the cell that an earlier call has begun here."""
    file = _epochs_file(unit)
    return int(file.read_text()) if file.exists() else None


def _epochs_that_fit(campaign: Campaign, unit: str, phases: Phases) -> int:
    """As many epochs as there is time for, by timing two of them.

    Raises:
        CampaignError: If there is not even time for one.
    """
    timing = (f"study={_TIMING}", f"epochs={_TIMED_EPOCHS}", "sharpness.measures=[]")
    with phases.phase("epochs timed"):
        _sweep(campaign, unit, *timing, phases=phases)
    folder, record = _find_cell(unit, _TIMING, _TIMED_EPOCHS)
    history = folder.read_history()
    if len(history) < _TIMED_EPOCHS:
        _pack(folder, {"unit": unit, "epochs": _TIMED_EPOCHS, "phases": phases.seconds})
        raise CampaignError(
            f"{unit}: {len(history)} of {_TIMED_EPOCHS} epochs were trained, and it is "
            f"{record.status}: {record.error or 'give more minutes.'}"
        )
    epoch_s = float(history[-1]["seconds"])
    # What comes before and after the epochs will be paid for once more.
    around_s = phases.seconds["epochs timed"] - sum(float(row["seconds"]) for row in history)
    kept_s = around_s + 60 * campaign.measuring_minutes
    fitting = int((phases.left - kept_s) / (_MARGIN * epoch_s))
    print(f"An epoch takes {epoch_s:.2f} s: {fitting} fit beside {kept_s:.0f} s.", flush=True)
    if fitting < 1:
        raise CampaignError(f"{unit}: no epoch fits beside measuring: give more minutes.")
    return min(fitting, campaign.most_epochs)


def _command(campaign: Campaign, unit: str, *more: str) -> list[str]:
    """The unit as an ordinary command of the product, in a folder of runs of its own."""
    return [
        *(sys.executable, "-m", "samsweep.run", f"+experiment={campaign.experiment}"),
        f"hydra.sweep.dir={_runs(unit)}",
        f"dataset.path={campaign.dataset}",
        *campaign.overrides,
        *unit.split(),
        *more,
    ]


def _runs(unit: str) -> Path:
    return Path("multirun/campaign") / slug(unit)


def _find_cell(unit: str, study: str, epochs: int) -> tuple[CellFolder, Record]:
    """The only cell of the unit's own folder that was to be trained for so long.

    Raises:
        CampaignError: If there is none: the sweep has said why.
    """
    for folder in cell_folders(ROOT / _runs(unit) / study):
        record = folder.read()
        if record is not None and record.identity.recipe.epochs == epochs:
            return folder, record
    raise CampaignError(f"{unit} was not begun; what the command printed says why.")


def _sweep(campaign: Campaign, unit: str, *more: str, phases: Phases) -> None:
    """Run a unit until it ends or the time is over; how it went is in the record."""
    command = _command(campaign, unit, *more)
    print(" ".join(["python", *command[1:]]), flush=True)
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        process.wait(max(phases.left, 0))
    except subprocess.TimeoutExpired:
        print("The time is over.", flush=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _seconds(record: Record) -> tuple[float, float]:
    """Of training and of measuring, as the record has them."""
    training = sum(attempt.seconds or 0.0 for attempt in record.attempts)
    measured = [m.result.get("seconds") for m in record.measurements.values()]
    return training, sum(s for s in measured if isinstance(s, float))


def _pack(folder: CellFolder, about: dict[str, Any]) -> Path:
    """One file of what comes home; weights stay, they are too large."""
    archive = HOME / f"{slug(about['unit'])}.tar.xz"
    description = folder.path / "unit.json"
    write_text(description, json.dumps(about, indent=1) + "\n")
    files = (
        *(description, folder.record_file, folder.history_file),
        *(folder.config_file, folder.log_file),
    )
    with atomic_path(archive) as temporary, tarfile.open(temporary, "w:xz") as tar:
        for file in files:
            if file.exists():
                tar.add(file, f"{folder.path.name}/{file.name}")
    return archive


# --------------------------------------------------------------------------- the command


def _work(campaign: Campaign, unit: str, minutes: float) -> int:
    """The life of the process that outlives the command; returns its exit status."""
    with FileLock(_LOCK):
        _STATUS.unlink(missing_ok=True)
        status = 1
        try:
            status = 0 if run_unit(campaign, unit, minutes) else _UNFINISHED
        except (CampaignError, ConfigError) as error:
            print(error, flush=True)
            status = 2
        finally:
            write_text(_STATUS, str(status))
    return status


def _is_working() -> bool:
    try:
        with FileLock(_LOCK).acquire(timeout=0):
            return False
    except Timeout:
        return True


def _ended_well() -> bool:
    return _STATUS.exists() and _STATUS.read_text() == "0"


def _begin(arguments: Sequence[str]) -> None:
    """Start the worker in a session of its own, and wait until it holds the lock or has ended."""
    _STATUS.unlink(missing_ok=True)
    with _LOG.open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-u", "-m", "campaign.unit", "--work", *arguments],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    while worker.poll() is None and not _is_working():
        time.sleep(0.1)


def _follow() -> int:
    """Print what the worker logs until it ends; returns its exit status."""
    with _LOG.open(errors="replace") as log:
        while True:
            # Before reading: what is logged after the last look is read once more.
            working = _is_working()
            print(log.read(), end="", flush=True)
            if not working:
                break
            time.sleep(0.5)
    return int(_STATUS.read_text()) if _STATUS.exists() else 1


def main(arguments: Sequence[str]) -> int:
    """Begin or pick up the work on a unit, and show how it goes on."""
    parser = argparse.ArgumentParser(prog="python -m campaign.unit", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.5, help="default: %(default)s")
    parser.add_argument("--units", type=Path, default=ROOT / "campaign/units.yaml")
    parser.add_argument("--unit", type=int, help="its number, in place of the next one's")
    parser.add_argument("--again", action="store_true", help="also if it is done and not collected")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    HOME.mkdir(exist_ok=True)
    try:
        campaign = Campaign.read(given.units)
        unit = campaign.next_unit() if given.unit is None else campaign.units[given.unit - 1]
    except CampaignError as error:
        print(error)
        return 2
    if given.work:
        return _work(campaign, unit, given.minutes)
    if _is_working():
        print("A unit is being worked on; this shows how it goes on.")
    elif _ended_well() and (HOME / f"{slug(unit)}.tar.xz").exists() and not given.again:
        print(f"{unit} is done and waits in {HOME} to be collected; --again runs it once more.")
    else:
        _begin(arguments)
    return _follow()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
