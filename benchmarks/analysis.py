"""Seconds and memory of all tables of made-up studies, as one command.

    python benchmarks/analysis.py                        # 1,000 and 10,000 cells
    python benchmarks/analysis.py --sizes 100000

Each study (``benchmarks/made_up.py``) is written once; ``python -m multirun_analysis`` then runs on
it as a process of its own. The command's wall time, processor time and peak memory are reported,
and the records per second, its start included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import RESULTS, environment, write
from made_up import STUDY, write_study
from tabulate import tabulate


def measure(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command; wall and processor seconds, and the peak of its memory in MB."""
    started = time.perf_counter()
    with (folder / "stdout").open("wb") as stdout:
        process = subprocess.Popen(command, cwd=folder, stdout=stdout)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def measure_study(number: int, rounds: int, options: list[str]) -> dict[str, Any]:
    """The command on a made-up study of ``number`` cells, several times."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        root = write_study(folder, number)
        command = [sys.executable, "-m", "multirun_analysis", f"study={STUDY}", *options]
        found = [measure([*command, f"root={root}"], folder) for _ in range(rounds)]
    medians = {key: statistics.median(one[key] for one in found) for key in found[0]}
    return {
        "cells": number,
        **medians,
        "records_per_second": number / medians["seconds"],
        "rounds": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000], metavar="CELLS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "analysis.json")
    parser.add_argument(
        "--option", action="append", default=[], help="passed on, such as --option=export=frames"
    )
    arguments = parser.parse_args()

    # Two cores are what the command is to make do with.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    found = []
    for number in arguments.sizes:
        print(f"{number} cells", flush=True)
        found.append(measure_study(number, arguments.rounds, arguments.option))
    keys = ("cells", "seconds", "cpu_seconds", "peak_mb", "records_per_second")
    print(tabulate([[one[key] for key in keys] for one in found], headers=keys, floatfmt=",.1f"))
    result = {
        "options": arguments.option,
        "studies": found,
        "environment": environment(load_average=os.getloadavg()),
    }
    write(arguments.out, result)


if __name__ == "__main__":
    main()
