"""What a sweep shows of its cells."""

import io

import pytest
from rich.console import Console

from samsweep.records.identity import CellKey
from samsweep.sweep.display import Display
from samsweep.system.machine import Slot
from samsweep.system.progress import Snapshot

SLOT = Slot(num_threads=1)


def life(display, *cells):
    """Each cell starts, shows its progress and ends, the others in between."""
    with display:
        for cell in cells:
            display.started(cell, SLOT)
        for cell in cells:
            display.progress(cell, Snapshot(num_steps=10, num_epochs=2, step=5, epoch=1))
        for cell in cells:
            display.ended(cell, "complete")


@pytest.mark.parametrize("terminal", [True, False])
def test_every_cell_ends_under_its_name(terminal):
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    names = {CellKey(study, "some-cell"): f"{study}/some-cell" for study in ("one", "two")}
    life(Display(names, console), *names)
    shown = console.file.getvalue()
    assert "1/2  one/some-cell  complete" in shown
    assert "2/2  two/some-cell  complete" in shown
