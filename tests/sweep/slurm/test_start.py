"""Warnings that Slurm sends a job while it still imports."""

import os
import signal
import subprocess
import sys

import pytest

MODULE = """
import signal, sys
print("importing", flush=True)
sys.stdin.readline()
from samsweep.sweep.slurm.start import take_warnings
heard = []
for warning in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(warning, lambda number, frame: heard.append(number))
assert heard == []
take_warnings()
print(sorted(heard), sys.argv[1:], __name__, flush=True)
"""


@pytest.mark.parametrize("warnings", [(signal.SIGTERM,), (signal.SIGUSR2, signal.SIGTERM), ()])
def test_warnings_wait_until_somebody_can_act_on_them(tmp_path, warnings):
    (tmp_path / "slow_to_import.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    job = subprocess.Popen(
        [sys.executable, *"-u -m samsweep.sweep.slurm.start -u -m slow_to_import folder".split()],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout.readline() == "importing\n"
    for warning in warnings:
        job.send_signal(warning)
    told, _ = job.communicate("go on\n", timeout=60)
    assert job.returncode == 0
    assert told == f"{sorted(map(int, warnings))} ['folder'] __main__\n"
