"""The table of what was measured, from made-up records."""

import io

import pytest
from helpers import compose_run
from rich.console import Console

from samsweep.config import MEASURES
from samsweep.records.identity import wanted_measurements
from samsweep.records.provenance import provenance
from samsweep.records.schema import Measurement, Record
from samsweep.records.store import CellFolder
from samsweep.sweep.measurement_table import measurement_tables

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


def shown(asked, settings):
    out = io.StringIO()
    Console(file=out, width=140).print(measurement_tables(asked, settings))
    return out.getvalue()


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
    told = shown({cell: [run] for cell in cells}, [run.sharpness])
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.split()}
    assert rows["cell"] == ["top5", "trace", "sam_gap", "landscape_1d"]
    assert rows["one"] == ["12.35", "nan", "none", "measured"]
    assert rows["two"] == ["0.5*", "??", "??", "??"]
    assert "* stopped at max_hvps" in told


def test_columns_of_one_measure_say_in_what_they_differ(tmp_path):
    runs = [
        compose_run("sharpness=trace", f"sharpness.trace.num_samples={n}", "sharpness.seed=7")
        for n in (10, 20)
    ]
    cell = leave(tmp_path, "one", runs[1], {"trace": {"trace": 3.0}})
    lines = shown({cell: runs}, [run.sharpness for run in runs]).splitlines()
    header = ["trace.num_samples=10", "trace.num_samples=20"]
    assert any(line.split()[-2:] == header for line in lines)
    assert any(line.split() == ["one", "??", "3"] for line in lines)
    assert not any("seed" in line or "*" in line for line in lines)


@pytest.mark.parametrize("number", [1, 6, len(MEASURES)])
def test_every_measure_has_its_whole_name_above_it(tmp_path, number):
    names = list(MEASURES)[:number]
    run = compose_run(f"sharpness.measures=[{','.join(names)}]")
    cell = leave(tmp_path, "resnet8-samdirection-element-rho0.1-digits-seed0-050186b7a8", run, {})
    told = shown({cell: [run]}, [run.sharpness])
    found = [word for line in told.splitlines() for word in line.split() if word in names]
    assert found == names
    assert told.count("??") == number


def test_a_record_that_cannot_be_read_has_no_values(tmp_path):
    run = compose_run()
    cell = leave(tmp_path, "one", run, {"lambda_max": {"lambda_max": 1.0}})
    cell.record_file.write_text("{")
    assert "??" in shown({cell: [run]}, [run.sharpness])
