"""Memory of a sweep's own processes while it runs 300 cells of one epoch.

    python benchmarks/parent_memory.py

Resident memory of the command and of the server that its cells are forked from, in MiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

GRID = ["-m", "opt=sgd", "epochs=1", "sharpness=none"]


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def children(pid: int) -> list[int]:
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in file.read_text().split()]


def server(pid: int) -> int | None:
    """The child that forks cells."""
    for child in children(pid):
        if "forkserver" in Path(f"/proc/{child}/cmdline").read_text():
            return child
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        sweep = subprocess.Popen(
            [sys.executable, "-m", "samsweep.run", *GRID, f"seed=range(0,{arguments.cells})"],
            cwd=root,
            stdout=subprocess.DEVNULL,
        )
        rows = []
        at = 0
        cells = Path(root, "multirun/default/cells")
        while sweep.poll() is None:
            done = sum(1 for _ in cells.glob("*/weights.safetensors"))
            if done >= at:
                forker = server(sweep.pid)
                memory = resident_mib(forker) if forker else 0.0
                rows.append((done, f"{resident_mib(sweep.pid):.0f}", f"{memory:.0f}"))
                at = max(1, done + arguments.cells // 10) if done else 1
            time.sleep(0.2)
        seconds = time.perf_counter() - started
    print(tabulate(rows, headers=["cells done", "command, MiB", "server, MiB"]))
    print(f"{arguments.cells} cells in {seconds:.0f} s, exit status {sweep.returncode}")


if __name__ == "__main__":
    main()
