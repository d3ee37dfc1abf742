"""Freed memory stays with the process."""

import pytest
from helpers import run

from samsweep.training.memory import keep_freed_memory

#: Page faults of ten steps that each allocate 160 MiB and free it.
FAULTS = """
import resource, sys, torch
from samsweep.training.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit("no glibc")
def step():
    return [torch.ones(2**21) for _ in range(20)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    done = run(".", how, code=FAULTS, check=False)
    if "no glibc" in done.stderr:
        pytest.skip("this system's C library is not glibc")
    return int(done.stdout)


def test_pages_are_used_again():
    assert faults("keep") < 0.5 * faults("give back")


def test_it_can_be_called_again():
    assert keep_freed_memory() == keep_freed_memory()
