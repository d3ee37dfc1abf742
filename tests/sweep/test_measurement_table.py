"""The table of what was measured, from made-up records."""

import io

from helpers import compose_run
from rich.console import Console

from samsweep.records.identity import wanted_measurements
from samsweep.records.provenance import provenance
from samsweep.records.schema import Measurement, Record
from samsweep.records.store import CellFolder
from samsweep.sweep.measurement_table import measurement_table

ORIGIN = provenance(device="cpu", num_threads=1)


def leave(root, name, run, results):
    """A cell with these results of the measures that the run asks for."""
    folder = CellFolder(root / name)
    folder.path.mkdir()
    taken = {
        key: Measurement(
            name=measure, settings={}, result=results[measure], measured="now", provenance=ORIGIN
        )
        for key, measure in wanted_measurements(run.sharpness).items()
        if measure in results
    }
    folder.write(Record.planned(run).model_copy(update={"measurements": taken}))
    return folder


def rows(asked):
    """Value by measure, with the settings in which it differs from others, and cell."""
    table = measurement_table(asked)
    columns = [list(column.cells) for column in table.columns]
    return {(label, cell): value for label, cell, value in zip(*columns, strict=True)}


def test_values_are_headlines_and_what_is_not_there_is_marked(tmp_path):
    run = compose_run("sharpness.measures=[top5,trace,sam_gap,landscape_1d]")
    first = {
        "top5": {"lambda_max": 12.34567, "converged": True},
        "trace": {"trace": float("nan")},
        "sam_gap": {"sam_gap": None},
        "landscape_1d": {"alphas": [0.0], "losses": [1.0]},
    }
    second = {"top5": {"lambda_max": 0.5, "converged": False}}
    cells = [leave(tmp_path, name, run, r) for name, r in (("one", first), ("two", second))]
    asked = {cell: [run] for cell in cells}
    assert rows(asked) == {
        ("top5", "one"): "12.35",
        ("top5", "two"): "0.5*",
        ("trace", "one"): "nan",
        ("trace", "two"): "??",
        ("sam_gap", "one"): "none",
        ("sam_gap", "two"): "??",
        ("landscape_1d", "one"): "measured",
        ("landscape_1d", "two"): "??",
    }
    assert "not converged" in measurement_table(asked).caption


def test_rows_of_one_measure_say_in_what_they_differ(tmp_path):
    runs = [
        compose_run("sharpness=trace", f"sharpness.trace.num_samples={n}", "sharpness.seed=7")
        for n in (10, 20)
    ]
    cell = leave(tmp_path, "one", runs[1], {"trace": {"trace": 3.0}})
    assert rows({cell: runs}) == {
        ("trace trace.num_samples=10", "one"): "??",
        ("trace trace.num_samples=20", "one"): "3",
    }


def test_names_fit_a_terminal_that_is_none(tmp_path):
    run = compose_run("sharpness=full")
    name = "resnet8-samdirection-element-rho0.1-digits-seed0-050186b7a8"
    cell = leave(tmp_path, name, run, {})
    out = io.StringIO()
    Console(file=out, width=140).print(measurement_table({cell: [run]}))
    lines = out.getvalue().splitlines()
    for measure in run.sharpness.measures:
        assert any(line.split() == [measure, name, "??"] for line in lines)


def test_a_record_that_cannot_be_read_has_no_values(tmp_path):
    run = compose_run()
    cell = leave(tmp_path, "one", run, {"lambda_max": {"lambda_max": 1.0}})
    cell.record_file.write_text("{")
    assert list(rows({cell: [run]}).values()) == ["??"]
