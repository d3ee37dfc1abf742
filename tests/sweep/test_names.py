"""What cells are called beside each other."""

from pathlib import Path

from helpers import compose_run

from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder
from samsweep.sweep.names import names_of
from samsweep.sweep.plan import Point, plan_sweep


def names(*points):
    """Of a sweep over points, each with the study it is of."""
    planned = []
    for study, *overrides in points:
        run = compose_run(*overrides)
        folder = CellFolder(Path("multirun") / study / "cells" / cell_id(run.cell))
        planned.append(Point(run=run, folder=folder))
    return list(names_of(plan_sweep(planned).cells).values())


def test_a_study_is_named_where_there_are_several():
    """Their cells have the same id, and none is taken for the other."""
    (alone,) = names(("one",))
    assert "/" not in alone
    assert names(("one",), ("two",)) == [f"one/{alone}", f"two/{alone}"]


def test_what_ids_leave_out_is_added():
    """Cells whose ids differ in nothing but the hash."""
    assert [name.partition(" ")[2] for name in names(("s", "lr=0.1"), ("s", "lr=0.2"))] == [
        "(lr=0.1)",
        "(lr=0.2)",
    ]
    both = names(("s", "lr=0.1", "momentum=0"), ("s", "lr=0.2"), ("s", "lr=0.2", "seed=3"))
    assert "(lr=0.1 momentum=0" in both[0]
    assert " " not in both[2]
    # The study tells these apart.
    assert not any("(" in name for name in names(("one", "lr=0.1"), ("two", "lr=0.2")))
    # Base optimizers have arguments of their own, and none is one of the values.
    own = ("base=nadam", "+base_args.decoupled_weight_decay=true")
    named = names(("s",), ("s", *own))
    assert "base=sgd" in named[0]
    assert "decoupled_weight_decay=True" in named[1]
