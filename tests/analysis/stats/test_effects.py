"""The 2x2 design: contrasts by hand, what is left out, families, and published numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from multirun_analysis.references import load_reference
from multirun_analysis.runs.load import read_frames
from multirun_analysis.stats.effects import (
    EFFECT_COLUMNS,
    EFFECTS,
    PUBLISHED_COLUMNS,
    estimate_effects,
    published_effects,
)
from multirun_analysis.stats.paired import benjamini_hochberg, holm, seeds_needed
from multirun_analysis.tables.effects import effects_page, published_page
from samsweep.config import OUTCOMES, CellConfig, Confirmatory
from samsweep.records.identity import short_hash
from samsweep.records.schema import Record, Status

from ..conftest import (
    Study,
    cell,
    dtypes,
    frames,
    measurement,
    metrics,
    record_of,
    spectrum,
    taken,
    variant,
)

#: Outcomes of the corners (sgd, sam, samdirection, sammagnitude) by seed, for hand calculation.
Y = {
    0: {"sgd": 90.0, "sam": 96.0, "samdirection": 91.0, "sammagnitude": 95.0},
    1: {"sgd": 88.0, "sam": 97.0, "samdirection": 90.0, "sammagnitude": 94.0},
    2: {"sgd": 91.0, "sam": 95.0, "samdirection": 92.0, "sammagnitude": 95.0},
}


def _record(
    config: CellConfig,
    accuracy: float | None = None,
    lambda_max: float | None = None,
    **fields: Any,
) -> Record:
    """A record in memory, whose other outcomes are the accuracy in other units."""
    if accuracy is not None:
        scaled = {"test_loss": accuracy / 100, "weight_norm": accuracy / 8}
        fields["metrics"] = metrics(accuracy).model_copy(update=scaled)
    measured = [] if lambda_max is None else [measurement(lambda_max)]
    return record_of(config, accuracy, *measured, **fields)


def _design(
    outcomes: Mapping[int, Mapping[str, float | None]],
    rho: float = 0.1,
    granularity: str = "element",
    *,
    lambda_of: Any = lambda accuracy: None,
    **changes: Any,
) -> list[Record]:
    """A record per seed and corner; None is a cell that is planned."""
    return [
        _record(
            cell(_corner(name, rho, granularity), seed=seed, **changes),
            value,
            None if value is None else lambda_of(value),
        )
        for seed, corners in outcomes.items()
        for name, value in corners.items()
    ]


def _corner(name: str, rho: float, granularity: str) -> Any:
    if name == "sgd":
        return variant("sgd")
    return variant(name, rho, **({"granularity": granularity} if name != "sam" else {}))


def _effects(records: Sequence[Record]) -> pd.DataFrame:
    read = frames(records)
    return estimate_effects(read.runs, read.measurements)


def _row(effects: pd.DataFrame, effect: str, outcome: str = "test_accuracy", **where: Any) -> Any:
    rows = effects[(effects["effect"] == effect) & (effects["outcome"] == outcome)]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    (row,) = rows.to_dict("records")
    return row


# --------------------------------------------------------------------------- contrasts


@pytest.mark.parametrize(
    ("effect", "by_seed"),
    [
        # Y_GS − Y_SG: 95 − 91, 94 − 90, 95 − 92
        ("magnitude_minus_direction", [4, 4, 3]),
        # ½[(Y_SS − Y_GS) + (Y_SG − Y_GG)]: ½(1 + 1), ½(3 + 2), ½(0 + 1)
        ("direction", [1, 2.5, 0.5]),
        # ½[(Y_SS − Y_SG) + (Y_GS − Y_GG)]: ½(5 + 5), ½(7 + 6), ½(3 + 4)
        ("magnitude", [5, 6.5, 3.5]),
        # Y_SS − Y_SG − Y_GS + Y_GG: 96−91−95+90, 97−90−94+88, 95−92−95+91
        ("interaction", [0, 1, -1]),
        ("direction_at_sgd_magnitude", [1, 2, 1]),  # 91−90, 90−88, 92−91
        ("direction_at_sam_magnitude", [1, 3, 0]),  # 96−95, 97−94, 95−95
        ("magnitude_at_sgd_direction", [5, 6, 4]),  # 95−90, 94−88, 95−91
        ("magnitude_at_sam_direction", [5, 7, 3]),  # 96−91, 97−90, 95−92
    ],
)
def test_contrasts_by_hand(effect: str, by_seed: list[float]) -> None:
    effects = _effects(_design(Y))
    row = _row(effects, effect)
    assert row["estimate"] == pytest.approx(np.mean(by_seed))
    assert row["median"] == pytest.approx(np.median(by_seed))
    half = 4.302653 * np.std(by_seed, ddof=1) / math.sqrt(3)
    assert row["t_high"] - row["estimate"] == pytest.approx(half, abs=1e-5)
    assert row["estimate"] - row["t_low"] == pytest.approx(half, abs=1e-5)
    assert (row["n"], row["n_lost"]) == (3, 0)
    assert math.isnan(row["bca_low"]) and math.isnan(row["bca_high"])
    assert _row(effects, effect, "test_loss")["estimate"] == pytest.approx(row["estimate"] / 100)
    assert _row(effects, effect, "weight_norm")["estimate"] == pytest.approx(row["estimate"] / 8)


def test_p_and_the_family_by_hand() -> None:
    effects = _effects(_design(Y))
    # 4, 4, 3 all of one sign: 2 of 8 patterns. 0, 1, −1 sum to 0: all of them.
    assert _row(effects, "magnitude_minus_direction")["p"] == 0.25
    assert _row(effects, "interaction")["p"] == 1.0
    # Nothing was named beforehand: eight effects on six outcomes, of which none is measured.
    assert set(effects["family"]) == {"exploratory"} and set(effects["family_size"]) == {48}
    assert set(effects["seeds_needed"]) == {6}
    adjusted = benjamini_hochberg(effects["p"].to_numpy())
    assert effects["p_adjusted"].to_numpy() == pytest.approx(adjusted)


def test_the_frame_is_tidy_and_has_its_columns_also_without_rows() -> None:
    effects = _effects(_design(Y, lambda_of=lambda value: value))
    for frame in (effects, _effects([]), _effects([_record(cell(variant("sgd")), 90.0)])):
        assert dtypes(frame) == EFFECT_COLUMNS
    assert len(effects) == len(EFFECTS) * len(OUTCOMES)
    assert effects["outcome"].drop_duplicates().tolist() == list(OUTCOMES)
    assert effects["effect"].drop_duplicates().tolist() == list(EFFECTS)
    measured = effects["outcome"] == "log_lambda_max"
    assert (effects["settings_key"].notna() == measured).all()
    (title,) = set(effects["recipe"])
    assert title.startswith("digits, 40 epochs, batch 128, SGD lr 0.1")
    assert set(zip(effects["dataset"], effects["epochs"], strict=True)) == {("digits", 40)}


def test_rounding_is_not_an_effect() -> None:
    # 0.1 + 0.2 − 0.3 in floating point: 5.6e-17, of one sign in every seed.
    outcomes = {
        seed: {"sgd": 0.1, "sam": 0.2, "samdirection": 0.3, "sammagnitude": 0.0}
        for seed in range(8)
    }
    row = _row(_effects(_design(outcomes)), "interaction")
    assert row["estimate"] == 0 and row["p"] == 1


# --------------------------------------------------------------------------- what is left out


def test_a_seed_without_all_its_values_is_left_out_and_counted_by_radius() -> None:
    records = [*_design(Y, 0.1), *(r for r in _design(Y, 0.2) if r.identity.variant.rho)]
    statuses: dict[tuple[str, float, int], Status] = {
        ("samdirection", 0.1, 0): "diverged",
        ("sammagnitude", 0.1, 1): "failed",
        ("sam", 0.2, 2): "running",
    }
    changed = []
    for record in records:
        v, seed = record.identity.variant, record.identity.seed
        status = statuses.get((v.name, v.rho or 0.0, seed))
        config = record.identity
        changed.append(record if status is None else _record(config, status=status))
    effects = _effects(changed)
    counts = ["n", "n_lost", "n_diverged", "n_failed", "n_missing"]

    def numbers(effect: str, rho: float) -> list[int]:
        row = _row(effects, effect, rho=rho)
        return [row[name] for name in counts]

    assert numbers("magnitude_minus_direction", 0.1) == [1, 2, 1, 1, 0]
    assert numbers("magnitude_minus_direction", 0.2) == [3, 0, 0, 0, 0], "it needs no SAM"
    assert numbers("interaction", 0.2) == [2, 1, 0, 0, 1]
    assert numbers("direction_at_sgd_magnitude", 0.1) == [2, 1, 1, 0, 0]
    assert numbers("magnitude_at_sgd_direction", 0.1) == [2, 1, 0, 1, 0]
    # Seed 2 alone is left at 0.1: 95 − 92.
    row = _row(effects, "magnitude_minus_direction", rho=0.1)
    assert row["estimate"] == 3 and math.isnan(row["t_low"]) and row["p"] == 1


def test_a_diverged_seed_is_counted_as_such_whatever_else_it_lacks() -> None:
    statuses: dict[str, Status] = {"samdirection": "diverged", "sammagnitude": "failed"}
    records = [_record(cell(variant(name, 0.1)), status=s) for name, s in statuses.items()]
    row = _row(_effects(records), "magnitude_minus_direction")
    assert (row["n"], row["n_diverged"], row["n_failed"], row["n_missing"]) == (0, 1, 0, 0)
    assert math.isnan(row["estimate"]) and math.isnan(row["p"]) and math.isnan(row["p_adjusted"])


def test_a_pruned_seed_is_left_out_and_has_a_column_of_its_own() -> None:
    records = _design(Y, 0.1)
    assert "n_pruned" not in _effects(records)
    for index, record in enumerate(records):
        if (record.identity.variant.name, record.identity.seed) == ("samdirection", 0):
            records[index] = _record(record.identity, status="pruned")
    row = _row(_effects(records), "magnitude_minus_direction", rho=0.1)
    assert (row["n"], row["n_lost"], row["n_pruned"], row["n_missing"]) == (2, 1, 1, 0)


def test_an_unmeasured_or_meaningless_eigenvalue_is_missing() -> None:
    lambdas = {95.0: 10.0, 94.0: None, 92.0: -1.0}
    records = _design(Y, lambda_of=lambda accuracy: lambdas.get(accuracy, 20.0))
    row = _row(_effects(records), "magnitude_minus_direction", "log_lambda_max")
    assert (row["n"], row["n_missing"]) == (1, 2)
    assert row["estimate"] == pytest.approx(math.log(10 / 20))


def test_unconverged_eigenvalues_are_used_and_counted() -> None:
    records = _design(Y, lambda_of=lambda accuracy: accuracy)
    key, value = next(iter(records[2].measurements.items()))
    doubtful = value.model_copy(update={"result": value.result | {"converged": False}})
    records[2] = records[2].model_copy(update={"measurements": {key: doubtful}})
    assert records[2].identity.variant.name == "samdirection"
    effects = _effects(records)
    row = _row(effects, "magnitude_minus_direction", "log_lambda_max")
    assert (row["n"], row["n_lost"], row["n_unconverged"]) == (3, 0, 1)
    assert _row(effects, "magnitude_at_sgd_direction", "log_lambda_max")["n_unconverged"] == 0


def test_seeds_of_sgd_and_sam_alone_are_no_lost_pairs() -> None:
    records = _design(Y)
    records += [
        _record(cell(variant(name, rho), seed=9), 90.0)
        for name, rho in (("sgd", None), ("sam", 0.1))
    ]
    effects = _effects(records)
    assert set(effects["n"]) == {3} and set(effects["n_lost"]) == {0}


# --------------------------------------------------------------------------- designs stay apart


def test_sgd_serves_every_radius_and_granularity() -> None:
    records = _design(Y, 0.1, "element")
    for rho, granularity in ((0.2, "element"), (0.1, "global"), (0.2, "global")):
        known = {record.cell_id for record in records}
        records += [r for r in _design(Y, rho, granularity) if r.cell_id not in known]
    rows = _effects(records).query("effect == 'direction' and outcome == 'test_accuracy'")
    places = [[granularity, rho] for granularity in ("element", "global") for rho in (0.1, 0.2)]
    assert rows[["granularity", "rho"]].to_numpy().tolist() == places
    assert set(rows["n"]) == {3}
    assert rows["estimate"].to_numpy() == pytest.approx([4 / 3] * 4)


def test_recipes_models_and_measurements_are_not_mixed() -> None:
    other = {
        seed: {n: v - 10 * (n == "sammagnitude") for n, v in y.items()} for seed, y in Y.items()
    }
    records = [
        *_design(Y, lambda_of=lambda value: value),
        *_design(other, lr=0.05),
        *_design(other, model="resnet20"),
    ]
    extra = measurement(50.0, num_examples=100)
    key = f"{extra.name}-{short_hash(extra.settings)}"
    records[:12] = [
        r.model_copy(update={"measurements": {**r.measurements, key: extra}}) for r in records[:12]
    ]
    effects = _effects(records)
    headline = effects[effects["effect"] == "magnitude_minus_direction"]
    accuracy = headline[headline["outcome"] == "test_accuracy"]
    assert accuracy.groupby(["recipe_key", "model"]).ngroups == len(accuracy) == 3
    assert sorted(accuracy["estimate"]) == pytest.approx([11 / 3 - 10, 11 / 3 - 10, 11 / 3])
    # A recipe is one family: of two models, one of them measured twice, or of one.
    assert sorted(accuracy["family_size"]) == [48, 128, 128]
    measured = headline[headline["outcome"] == "log_lambda_max"]
    by_model = measured[measured["model"] == "resnet8"].set_index("settings_label")["estimate"]
    assert len(by_model) == 2 and by_model.min() == 0 < by_model.max()
    # Unmeasured: the other model of a measured recipe; but not another recipe.
    assert set(measured["recipe_key"]) == {accuracy["recipe_key"].mode()[0]}


def test_the_adaptive_design_has_asam_as_its_corner() -> None:
    adaptive: dict[str, Any] = {"ascent": "adaptive", "eta": 0.01, "scaled": "weights"}
    records = _design(Y)
    for seed, y in Y.items():
        records += [
            _record(cell(variant("asam", 0.1), seed=seed), y["sam"] + 1),
            _record(cell(variant("samdirection", 0.1, **adaptive), seed=seed), y["samdirection"]),
            _record(cell(variant("sammagnitude", 0.1, **adaptive), seed=seed), y["sammagnitude"]),
            _record(cell(variant("sgdhess", 0.1), seed=seed), 50.0),
        ]
    effects = _effects(records)
    assert _row(effects, "interaction", ascent="plain")["estimate"] == pytest.approx(0)
    assert _row(effects, "interaction", ascent="adaptive")["estimate"] == pytest.approx(1)
    assert set(effects["eta"].dropna()) == {0.01}


def test_an_effect_is_planned_once_each_of_its_corners_has_a_cell() -> None:
    hybrids = {s: {n: v for n, v in y.items() if n != "sgd"} for s, y in Y.items()}
    effects = _effects(_design(hybrids))
    assert set(effects["effect"]) == {
        "magnitude_minus_direction",
        "direction_at_sam_magnitude",
        "magnitude_at_sam_direction",
    }


# --------------------------------------------------------------------------- families


def _two_models() -> list[Record]:
    """Both hybrids of two models at three radii, eight seeds; one point is planned only."""
    rng = np.random.default_rng(5)
    records: list[Record] = []
    for model in ("resnet8", "resnet20"):
        for rho in (0.1, 0.2, 0.4):
            planned_only = (model, rho) == ("resnet20", 0.4)
            for seed in range(8):
                for name in ("samdirection", "sammagnitude"):
                    value = 90 + rng.normal() + 3 * rho * (name == "sammagnitude")
                    config = cell(_corner(name, rho, "element"), seed=seed, model=model)
                    records.append(_record(config, None if planned_only else value))
    return records


def _plan(*rhos: float) -> Confirmatory:
    return Confirmatory(outcomes=["test_accuracy"], granularities=["element"], rhos=rhos)


def test_holm_runs_over_what_was_named_and_counts_what_is_planned() -> None:
    read = frames(_two_models())
    effects = estimate_effects(read.runs, read.measurements, _plan(0.1, 0.2, 0.4))
    named = effects[effects["family"] == "confirmatory"]
    assert set(named["outcome"]) == {"test_accuracy"}
    assert len(named) == 6 and set(named["family_size"]) == {6}
    assert np.isfinite(named["bca_low"]).sum() == 5, "eight seeds carry a bootstrap"
    assert set(named["seeds_needed"]) == {seeds_needed(6)} == {8}
    p = named["p"].to_numpy()
    assert np.isnan(p).sum() == 1
    assert named["p_adjusted"].to_numpy() == pytest.approx(holm(p), nan_ok=True)
    # Six tests, one of which is not made: the smallest p times six.
    assert named["p_adjusted"].min() == pytest.approx(6 * np.nanmin(p))
    # A radius that was named and has no cell counts too.
    effects_of_two = estimate_effects(read.runs, read.measurements, _plan(0.1, 0.8))
    few = effects_of_two[effects_of_two["family"] == "confirmatory"]
    assert len(few) == 2 and set(few["family_size"]) == {4}
    assert few["p_adjusted"].min() == pytest.approx(4 * few["p"].min())
    others = effects[effects["family"] == "exploratory"]
    assert set(others["family_size"]) == {len(others)}
    adjusted = benjamini_hochberg(others["p"].to_numpy())
    assert others["p_adjusted"].to_numpy() == pytest.approx(adjusted, nan_ok=True)


def test_interactions_that_ask_for_simple_effects() -> None:
    def flagged(interaction: float) -> bool:
        # D = M = 2, whatever the interaction: SS = 4, SG = GS = 2 − I/2, GG = 0 gives I.
        half = 2 - interaction / 2
        y = {"sgd": 0.0, "sam": 4.0, "samdirection": half, "sammagnitude": half}
        rows = _effects(_design({0: y, 1: y}))
        rows = rows[rows["outcome"] == "test_accuracy"]
        assert _row(rows, "direction")["estimate"] == _row(rows, "magnitude")["estimate"] == 2
        assert _row(rows, "interaction")["estimate"] == interaction
        (flag,) = set(rows["interaction_large"])
        return bool(flag)

    assert [flagged(i) for i in (0.0, 1.0, 1.25, -1.25)] == [False, False, True, True]


def test_an_interaction_told_from_zero_asks_for_them_however_small() -> None:
    y = {"sgd": 0.0, "sam": 40.0, "samdirection": 19.9, "sammagnitude": 19.9}
    six, five = (_effects(_design(dict.fromkeys(range(n), y))) for n in (6, 5))
    assert all(six.loc[six["outcome"] == "test_accuracy", "interaction_large"])
    assert not any(five["interaction_large"])


# --------------------------------------------------------------------------- published


def test_published_contrasts_under_both_readings() -> None:
    published = published_effects(load_reference())
    assert dtypes(published) == PUBLISHED_COLUMNS
    headline = published.query(
        "effect == 'magnitude_minus_direction' and outcome == 'test_accuracy'"
    )
    headline = headline.set_index(["reading", "model", "rho"]).sort_index()["estimate"]
    by_name = {
        "resnet18": [0.84, 0.71, -0.28],  # 78.73−77.89, 79.23−78.52, 77.94−78.22
        "resnet34": [0.73, -0.31, -3.64],  # 80.08−79.35, 79.71−80.02, 72.74−76.38
        "wrn28_10": [0.03, -1.91, -2.75],  # 82.47−82.44, 80.63−82.54, 79.36−82.11
    }
    for model, expected in by_name.items():
        assert headline["by_name", model].to_numpy() == pytest.approx(expected)
        assert headline["as_coded", model].to_numpy() == pytest.approx([-e for e in expected])
    assert headline["by_name", "resnet50"].isna().all(), "not published, but in the table"

    accuracy = published.query("outcome == 'test_accuracy' and reading == 'by_name' and rho == 0.1")
    assert set(accuracy.query("effect == 'direction'")["model"]) == {"resnet18"}
    found = accuracy[accuracy["model"] == "resnet18"].set_index("effect")["estimate"]
    # SS 79.24, SG 77.89, GS 78.73, GG 77.36.
    assert found["direction"] == pytest.approx(0.5 * ((79.24 - 78.73) + (77.89 - 77.36)))
    assert found["magnitude"] == pytest.approx(0.5 * ((79.24 - 77.89) + (78.73 - 77.36)))
    assert found["interaction"] == pytest.approx(79.24 - 77.89 - 78.73 + 77.36)
    sharpness = published.query("outcome == 'log_sharpness' and rho == 0.2").set_index(
        ["reading", "effect"]
    )["estimate"]
    log_ratio = math.log(114.01 / 3737.54)
    assert sharpness["by_name", "magnitude_minus_direction"] == pytest.approx(log_ratio)
    assert sharpness["as_coded", "magnitude_minus_direction"] == pytest.approx(-log_ratio)


def test_the_published_page_says_what_single_values_allow() -> None:
    page = published_page(published_effects(load_reference()))
    assert "without intervals or tests" in page.legend
    assert any("opposite" in text for text in page.sections[0].text)
    named = next(s for s in page.sections if "by the names" in s.heading)
    assert named.table is not None
    assert named.table.iloc[0].tolist()[2:] == ["+0.84", "+0.71", "−0.28"]
    assert named.table.iloc[2].tolist()[2:] == ["??"] * 3


# --------------------------------------------------------------------------- pages


def test_the_page_has_a_table_per_outcome_and_design() -> None:
    records = [*_design(Y, lambda_of=lambda value: value), *_design(Y, 0.1, "global")]
    known: set[str] = set()
    records = [r for r in records if not (r.cell_id in known or known.add(r.cell_id))]
    effects = _effects(records)
    page = effects_page(effects)
    assert page.name == "effects" and page.data is effects
    headings = [(section.level, section.heading) for section in page.sections]
    assert headings[0][0] == 2 and headings[0][1].startswith("digits, 40 epochs")
    assert headings[1] == (3, "test accuracy (percentage points), element-wise granularity")
    assert any("ln lambda_max, lambda_max, 2048 examples" in heading for _, heading in headings)
    table = page.sections[1].table
    assert table is not None
    assert table.iloc[0].to_dict() == {
        "effect": "M − D: SAMMAGNITUDE less SAMDIRECTION",
        "model": "resnet8",
        "rho": "0.1",
        "mean [95 % t]": "+3.67 [+2.23, +5.10]",
        "[95 % BCa]": "",
        "median": "+4.00",
        "at equal fit [95 % t]": "+3.67 [+2.23, +5.10]",  # all fit alike
        "p": "0.25",
        "p adjusted": "0.43 (BH, 112)",
        "seeds": "3",
    }
    assert len(table) == 4, "no simple effects beside a small interaction"


def test_the_page_counts_missing_seeds() -> None:
    planned = _effects(_design({0: dict.fromkeys(Y[0])}))
    table = effects_page(planned).sections[1].table
    assert table is not None
    assert table.iloc[0]["mean [95 % t]"] == "??" and table.iloc[0]["seeds"] == "0, 1 missing"


def test_what_is_no_eigenvalue_is_no_outcome(study: Study) -> None:
    for name in ("sgd", "sam", "samdirection", "sammagnitude"):
        rho = None if name == "sgd" else 0.1
        others = taken("trace", {"trace": 5.0, "lambda_max": 3.0}), spectrum(0.0, 1.0)
        study.add(cell(variant(name, rho)), 90.0, measurement(50.0), *others)
    read = read_frames(study.folder)
    effects = estimate_effects(read.runs, read.measurements)
    measured = effects[effects["outcome"] == "log_lambda_max"]
    assert measured["settings_key"].nunique() == 1
    assert measured["settings_key"].iloc[0].startswith("lambda_max-")
