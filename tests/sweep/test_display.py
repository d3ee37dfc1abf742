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
@pytest.mark.parametrize(
    ("studies", "names"),
    [
        (("one",), ["1/1  some-cell"]),
        (("one", "two"), ["1/2  one/some-cell", "2/2  two/some-cell"]),
    ],
)
def test_a_study_is_named_where_there_are_several(terminal, studies, names):
    """Their cells have the same id, and none is taken for the other."""
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    cells = [CellKey(study, "some-cell") for study in studies]
    life(Display(cells, console), *cells)
    shown = console.file.getvalue()
    assert all(f"{name}  complete" in shown for name in names)
    assert ("one/" in shown) == (len(studies) > 1)
