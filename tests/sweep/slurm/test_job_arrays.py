"""Cells to jobs, jobs to arrays."""

from pathlib import Path

from helpers import compose_run
from hypothesis import given
from hypothesis import strategies as st

from samsweep.records.store import CellFolder
from samsweep.sweep.local.slots import PoolSettings
from samsweep.sweep.plan import PlannedCell, Point
from samsweep.sweep.slurm.job_arrays import ArraySettings, arrays_of, deal

MODELS = {name: compose_run(f"model={name}") for name in ("resnet8", "resnet20", "resnet18")}


def cells(tmp_path, *models, study="default"):
    """One cell per name, in order."""
    found = []
    for number, model in enumerate(models):
        folder = CellFolder(tmp_path / study / "cells" / f"{model}-{number}")
        point = Point(run=MODELS[model], folder=folder)
        found.append(PlannedCell(folder=folder, points=(point,), record=None, action="train"))
    return found


def names(array):
    return [[cell.key.cell_id for cell in job] for job in array.jobs]


def test_a_job_per_cell_in_the_order_to_start_them(tmp_path):
    (array,) = arrays_of(cells(tmp_path, *["resnet8"] * 3), ArraySettings(), max_array_size=1001)
    assert names(array) == [["resnet8-0"], ["resnet8-1"], ["resnet8-2"]]
    assert array.parallelism is None
    assert array.resources == {}


def test_a_job_has_cells_of_one_study(tmp_path):
    found = [cell for study in ("one", "two") for cell in cells(tmp_path, "resnet8", study=study)]
    arrays = arrays_of(found, ArraySettings(cells_per_job=2), max_array_size=1001)
    jobs = [[cell.key.study for cell in job] for array in arrays for job in array.jobs]
    assert jobs == [["one"], ["two"]]


def test_no_array_is_larger_than_slurm_takes(tmp_path):
    settings = ArraySettings(cells_per_job=2)
    arrays = arrays_of(cells(tmp_path, *["resnet8"] * 21), settings, max_array_size=4)
    assert [len(array.jobs) for array in arrays] == [4, 4, 3]
    assert [array.lane for array in arrays] == [0, 1, 2]
    assert [name for array in arrays for job in names(array) for name in job] == [
        f"resnet8-{number}" for number in range(21)
    ]


def test_models_with_resources_of_their_own_are_arrays_of_their_own(tmp_path):
    settings = ArraySettings(
        cells_per_job=2,
        per_model={"resnet18": {"mem_gb": 32}, "resnet20": {"mem_gb": 32}},
    )
    found = cells(tmp_path, "resnet8", "resnet18", "resnet8", "resnet20", "resnet8")
    arrays = arrays_of(found, settings, max_array_size=1001)
    assert [array.resources for array in arrays] == [{}, {"mem_gb": 32}]
    assert names(arrays[0]) == [["resnet8-0", "resnet8-2"], ["resnet8-4"]]
    # The same resources: they may share a job.
    assert names(arrays[1]) == [["resnet18-1", "resnet20-3"]]


def test_the_limit_of_the_sweep_is_dealt_out_among_its_arrays(tmp_path):
    settings = ArraySettings(max_parallel=6, per_model={"resnet18": {"mem_gb": 32}})
    found = cells(tmp_path, *["resnet8"] * 8, *["resnet18"] * 4)
    arrays = arrays_of(found, settings, max_array_size=1001)
    assert [(len(array.jobs), array.parallelism) for array in arrays] == [(8, 4), (4, 2)]
    assert len({array.lane for array in arrays}) == 2


def test_more_arrays_than_the_limit_stand_in_lanes(tmp_path):
    arrays = arrays_of(
        cells(tmp_path, *["resnet8"] * 10), ArraySettings(max_parallel=2), max_array_size=2
    )
    assert [array.lane for array in arrays] == [0, 1, 0, 1, 0]
    assert [array.parallelism for array in arrays] == [1, 1, 1, 1, 1]


@given(
    num_cells=st.integers(1, 60),
    limit=st.integers(1, 20),
    size=st.integers(1, 20),
    per_job=st.integers(1, 5),
)
def test_no_more_jobs_at_a_time_than_the_limit_and_no_cell_left_out(
    tmp_path_factory, num_cells, limit, size, per_job
):
    found = cells(tmp_path_factory.getbasetemp(), *["resnet8", "resnet18"] * num_cells)
    settings = ArraySettings(
        cells_per_job=per_job, max_parallel=limit, per_model={"resnet18": {"mem_gb": 1}}
    )
    arrays = arrays_of(found, settings, max_array_size=size)
    placed = [cell.key for array in arrays for job in array.jobs for cell in job]
    assert sorted(placed) == sorted(cell.key for cell in found)
    assert all(len(array.jobs) <= size for array in arrays)
    # Lanes run at the same time, the arrays of a lane one after the other.
    lanes = {}
    for array in arrays:
        lanes[array.lane] = max(lanes.get(array.lane, 0), array.parallelism)
    assert sum(lanes.values()) <= limit
    assert min(lanes.values()) >= 1


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8), extra=st.integers(0, 100))
def test_everybody_is_dealt_something_and_nobody_more_than_they_can_use(sizes, extra):
    total = len(sizes) + extra
    shares = deal(total, sizes)
    assert sum(shares) == min(total, sum(sizes))
    assert all(1 <= share <= size for share, size in zip(shares, sizes, strict=True))


def test_a_model_packs_and_works_as_is_said_of_it():
    settings = ArraySettings(
        cells_per_job=2,
        workers=2,
        per_model={"resnet8": {"cells_per_job": 3, "mem_gb": 4}},
        per_dataset={"digits": {"workers": 1}},
    )
    found = cells(Path(), *["resnet8"] * 4, *["resnet18"] * 3)
    small, large = arrays_of(found, settings, max_array_size=1001)
    assert [len(job) for job in small.jobs] == [3, 1] and small.resources == {"mem_gb": 4}
    assert [len(job) for job in large.jobs] == [2, 1] and large.resources == {}
    assert (small.share.workers, large.share.workers) == (1, 1)
    assert large.share.pool == PoolSettings(workers=1)


def test_what_is_said_of_the_data_goes_before_and_mappings_are_merged():
    settings = ArraySettings(
        per_model={"resnet8": {"mem_gb": 4, "additional_parameters": {"nice": 1, "begin": "now"}}},
        per_dataset={"digits": {"mem_gb": 8, "additional_parameters": {"nice": 2}}},
    )
    (cell,) = cells(Path(), "resnet8")
    assert settings.of(cell) == {
        "mem_gb": 8,
        "additional_parameters": {"nice": 2, "begin": "now"},
    }
