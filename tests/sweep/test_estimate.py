"""The estimate of what a sweep costs, on made-up records and a made-up probe."""

import helpers
import pytest

from samsweep.records.identity import wanted_measurements
from samsweep.records.provenance import provenance
from samsweep.records.schema import Attempt, Measurement, Progress
from samsweep.sweep.estimate import Prepared, estimate_cost
from samsweep.sweep.local.process import ProcessDied
from samsweep.sweep.local.runner import cost_here, prepare
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.plan import plan_sweep
from samsweep.sweep.plan_table import cost_sentence, print_plan
from samsweep.system.machine import Machine

HERE = "cpu (some)"


@pytest.fixture
def root(tmp_path):
    return tmp_path


def point(root, *overrides):
    return helpers.point(root, "sharpness=none", *overrides)


def leave(root, *overrides, seconds, epochs=40, status="complete", device=HERE, threads=1, **keys):
    """The record of a cell that took so long for so many epochs of seven steps."""
    attempt = Attempt(
        started="2026-01-01T00:00:00+00:00",
        seconds=seconds,
        start_step=0,
        end_step=7 * epochs,
        provenance=provenance(device=device, num_threads=threads),
    )
    progress = Progress(epoch=epochs, num_epochs=40, steps_per_epoch=7, updated="now")
    changes = {"status": status, "attempts": (attempt,), "progress": progress, **keys}
    helpers.leave(root, "sharpness=none", *overrides, **changes)


def cost(*points, probe=None, threads=1):
    def no_probe(runs):
        raise AssertionError(f"timed {len(runs)} runs")

    plan = plan_sweep(points)
    return estimate_cost(plan, device=HERE, num_threads=threads, probe=probe or no_probe)


def test_a_record_of_the_same_variant_tells(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    leave(root, "opt=sam", "seed=2", seconds=100.0)
    leave(root, "opt=sgd", "seed=1", seconds=1.0)
    found = cost(point(root, "opt=sam", "seed=3"), point(root, "opt=sam", "seed=4"))
    assert found.seconds == pytest.approx(180)
    assert found.source == f"from 2 records on this {HERE}"


def test_another_variant_is_scaled_by_its_gradients(root):
    leave(root, "opt=sgd", "seed=1", seconds=40.0)
    found = cost(point(root, "opt=sam"), point(root, "opt=sgd"), point(root, "opt=sgdhess"))
    assert list(found.cells.values()) == pytest.approx([80, 40, 120])


def test_epochs_that_are_left_count(root):
    leave(root, "opt=sam", "seed=1", seconds=20.0, epochs=10, status="interrupted")
    leave(root, "opt=sam", "seed=2", seconds=80.0)
    found = cost(point(root, "opt=sam", "seed=1"), point(root, "opt=sam", "seed=2"))
    assert found.seconds == pytest.approx(60)
    assert cost(point(root, "opt=sam", "epochs=10")).seconds == pytest.approx(20)


def test_records_with_as_many_threads_go_before_others(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0, threads=1)
    leave(root, "opt=sam", "seed=2", seconds=40.0, threads=2)
    assert cost(point(root, "opt=sam"), threads=2).seconds == pytest.approx(40)
    assert cost(point(root, "opt=sam"), threads=4).seconds == pytest.approx(60)


def test_what_no_record_of_this_device_tells_is_timed_once_for_a_model(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0, device="cuda (some)")
    timed = []

    def probe(runs):
        timed.extend(runs)
        return [2.0 for _ in runs]

    points = [point(root, f"opt={opt}") for opt in ("sam", "samdirection", "sgd")]
    found = cost(*points, probe=probe)
    assert [run.cell.variant.name for run in timed] == ["sam"]
    assert list(found.cells.values()) == pytest.approx([80, 80, 40])
    assert found.source == f"from timed steps on this {HERE}"


def test_cells_that_share_a_gpu_take_turns(root, monkeypatch):
    machine = Machine(host="here", num_cores=8, device="cuda (some)", gpus=("0", "1"))
    monkeypatch.setattr(
        "samsweep.sweep.local.runner.call",
        lambda name, *arguments: machine if name.endswith(":prepare_machine") else [2.0],
    )
    monkeypatch.setattr("samsweep.sweep.local.runner.preload", lambda names, **more: None)
    plan = plan_sweep([point(root, "opt=sam", f"seed={seed}") for seed in range(8)])
    for sharing in (1, 4):
        prepared = prepare(plan, PoolSettings(cells_per_gpu=sharing))
        assert prepared.cost.seconds_with(len(prepared.slots)) == pytest.approx(8 * 40 * 2.0 / 2)


@pytest.mark.parametrize(
    "error",
    [ProcessDied("ended with status -9"), RuntimeError("a step cannot be recorded"), MemoryError()],
)
def test_steps_that_cannot_be_timed_cost_no_more_than_the_estimate(root, monkeypatch, error):
    def no_luck(*arguments):
        raise error

    monkeypatch.setattr("samsweep.sweep.local.runner.call", no_luck)
    machine = Machine(host="here", num_cores=8, device="cpu (some)")
    plan = plan_sweep([point(root, "opt=sam")])
    assert cost_here(plan, machine, num_threads=1) is None


def lambda_max_key(root, *overrides):
    (key,) = wanted_measurements(point(root, "sharpness=lambda_max", *overrides).run.sharpness)
    return key


@pytest.fixture
def taken():
    return Measurement(
        name="lambda_max",
        settings={},
        result={"seconds": 5.0},
        measured="now",
        provenance=provenance(device=HERE, num_threads=1),
    )


def test_measurements_count_where_a_record_knows_them(root, taken):
    key = lambda_max_key(root)
    leave(root, "opt=sam", "seed=1", seconds=80.0, measurements={key: taken})
    points = [point(root, "opt=sam", "seed=2", f"sharpness={s}") for s in ("lambda_max", "top5")]
    found = cost(*points)
    assert found.seconds == pytest.approx(85)
    assert found.uncounted == {"top5"}
    assert cost_sentence(found, 2) == (
        "About 1:25 of work, 1:25 from start to end "
        f"(estimated from 1 record on this {HERE}, not counting top5)."
    )


def test_a_cell_that_only_lacks_a_measurement_costs_that(root, taken):
    """And nothing is timed, though no record tells of the training."""
    leave(root, "opt=sam", "seed=1", seconds=None, measurements={lambda_max_key(root): taken})
    leave(root, "opt=sam", "seed=2", seconds=None)
    found = cost(point(root, "opt=sam", "seed=2", "sharpness=lambda_max"))
    assert found.seconds == 5
    assert cost_sentence(found, 1) == (
        f"About 0:05 of work, 0:05 from start to end (estimated from 1 record on this {HERE})."
    )


def test_a_measurement_with_other_settings_tells_nothing(root, taken):
    """Fifty examples take no tenth of the time of all."""
    other = lambda_max_key(root, "sharpness.num_examples=50")
    leave(root, "opt=sam", "seed=1", seconds=80.0, measurements={other: taken})
    found = cost(point(root, "opt=sam", "seed=1", "sharpness=lambda_max"))
    assert found.uncounted == {"lambda_max"}
    assert cost_sentence(found, 1) == "Nothing is known yet of how long lambda_max takes."


def test_no_zeros_are_shown_for_what_nobody_knows(root, capsys):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    plan = plan_sweep([point(root, "opt=sam", "seed=1", "sharpness=lambda_max")])
    print_plan(plan, Prepared(cost=cost(*plan.cells[0].points)))
    told = capsys.readouterr().out
    assert "work" not in told and "0:00" not in told
    assert "Nothing is known yet of how long lambda_max takes." in told


def test_from_start_to_end_longest_first(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    points = [point(root, "opt=sam", "seed=2", f"epochs={epochs}") for epochs in (10, 20, 30, 40)]
    found = cost(*points)
    assert [found.seconds_with(n) for n in (1, 2, 3)] == pytest.approx([200, 100, 80])


def test_a_broken_record_is_passed_over(root):
    leave(root, "opt=sam", "seed=1", seconds=80.0)
    folder = root / "multirun/default/cells/broken"
    folder.mkdir()
    (folder / "record.json").write_text("{")
    assert cost(point(root, "opt=sam")).seconds == pytest.approx(80)
