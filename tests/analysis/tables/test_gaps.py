"""What a study lacks, and that the commands would train exactly that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import pytest

from multirun_analysis.stats.effects import estimate_effects
from multirun_analysis.tables.gaps import (
    MISSING_COLUMNS,
    blocks,
    fill_commands,
    missing_cells,
    more_seeds_command,
)
from samsweep.config import CellConfig, Variant
from samsweep.records.identity import RESULTS_VERSION, cell_id
from samsweep.records.schema import Record, Status

from ..conftest import metrics, variant
from ..grids import cell, composed, frames


def _record(config: CellConfig, status: Status = "complete", **changes: Any) -> Record:
    usual: dict[str, Any] = {
        "results_version": RESULTS_VERSION,
        "cell_id": cell_id(config),
        "study": "mine",
        "identity": config,
        "formula": config.variant.formula,
        "status": status,
        "metrics": metrics(90.0) if status == "complete" else None,
    }
    return Record(**(usual | changes))


def _assert_filled(records: Sequence[Record], wanted: Iterable[CellConfig]) -> list[str]:
    """The cells that are missing are the wanted ones, and so are those of the commands."""
    runs = frames(records).runs
    ids = sorted(cell_id(config) for config in wanted)
    assert sorted(missing_cells(runs)["cell_id"]) == ids
    commands = fill_commands(runs)
    assert sorted(composed(commands)) == [("mine", name) for name in ids]
    return commands


def _hybrids(rho: float, granularity: str = "element") -> list[Variant]:
    names = ("samdirection", "sammagnitude")
    return [variant(name, rho, granularity=granularity) for name in names]


def _design(*rhos: float) -> list[Variant]:
    sams = [variant("sam", rho) for rho in rhos]
    return [variant("sgd"), *sams, *(hybrid for rho in rhos for hybrid in _hybrids(rho))]


def test_a_finished_rectangle_lacks_nothing() -> None:
    records = [_record(cell(v, seed=seed)) for v in _design(0.1, 0.2) for seed in (0, 1)]
    assert _assert_filled(records, []) == []
    empty = missing_cells(frames(records).runs)
    assert {str(k): str(v) for k, v in empty.dtypes.items()} == dict(MISSING_COLUMNS)
    assert missing_cells(frames([]).runs).empty and fill_commands(frames([]).runs) == []


def test_whatever_has_no_result_is_missing_and_a_diverged_cell_has_one() -> None:
    statuses: list[Status] = ["complete", "diverged", "planned", "failed", "interrupted", "running"]
    cells = [cell(variant("sam", 0.1), seed=seed) for seed in range(6)]
    records = [_record(c, status) for c, status in zip(cells, statuses, strict=True)]
    (command,) = _assert_filled(records, cells[2:])
    assert command.endswith("'seed=range(2,6)'")
    assert missing_cells(frames(records).runs)["status"].tolist() == statuses[2:]


def test_the_rectangle_is_filled_in_every_direction() -> None:
    # A radius of SAM's alone, a granularity at one radius, a seed of SGD's.
    sam, other, seeded = variant("sam", 0.2), _hybrids(0.1, "global"), variant("sgd")
    records = [_record(cell(v)) for v in [*_design(0.1), sam, *other]]
    records.append(_record(cell(seeded, seed=3)))
    full = [*_design(0.1, 0.2), *other, *_hybrids(0.2, "global")]
    there = {record.cell_id for record in records}
    everything = [cell(v, seed=seed) for v in full for seed in (0, 3)]
    wanted = [c for c in everything if cell_id(c) not in there]
    _assert_filled(records, wanted)
    frame = missing_cells(frames(records).runs)
    assert set(frame["status"]) == {"missing"}
    assert len(frame) == 2 * (1 + 2 + 8) - len(records)


def test_factors_of_sgdhess_and_radii_of_asam_are_their_own() -> None:
    variants = [
        *_design(0.1, 0.2),
        variant("sgdhess", 0.05),
        variant("sgdhess", 2.0),
        variant("sgdhess", 0.5, curvature="exact"),
        variant("asam", 0.5),
        variant("asam", 1.0),
    ]
    records = [_record(cell(v)) for v in variants]
    _assert_filled(records, [])
    # An adaptive hybrid shares the radii of ASAM.
    adaptive = {"ascent": "adaptive", "eta": 0.01, "scaled": "weights"}
    records.append(_record(cell(variant("samdirection", 0.5, **adaptive))))
    _assert_filled(records, [cell(variant("samdirection", 1.0, **adaptive))])


def test_recipes_and_models_are_rectangles_of_their_own() -> None:
    records = [
        _record(cell(variant("sam", 0.1), model="resnet20", lr=0.05)),
        _record(cell(variant("sam", 0.2), model="resnet20", lr=0.05, seed=1)),
        _record(cell(variant("sam", 0.4), model="resnet8", dataset={"label_noise": 0.2})),
        _record(cell(variant("sam", 0.8), model="resnet8")),
    ]
    wanted = [
        cell(variant("sam", 0.1), model="resnet20", lr=0.05, seed=1),
        cell(variant("sam", 0.2), model="resnet20", lr=0.05, seed=0),
    ]
    commands = _assert_filled(records, wanted)
    assert all("lr=0.05 model=resnet20" in command for command in commands)


def test_cells_of_older_code_cannot_be_added_to() -> None:
    old = {"results_version": RESULTS_VERSION + 1}
    records = [
        _record(cell(variant("sam", 0.1)), "failed", **old, cell_id="old"),
        _record(cell(variant("sam", 0.2), seed=1), **old, cell_id="older"),
    ]
    _assert_filled(records, [])


# --------------------------------------------------------------------------- more seeds


def _more(runs: pd.DataFrame, row: Any, more: int) -> str:
    return more_seeds_command(blocks(runs)[row["recipe_key"], row["model"]], row, more)


def _headline(records: Sequence[Record], effect: str = "magnitude_minus_direction") -> Any:
    runs = frames(records).runs
    effects = estimate_effects(runs, frames(records).measurements)
    rows = effects[(effects["effect"] == effect) & (effects["outcome"] == "test_accuracy")]
    return runs, rows.iloc[0].to_dict()


def test_more_seeds_are_new_ones_of_the_whole_design() -> None:
    records = [_record(cell(v, seed=seed)) for v in _design(0.1, 0.2) for seed in (0, 1)]
    runs, row = _headline(records)
    command = _more(runs, row, 3)
    expected = [cell(v, seed=seed) for v in _design(0.1, 0.2) for seed in (2, 3, 4)]
    assert sorted(composed([command])) == sorted(("mine", cell_id(c)) for c in expected)


def test_seeds_that_were_begun_come_first() -> None:
    cells = [cell(v, seed=seed) for v in _design(0.1) for seed in (0, 1, 2)]
    records = [
        _record(c, "failed" if c.seed == 1 and c.variant.name == "samdirection" else "complete")
        for c in cells
    ]
    runs, row = _headline(records)
    assert row["n"] == 2 and row["n_failed"] == 1
    assert _more(runs, row, 3).endswith("seed=1,3,4")


def test_more_seeds_keep_to_the_design() -> None:
    adaptive: dict[str, Any] = {"ascent": "adaptive", "eta": 0.01, "scaled": "weights"}
    ours = [
        variant("sgd"),
        variant("asam", 0.5),
        variant("samdirection", 0.5, **adaptive),
        variant("sammagnitude", 0.5, **adaptive),
    ]
    others = [*_design(0.1), *_hybrids(0.1, "global"), variant("sgdhess", 1.0)]
    records = [_record(cell(v)) for v in [*ours, *others[1:]]]
    records += [_record(cell(v, model="resnet20")) for v in others]
    runs = frames(records).runs
    effects = estimate_effects(runs, frames(records).measurements)
    row = effects[effects["ascent"] == "adaptive"].iloc[0].to_dict()
    command = _more(runs, row, 1)
    expected = [cell(v, seed=1) for v in ours]
    assert sorted(composed([command])) == sorted(("mine", cell_id(c)) for c in expected)


@pytest.mark.parametrize("effect", ["magnitude_minus_direction", "interaction"])
def test_a_design_without_sgd_asks_for_none(effect: str) -> None:
    variants = [v for v in _design(0.1) if v.name != "sgd"]
    records = [_record(cell(v)) for v in variants]
    runs = frames(records).runs
    effects = estimate_effects(runs, frames(records).measurements)
    assert set(effects["effect"]) == {
        "magnitude_minus_direction",
        "direction_at_sam_magnitude",
        "magnitude_at_sam_direction",
    }, "no effect is planned without its corners"
    row = {**effects.iloc[0].to_dict(), "effect": effect}
    assert "opt=sam,samdirection,sammagnitude" in _more(runs, row, 1)


def test_frames_of_wholly_missing_columns_are_read() -> None:
    runs = frames([_record(cell(variant("sgd")), "planned")]).runs
    assert isinstance(missing_cells(runs), pd.DataFrame)
    assert composed(fill_commands(runs)) == [("mine", cell_id(cell(variant("sgd"))))]
