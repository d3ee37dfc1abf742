"""Files of a cell that are not what was written: nothing wrong is resumed, nothing is lost."""

import logging
import os
import random
import shutil
import signal

import pytest
import torch
from helpers import compose_run, make_folder

from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder
from samsweep.system.signals import Interrupted
from samsweep.training.cell import run_cell
from samsweep.training.checkpoint import UnusableCheckpoint, read_state
from samsweep.training.trainer import Trainer

QUICK = ("opt=sgd", "epochs=3", "sharpness=none", "checkpoint_every_steps=4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a training that nobody disturbed."""
    folder = CellFolder(make_folder(tmp_path_factory.mktemp("whole"), NAME))
    run_cell(compose_run(*QUICK), folder)
    return folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of one that was stopped in its third epoch, at step 16 of 21."""
    folder = CellFolder(make_folder(tmp_path_factory.mktemp("stopped"), NAME))
    original = Trainer.take_step

    def interrupted(self, indices):
        if self.total_steps == 15:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, indices)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Trainer, "take_step", interrupted)
        run_cell(compose_run(*QUICK), folder)
    assert folder.previous_checkpoint_file.exists()
    return folder


NAME = cell_id(compose_run(*QUICK).cell)


@pytest.fixture
def folder(stopped, tmp_path):
    """Of the stopped one, to be damaged."""
    copied = CellFolder(make_folder(tmp_path, NAME))
    shutil.copytree(stopped.path, copied.path, dirs_exist_ok=True)
    return copied


def assert_ends_as(folder, whole):
    """Training goes on to the end, with the numbers of the one that nobody disturbed."""
    run_cell(compose_run(*QUICK), folder)
    record, expected = folder.read(), whole.read()
    assert record.status == "complete"
    assert record.metrics == expected.metrics
    rows = [[{**row, "seconds": 0} for row in f.read_history()] for f in (folder, whole)]
    assert rows[0] == rows[1]
    assert folder.weights_file.read_bytes() == whole.weights_file.read_bytes()


def equal(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


@pytest.mark.parametrize("width", [1, 512], ids=["a flipped bit", "a zeroed block"])
def test_a_damaged_checkpoint_never_gives_another_state(folder, width):
    content, draws = folder.checkpoint_file.read_bytes(), random.Random(0)
    true = read_state(folder.checkpoint_file)
    refused = 0
    for _ in range(150):
        at = draws.randrange(len(content) - width)
        damaged = bytearray(content)
        if width == 1:
            damaged[at] ^= 1 << draws.randrange(8)
        else:
            damaged[at : at + width] = bytes(width)
        folder.checkpoint_file.write_bytes(damaged)
        try:
            found = read_state(folder.checkpoint_file)
        except UnusableCheckpoint:
            refused += 1
        else:
            # In what torch pads its files with, or in zeros.
            assert equal(found, true)
    assert refused > 100


def another_cells(file):
    state = read_state(file)
    state["model"] = {name: torch.zeros(3) for name in state["model"]}
    torch.save(state, file)


def nothing_of_a_training(file):
    torch.save([1, 2], file)


def a_folder(file):
    file.unlink()
    file.mkdir()
    (file / "inside").touch()


DAMAGE = {
    "text": lambda file: file.write_text("weights"),
    "nothing": lambda file: file.write_bytes(b""),
    "random bytes": lambda file: file.write_bytes(random.Random(0).randbytes(4096)),
    "the beginning": lambda file: file.write_bytes(file.read_bytes()[:-4096]),
    "the end": lambda file: file.write_bytes(file.read_bytes()[4096:]),
    "a list": nothing_of_a_training,
    "other parameters": another_cells,
    "a folder": a_folder,
    "a zip of something else": lambda file: (
        shutil.make_archive(str(file.with_suffix("")), "zip", file.parent, "record.json")
        and file.with_suffix(".zip").replace(file)
    ),
    "a dangling link": lambda file: (file.unlink(), file.symlink_to("nowhere")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_the_checkpoint_before_is_resumed_bit_for_bit(folder, whole, damage, caplog):
    caplog.set_level(logging.INFO)
    damage(folder.checkpoint_file)
    assert_ends_as(folder, whole)
    assert folder.read().attempts[-1].start_step == 12
    assert "resumed at step 12" in caplog.text


def test_without_either_training_starts_anew(folder, whole, caplog):
    for file in (folder.checkpoint_file, folder.previous_checkpoint_file):
        file.write_text("weights")
    assert_ends_as(folder, whole)
    assert folder.read().attempts[-1].start_step == 0
    assert caplog.text.count("is passed over and kept as checkpoint") == 2
    assert "no checkpoint can be resumed, training starts anew" in caplog.text


HISTORIES = {
    "cut": (lambda text: text[:-40], 12),
    "zeros at the end": (lambda text: text + b"\0" * 40, 16),
    "an empty line of JSON": (lambda text: text + b"{}\n", 16),
    "zeros in place": (lambda text: bytes(len(text)), 0),
    "no line": (lambda text: b"", 0),
    "a line twice": (lambda text: text + text.splitlines(keepends=True)[-1], 16),
    "a line less": (lambda text: b"".join(text.splitlines(keepends=True)[1:]), 0),
}


@pytest.mark.parametrize(("damage", "start"), HISTORIES.values(), ids=HISTORIES)
def test_a_damaged_history_costs_epochs_and_no_numbers(folder, whole, damage, start):
    """The latest checkpoint has two lines of history before it, the other one."""
    folder.history_file.write_bytes(damage(folder.history_file.read_bytes()))
    assert_ends_as(folder, whole)
    assert folder.read().attempts[-1].start_step == start
