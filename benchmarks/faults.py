"""What breaks: kills, damaged files, full disks, many invocations and wrong words, counted.

    make faults                            # all campaigns, one after the other: two hours
    make faults ARGS='kills --kills 20'    # one of them, in small

Each campaign runs the command as a user does, in folders of its own, with small cells, and compares
what comes out with a run that nobody disturbed: weights, metrics and measured values, bit for bit.
Counted are

* right: the end is that of the undisturbed run, or a sentence says why there is none and nothing is
  lost;
* wrong: other numbers, or a file that was whole and is not any more;
* tracebacks: Python's own words reached the user;
* hangs: nothing happened for so long that the command was ended.

The counts go to benchmarks/results/faults.json, campaign by campaign. ``disk`` needs root (a file
system of its own size).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import RESULTS, environment, write
from rich.progress import track
from tabulate import tabulate

from samsweep.config import Options, described

#: A cell of some seconds that saves its state often and is measured.
CELL = (
    *("model=resnet8", "opt=sam", "rho=0.1", "seed=0", "epochs=3", "num_threads=1"),
    *("device=cpu", "checkpoint_every_steps=2", "keep_checkpoints=true"),
)
#: Seconds after which a command hangs.
_PATIENCE_S = 300
SWEEP = ("-m", "seed=0,1,2,3", "hydra.launcher.workers=2")


@dataclass(frozen=True)
class Done:
    """A command that has ended.

    Args:
        status: Exit status; None if it hung, negative if a signal ended it.
        told: All that it printed.
    """

    status: int | None
    told: str

    @property
    def fault(self) -> str | None:
        """What it did that no command may."""
        if self.status is None:
            return "hangs"
        return "tracebacks" if "Traceback (most recent call last)" in self.told else None


def start(folder: Path, *words: str, command: str = "run") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "samsweep", command, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def end_of(process: subprocess.Popen[str]) -> Done:
    try:
        told, _ = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        told, _ = process.communicate()
        return Done(None, told)
    return Done(process.returncode, told)


def run(folder: Path, *words: str, command: str = "run") -> Done:
    return end_of(start(folder, *words, command=command))


@contextmanager
def fresh() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="samsweep-faults-") as folder:
        yield Path(folder)


def outcomes(folder: Path) -> dict[str, Any]:
    """What came of each cell: weights, metrics and measured values, None of an unfinished one."""
    found = {}
    for file in sorted(folder.glob("multirun/*/cells/*/record.json")):
        cell, record = file.parent, json.loads(file.read_text())
        found[cell.name] = None
        if record["status"] == "complete":
            weights = [(cell / f"weights{kind}.safetensors").read_bytes() for kind in ("", "-best")]
            measured = {
                name: {k: v for k, v in one["result"].items() if k != "seconds"}
                for name, one in record["measurements"].items()
            }
            hashes = [hashlib.sha256(each).hexdigest() for each in weights]
            found[cell.name] = (hashes, record["metrics"], measured)
    return found


def verdict(folder: Path, expected: dict[str, Any], *ends: Done) -> str:
    """Which of the counts the end of a trial is."""
    for done in ends:
        if done.fault is not None:
            return done.fault
    try:
        return "right" if outcomes(folder) == expected else "wrong"
    except (OSError, ValueError, KeyError, TypeError):
        return "wrong"


def count(counts: Counter[str], told: str, what: str, done: Done) -> None:
    """Count a trial, and print the end of what was not right."""
    counts[told] += 1
    if told != "right":
        print(f"{told}: {what}: {done.told[-2000:]}")


def kills(number: int) -> Counter[str]:
    """SIGKILL at any moment: of a cell alone, of a sweep's parent, of all that it started."""
    counts: Counter[str] = Counter()
    draws = random.Random(0)
    for kind, words in {"alone": CELL, "sweep": (*CELL, *SWEEP)}.items():
        with fresh() as folder:
            started = time.monotonic()
            run(folder, *words)
            seconds, expected = time.monotonic() - started, outcomes(folder)
        for trial in track(range(number // 2), description=f"kills, {kind}"):
            with fresh() as folder:
                process = start(folder, *words)
                time.sleep(draws.uniform(0.0, seconds))
                with suppress(ProcessLookupError):
                    # Of a sweep, every other time its parent alone.
                    parent_alone = kind == "sweep" and trial % 2
                    (os.kill if parent_alone else os.killpg)(process.pid, signal.SIGKILL)
                process.communicate()
                after = run(folder, *words)
                told = verdict(folder, expected, after)
                count(counts, told, f"{kind}, trial {trial}", after)
    return counts


def _text(content: bytes, _: random.Random) -> bytes:
    return b"this is no such file\n"


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "empty": lambda content, draws: b"",
    "text": _text,
    "list": lambda content, draws: b"[1, 2, 3]\n",
    "half": lambda content, draws: content[: len(content) // 2],
    "without its end": lambda content, draws: content[:-40],
    "with NULs after it": lambda content, draws: content + bytes(64),
    "a flipped bit": lambda content, draws: _flipped(content, draws),
    "a zeroed block": lambda content, draws: _zeroed(content, draws),
    "random bytes": lambda content, draws: draws.randbytes(max(1, len(content))),
    "twice": lambda content, draws: content + content,
    "no UTF-8": lambda content, draws: b"\xff\xfe" + content,
    "gone": lambda content, draws: None,
}


def _flipped(content: bytes, draws: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[draws.randrange(len(damaged))] ^= 1 << draws.randrange(8)
    return bytes(damaged)


def _zeroed(content: bytes, draws: random.Random) -> bytes:
    at = draws.randrange(len(content))
    return content[:at] + bytes(min(512, len(content) - at)) + content[at + 512 :]


def damages(number: int) -> Counter[str]:
    """Every file of a stopped cell and of a finished one, damaged in each way; then the command."""
    counts: Counter[str] = Counter()
    with fresh() as whole, fresh() as half:
        run(whole, *CELL)
        expected = outcomes(whole)
        _stop_in_the_middle(half)
        trials = [
            (folder, file.relative_to(folder), how)
            for folder in (whole, half)
            for file in sorted(folder.glob("multirun/*/cells/*/*"))
            if file.is_file()
            for how in DAMAGES
        ]
        draws = random.Random(0)
        for source, name, how in track(draws.sample(trials, min(number, len(trials)))):
            with fresh() as folder:
                shutil.copytree(source, folder, dirs_exist_ok=True)
                content = DAMAGES[how]((folder / name).read_bytes(), draws)
                (folder / name).unlink()
                if content is not None:
                    (folder / name).write_bytes(content)
                done = run(folder, *CELL)
                told = verdict(folder, expected, done)
                if told == "wrong" and done.status not in (0, None):
                    # Refused, in a sentence, and left for whoever can mend it.
                    kept = (folder / name).exists() == (content is not None)
                    told = "right" if kept else "wrong"
                if told == "wrong" and source == whole and name.name not in _TRUTHS:
                    # Of a finished cell nothing is read but its record.
                    told = "right" if done.status == 0 else told
                count(counts, told, f"{name.name} of {source.name} {how}", done)
    return counts


#: Files of a finished cell that its results are read from.
_TRUTHS = ("record.json",)


def _stop_in_the_middle(folder: Path) -> None:
    process = start(folder, *CELL)
    checkpoint = "multirun/*/cells/*/checkpoint-previous.pt"
    while process.poll() is None and not any(folder.glob(checkpoint)):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate()


def disk(number: int) -> Counter[str]:
    """A disk that is full after so many bytes, of a cell alone and of a sweep; then it is not."""
    counts: Counter[str] = Counter()
    for kind, words in {"alone": CELL, "sweep": (*CELL, *SWEEP)}.items():
        with fresh() as folder:
            run(folder, *words)
            expected = outcomes(folder)
            files = [file for file in folder.rglob("*") if file.is_file()]
            needed = sum(file.stat().st_size for file in files)
        for part in track(range(number // 2), description=f"disk, {kind}"):
            with fresh() as folder:
                size = max(4096, round(needed * (part + 0.5) / (number // 2)))
                mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
                subprocess.run(mount, check=True)
                try:
                    first = run(folder, *words)
                    subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)
                    told = verdict(folder, expected, first, run(folder, *words))
                    count(counts, told, f"{kind}, {size} bytes", first)
                finally:
                    subprocess.run(["umount", str(folder)], check=True)
    return counts


def invocations(number: int) -> Counter[str]:
    """So many at once, of one sweep of 24 cells: each cell is trained once."""
    grid = (*CELL, "-m", "opt=sgd", "epochs=1", "sharpness=none", "seed=range(0,24)")
    counts: Counter[str] = Counter()
    with fresh() as folder:
        ends = [end_of(process) for process in [start(folder, *grid) for _ in range(number)]]
        counts.update(done.fault for done in ends if done.fault is not None)
        for record in folder.glob("multirun/*/cells/*/record.json"):
            found = json.loads(record.read_text())
            once = found["status"] == "complete" and len(found["attempts"]) == 1
            counts["right" if once else "wrong"] += 1
    return counts


#: What is given to every key; some of it is right for some keys, and then the plan is printed.
WRONG = ("x", "-1", "nan", "1e99", "[]", "[1,2]", "{}", "{a:1}", "null", "''", "true", "0.5")


def words(number: int) -> Counter[str]:
    """Wrong values of every key: a sentence that names the key, exit status 2, nothing left."""
    counts: Counter[str] = Counter()
    keys = [key.name for key in described(Options) if not key.name.startswith("analysis")]
    trials = [f"{key}={value}" for key in keys for value in WRONG]
    random.Random(0).shuffle(trials)
    for word in track(trials[:number], description="words"):
        with fresh() as folder:
            done = run(folder, "dry_run=true", word)
            told = done.fault
            if told is None:
                refused = done.status == 2 and word.partition("=")[0].split(".")[0] in done.told
                untouched = not any(folder.iterdir())
                told = "right" if untouched and (refused or done.status == 0) else "wrong"
            count(counts, told, word, done)
    return counts


CAMPAIGNS: dict[str, tuple[Callable[[int], Counter[str]], int]] = {
    "kills": (kills, 200),
    "damages": (damages, 240),
    "disk": (disk, 40),
    "invocations": (invocations, 8),
    "words": (words, 400),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("campaign", nargs="*", choices=[*CAMPAIGNS, []], help="default: all")
    for name, (_, number) in CAMPAIGNS.items():
        parser.add_argument(f"--{name}", type=int, default=number, help="how many")
    parser.add_argument("--out", type=Path, default=RESULTS / "faults.json")
    chosen = parser.parse_args(arguments)
    known = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    for name in chosen.campaign or CAMPAIGNS:
        campaign, _ = CAMPAIGNS[name]
        number = getattr(chosen, name)
        started = time.monotonic()
        counts = campaign(number)
        row = {kind: counts[kind] for kind in ("right", "wrong", "tracebacks", "hangs")}
        minutes = round((time.monotonic() - started) / 60, 1)
        known[name] = {"number": number, **row, "minutes": minutes, "environment": environment()}
        write(chosen.out, known)
    columns = ("number", "right", "wrong", "tracebacks", "hangs", "minutes")
    rows = [[name, *(row[c] for c in columns)] for name, row in known.items()]
    print(tabulate(rows, headers=["campaign", *columns]))


if __name__ == "__main__":
    main()
