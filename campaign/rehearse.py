"""The campaign from carrying to collecting, in small, on this machine.

    python -m campaign.rehearse [FOLDER]

What travels is copied into an empty folder, the images in three archives, one a call; each call
runs what it runs on a GPU machine (campaign/call.sh), the third one ends before its unit does, the
fourth picks it up, and what came home is collected. FOLDER has images of 32x32 pixels in
train/<class>/ and test/<class>/; without it scikit-learn's digits are taken, enlarged.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from campaign.mosaics import TILE, pack
from campaign.units import ROOT
from samsweep.data.digits import load_digits

#: Most bytes of a call: the project, the wheels and one archive.
MOST_BYTES = 64 * 2**20
#: Seconds after which the third call gives up waiting, so that the fourth has something to pick up.
_CALL_SECONDS = 15


def rehearse(images: Path, scratch: Path, *, minutes: float) -> Path:
    """Run all calls and collect what they bring.

    Args:
        images: To be carried.
        scratch: Empty folder.
        minutes: That the unit may take.

    Returns:
        Folder of the results.
    """
    machine, out = scratch / "machine", scratch / "out"
    out.mkdir()
    times: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        started = time.monotonic()
        work()
        times[name] = time.monotonic() - started

    timed("project copied", lambda: _copy_project(machine))
    timed("images packed", lambda: pack(images, scratch / "cifar100.tar", 3))
    wheels = sum(file.stat().st_size for file in (ROOT / "campaign/wheels").glob("*.whl"))
    project = sum(file.stat().st_size for file in machine.rglob("*") if file.is_file())
    for call in (1, 2, 3, 4):
        if call <= 3:
            archive = scratch / f"cifar100-{call}.tar"
            carried = project + archive.stat().st_size + (wheels if call == 1 else 0)
            print(f"Call {call} carries {carried / 2**20:.1f} of {MOST_BYTES / 2**20:.0f} MiB.")
            shutil.move(archive, machine / "data" / archive.name)
        timed(f"call {call}", lambda call=call: _call(machine, call, out, minutes))  # type: ignore[misc]
    timed("collected", lambda: _collect(machine, out))
    for name, seconds in times.items():
        print(f"{name:>16}: {seconds:6.1f} s")
    return machine / "campaign/home/results"


def _copy_project(machine: Path) -> None:
    """What travels: all that git tracks or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file():
            (machine / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, machine / name)
    (machine / "data").mkdir()
    # Nothing is missing in this Python: with the folder there, call.sh asks for no wheels.
    (machine / "campaign/site").mkdir()


def _call(machine: Path, number: int, out: Path, minutes: float) -> None:
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "OUT": str(out),
        "UNITS": "campaign/rehearsal.yaml",
        "MINUTES": str(minutes),
        "CALL_SECONDS": str(_CALL_SECONDS if number == 3 else round(60 * minutes) + 60),
    }
    subprocess.run(
        ["bash", "campaign/call.sh", str(number)], cwd=machine, env=environment, check=True
    )


def _collect(machine: Path, out: Path) -> None:
    archives = sorted(out.glob("*.tar.xz"))
    command = [sys.executable, "-m", "campaign.collect", "--units", "campaign/rehearsal.yaml"]
    subprocess.run([*command, *map(str, archives)], cwd=machine, check=True)


def draw_digits(folder: Path) -> None:
    """The embedded digits as pictures of 32x32 pixels: 64 and 16 of each class."""
    data = load_digits()
    for part, split, number in (("train", data.train, 64), ("test", data.test, 16)):
        for label in range(data.num_classes):
            of_class = folder / part / str(label)
            of_class.mkdir(parents=True)
            for index, image in enumerate(split.inputs[split.labels == label][:number]):
                pixels = np.asarray(image, dtype=np.float32).reshape(8, 8)
                scaled = np.uint8(255 * pixels / max(float(pixels.max()), 1.0))
                picture = Image.fromarray(scaled).convert("RGB").resize((TILE, TILE))
                picture.save(of_class / f"{index:03d}.bmp")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m campaign.rehearse", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="default: %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder
        if folder is None:
            folder = Path(scratch) / "digits"
            draw_digits(folder)
        work = Path(scratch) / "work"
        work.mkdir()
        results = rehearse(folder, work, minutes=given.minutes)
        done = results / "units.json"
        if not done.exists():
            sys.exit("No unit was finished: see above.")
        print(done.read_text())


if __name__ == "__main__":
    main()
