"""The estimate of what a sweep costs, on made-up records and a made-up probe."""

import pytest
from helpers import compose_run

from samsweep.launch.cost import estimate_cost
from samsweep.launch.plan import Point, plan_sweep
from samsweep.launch.report import cost_sentence
from samsweep.records.identity import cell_id
from samsweep.records.provenance import provenance
from samsweep.records.schema import Attempt, Measurement, Progress, Record
from samsweep.records.store import CellFolder

HERE = "cpu (some)"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "multirun"


def point(root, *overrides):
    run = compose_run("sharpness=none", *overrides)
    folder = CellFolder(root / run.study / "cells" / cell_id(run.cell))
    return Point(run=run, overrides=overrides, folder=folder)


def leave(root, *overrides, seconds, epochs=40, status="complete", device=HERE, threads=1, **keys):
    """The record of a cell that took so long for so many epochs of seven steps."""
    found = point(root, *overrides)
    origin = provenance(device=device, num_threads=threads)
    attempt = Attempt(
        started="2026-01-01T00:00:00+00:00",
        seconds=seconds,
        start_step=0,
        end_step=7 * epochs,
        provenance=origin,
    )
    progress = Progress(epoch=epochs, num_epochs=40, steps_per_epoch=7, updated="now")
    found.folder.path.mkdir(parents=True)
    changes = {"status": status, "attempts": (attempt,), "progress": progress, **keys}
    found.folder.write(Record.planned(found.run).model_copy(update=changes))


def cost(root, *points, probe=None, threads=1):
    def no_probe(runs):
        raise AssertionError(f"timed {len(runs)} runs")

    return estimate_cost(
        plan_sweep(points), root, device=HERE, num_threads=threads, probe=probe or no_probe
    )


def test_a_record_of_the_same_variant_tells(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    leave(root, "opt=sam", "seed=2", seconds=100.0)
    leave(root, "opt=sgd", "seed=1", seconds=1.0)
    found = cost(root, point(root, "opt=sam", "seed=3"), point(root, "opt=sam", "seed=4"))
    assert found.seconds == pytest.approx(180)
    assert found.source == f"from 2 records on this {HERE}"


def test_another_variant_is_scaled_by_its_gradients(root):
    leave(root, "opt=sgd", "seed=1", seconds=40.0)
    found = cost(root, point(root, "opt=sam"), point(root, "opt=sgd"), point(root, "opt=sgdhess"))
    assert list(found.cells.values()) == pytest.approx([80, 40, 120])


def test_epochs_count(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    assert cost(root, point(root, "opt=sam", "epochs=10")).seconds == pytest.approx(20)


def test_what_is_done_does_not_count_again(root):
    leave(root, "opt=sam", "seed=1", seconds=20.0, epochs=10, status="interrupted")
    leave(root, "opt=sam", "seed=2", seconds=80.0)
    found = cost(root, point(root, "opt=sam", "seed=1"), point(root, "opt=sam", "seed=2"))
    assert found.seconds == pytest.approx(60)


def test_records_with_as_many_threads_go_before_others(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0, threads=1)
    leave(root, "opt=sam", "seed=2", seconds=40.0, threads=2)
    assert cost(root, point(root, "opt=sam"), threads=2).seconds == pytest.approx(40)
    assert cost(root, point(root, "opt=sam"), threads=4).seconds == pytest.approx(60)


def test_what_no_record_of_this_device_tells_is_timed_once_for_a_model(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0, device="cuda (some)")
    timed = []

    def probe(runs):
        timed.extend(runs)
        return [2.0 for _ in runs]

    points = [point(root, f"opt={opt}") for opt in ("sam", "samdirection", "sgd")]
    found = cost(root, *points, probe=probe)
    assert [run.cell.variant.name for run in timed] == ["sam"]
    assert list(found.cells.values()) == pytest.approx([80, 80, 40])
    assert found.source == f"from timed steps on this {HERE}"


def test_measurements_count_where_a_record_knows_them(root):
    taken = Measurement(
        name="lambda_max",
        settings={},
        result={"seconds": 5.0},
        measured="now",
        provenance=provenance(device=HERE, num_threads=1),
    )
    leave(root, "opt=sam", "seed=1", seconds=80.0, measurements={"lambda_max-1": taken})
    points = [point(root, "opt=sam", "seed=2", f"sharpness={s}") for s in ("lambda_max", "top5")]
    found = cost(root, *points)
    assert found.seconds == pytest.approx(85)
    assert found.uncounted == {"top5"}
    assert cost_sentence(found, 2) == (
        "About 1:25 of work, 1:25 from start to end "
        f"(estimated from 1 record on this {HERE}, not counting top5)."
    )


def test_a_cell_that_only_lacks_a_measurement_costs_that(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    assert cost(root, point(root, "opt=sam", "seed=1", "sharpness=lambda_max")).seconds == 0


def test_from_start_to_end_longest_first(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    points = [point(root, "opt=sam", "seed=2", f"epochs={epochs}") for epochs in (10, 20, 30, 40)]
    found = cost(root, *points)
    assert [found.seconds_with(n) for n in (1, 2, 3)] == pytest.approx([200, 100, 80])


def test_a_broken_record_is_passed_over(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    folder = root / "default" / "cells" / "broken"
    folder.mkdir()
    (folder / "record.json").write_text("{")
    assert cost(root, point(root, "opt=sam")).seconds == pytest.approx(80)
