"""How a machine is divided, with stand-ins for its devices."""

import pytest
from helpers import compose_run

from samsweep.config import ConfigError
from samsweep.sweep.local.slots import (
    PoolSettings,
    common_device,
    describe_slots,
    divide,
    most_on_one_gpu,
)
from samsweep.system.machine import Machine, Slot


def cpu(num_cores):
    return Machine(host="here", num_cores=num_cores, device="cpu (some)")


def gpus(*names, num_cores=16):
    return Machine(host="here", num_cores=num_cores, device="cuda (some)", gpus=names)


def slots(machine, num_cells=100, num_threads=None, **settings):
    return divide(machine, PoolSettings(**settings), num_cells=num_cells, num_threads=num_threads)


@pytest.mark.parametrize(
    ("num_cores", "keys", "expected"),
    [
        (2, {}, (2, 1)),
        (8, {}, (8, 1)),
        (8, {"num_cells": 3}, (3, 2)),
        (8, {"num_cells": 1}, (1, 8)),
        (8, {"workers": 2}, (2, 4)),
        (8, {"num_threads": 4}, (2, 4)),
        (8, {"num_threads": 3}, (2, 3)),
        (2, {"num_threads": 4}, (1, 4)),
        (2, {"workers": 4}, (4, 1)),
        (2, {"workers": 2, "num_threads": 2}, (2, 2)),
    ],
)
def test_cores_are_shared(num_cores, keys, expected):
    found = slots(cpu(num_cores), **keys)
    assert (len(found), found[0].num_threads) == expected
    assert len(set(found)) == 1
    assert found[0].gpu is None


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"cells_per_gpu": 2}, ["a", "b", "c", "a", "b", "c"]),
        ({"gpus": (2, 0)}, ["c", "a"]),
        ({"gpus": (1,), "cells_per_gpu": 3}, ["b", "b", "b"]),
        ({"workers": 2}, ["a", "b"]),
        ({"workers": 5}, ["a", "b", "c", "a", "b"]),
        ({"num_cells": 2}, ["a", "b"]),
    ],
)
def test_cells_are_dealt_to_gpus_in_turn(keys, expected):
    found = slots(gpus("a", "b", "c"), **keys)
    assert [slot.gpu for slot in found] == expected
    assert {slot.num_threads for slot in found} == {16 // len(expected)}


def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(ConfigError, match=r"gpus=\[0, 3\]: this machine has 2 GPUs.*\[0, 1\]"):
        slots(gpus("0", "1"), gpus=(0, 3))
    with pytest.raises(ConfigError, match=r"gpus=\[0\]: these cells run on the CPU of here"):
        slots(cpu(4), gpus=(0,))


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"^hydra.launcher.workers=0: should be greater"):
        PoolSettings.parse({"workers": 0}, prefix="hydra.launcher.")
    with pytest.raises(ConfigError, match=r"^hydra.launcher.gpus=\(\): name at least one"):
        PoolSettings.parse({"gpus": ()}, prefix="hydra.launcher.")
    with pytest.raises(ConfigError, match=r"^hydra.launcher.cells_per_gpu=two: "):
        PoolSettings.parse({"cells_per_gpu": "two"}, prefix="hydra.launcher.")


def test_the_cells_of_a_launch_share_their_device():
    runs = [compose_run("device=cpu"), compose_run("device=cpu", "opt=sgd")]
    assert common_device(runs) == "cpu"
    with pytest.raises(ConfigError, match="device=cpu,cuda: the cells of one launch"):
        common_device([*runs, compose_run("device=cuda")])


def test_the_division_is_told():
    assert describe_slots([Slot(num_threads=1)] * 2) == "2 cells at a time, 1 thread each"
    assert describe_slots([Slot(num_threads=8)]) == "1 cell at a time, 8 threads"
    shared = slots(gpus("0", "1"), cells_per_gpu=2)
    assert describe_slots(shared) == "4 cells at a time on GPUs 0, 1, 4 threads each"


@pytest.mark.parametrize(
    ("machine", "keys", "expected"),
    [
        (cpu(4), {}, 1),
        (gpus("a", "b"), {}, 1),
        (gpus("a", "b"), {"workers": 3}, 2),
        (gpus("a", "b"), {"cells_per_gpu": 4}, 4),
    ],
)
def test_how_many_share_a_gpu(machine, keys, expected):
    assert most_on_one_gpu(slots(machine, **keys)) == expected
