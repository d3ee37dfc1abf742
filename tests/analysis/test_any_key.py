"""Keys of one's own in frames, labels and tables; any key in rows, columns and effects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multirun_analysis import load_runs, open_study
from multirun_analysis.__main__ import main
from multirun_analysis.runs.keys import COLUMNS, keys_frame, resolve_key, separating_keys
from multirun_analysis.stats.effects import estimate_effects
from multirun_analysis.stats.factor import factor_effects, parse_factor
from multirun_analysis.stats.summary import ordered_recipes, summarize
from multirun_analysis.tables.accuracy_sharpness import accuracy_page
from multirun_analysis.tables.pages import Page
from multirun_analysis.tables.study_pages import study_pages
from multirun_analysis.tables.swept import swept_page
from samsweep.config import CellConfig, ConfigError, ModelConfig, Variant

from .conftest import Study, cell, frames, measurement, record_of, taken, variant


def half(alpha: Any = 0.5, rho: float = 0.1, name: str = "half", **args: Any) -> Variant:
    """The variant of a combination of one's own, which is not registered here."""
    given_args = {"alpha": alpha, **args}
    return Variant(
        name=name, rho=rho, ascent="plain", combination="half", combination_args=given_args
    )


def own(chosen: Variant, sources: Any = None, args: Any = None, **changes: Any) -> CellConfig:
    """A cell of a network of one's own, which is not installed."""
    made = cell(chosen, **changes)
    model = ModelConfig(name="mlp", factory="gone.nets.mlp", args=args)
    return made.model_copy(update={"model": model, "sources": sources})


# --------------------------------------------------------------------------- one name, one thing

_ARGS = st.none() | st.dictionaries(
    st.sampled_from(["alpha", "a.b", "width", "name"]),
    st.sampled_from([0.5, 0.25, 1, 1.0, True, None, "1", "a", [1, 2], {"x": 1}, {"x": {"y": 2}}]),
    min_size=1,
    max_size=2,
)
_SOURCES = st.none() | st.dictionaries(
    st.sampled_from(["model", "combination", "ascent", "dataset", "loss"]),
    st.sampled_from(["f1", "f2"]),
    min_size=1,
    max_size=2,
)
_NAMES = st.sampled_from(["half", "HALF", "sam", "sgd", "samdirection"])


#: What plain SAM is without, at least one of it.
_FAMILY = st.fixed_dictionaries(
    {},
    optional={
        "ascent_direction": st.sampled_from(["random", "momentum"]),
        "ascent_steps": st.sampled_from([2, 3]),
        "perturb": st.sampled_from(["norm_layers", ("conv1.*", "fc.*"), ("conv1.*",)]),
        "m": st.sampled_from([16, 32]),
        "when": st.sampled_from(["every", "random"]),
        "rho_schedule": st.sampled_from(["cosine", "linear"]),
    },
).filter(bool)


@st.composite
def _variants(draw: st.DrawFn) -> Variant:
    args = draw(_ARGS)
    rho = draw(st.sampled_from([0.1, 0.2]))
    kind = draw(st.sampled_from(["ours", "combination", "optimizer", "ascent", "family"]))
    name = draw(_NAMES)
    path = draw(st.sampled_from(["half", "mylab.half", "other.half"]))
    if kind == "combination":
        return Variant(name=name, rho=rho, ascent="plain", combination=path, combination_args=args)
    if kind == "optimizer":
        return Variant(name=name, rho=rho, optimizer=path, optimizer_args=args)
    if kind == "ascent":
        return variant("sam", rho, ascent=path, ascent_args=args).model_copy(update={"name": name})
    if kind == "family":
        return variant("sam", rho).model_copy(update={"name": name, **draw(_FAMILY)})
    ours = draw(st.sampled_from(["sgd", "sam", "samdirection", "sammagnitude", "asam"]))
    return variant(ours, None if ours == "sgd" else rho)


@st.composite
def _cells(draw: st.DrawFn) -> CellConfig:
    recipe = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "base_args": _ARGS,
                "label_smoothing": st.sampled_from([0.1, 0.2]),
                "loss": st.sampled_from(["mse", "mylab.loss"]),
                "metric": st.sampled_from(["mae", "mylab.metric"]),
                "ema": st.just(0.9),
            },
        )
    )
    return own(
        draw(_variants()),
        draw(_SOURCES),
        draw(_ARGS),
        dataset={"args": draw(_ARGS), "train_fraction": draw(st.sampled_from([None, 0.5]))},
        seed=draw(st.sampled_from([0, 1])),
        **recipe,
    )


@settings(max_examples=12)
@given(st.lists(_cells(), min_size=2, max_size=8, unique_by=lambda c: json.dumps(c.identity())))
def test_two_different_things_never_carry_one_name(cells: list[CellConfig]) -> None:
    runs, measurements, skipped = frames(record_of(one, 90.0) for one in cells)
    assert not skipped and len(runs) == len(cells)
    recipes = ordered_recipes(runs)
    names = runs[["model", "optimizer", "granularity", "rho"]].assign(
        recipe=runs["recipe_key"].map(recipes)
    )
    distinct = {json.dumps({**one.identity(), "seed": 0}, sort_keys=True) for one in cells}
    assert len(names.drop_duplicates()) == len(distinct)
    # As many as there are in the tables, and in the keys.
    assert summarize(runs, "test_accuracy")["n"].sum() == len(cells)
    keys = keys_frame(runs)
    assert len(keys.drop(columns="seed").drop_duplicates()) == len(distinct)
    separating = separating_keys(keys)
    assert len(keys[separating].drop_duplicates()) == len(distinct) if separating else distinct
    estimate_effects(runs, measurements)


def test_labels_say_what_varies_and_nothing_else(study: Study) -> None:
    for alpha in (0.25, 0.5):
        for width in (8, 16):
            study.add(own(half(alpha, beta=3), args={"width": width, "depth": 2}), 90.0)
    study.add(own(variant("sgd"), args={"width": 8, "depth": 2}), 80.0)
    runs = load_runs(study.folder)
    assert set(runs["model"]) == {"mlp (width 8)", "mlp (width 16)"}
    assert set(runs["optimizer"]) == {"SGD", "HALF (alpha 0.25)", "HALF (alpha 0.5)"}
    assert set(runs["model_name"]) == {"mlp"} and set(runs["variant"]) == {"sgd", "half"}
    assert runs["model.args.width"].dtype == "Int64" and "model.args.depth" not in runs
    assert runs["opt.combination_args.alpha"].isna().sum() == 1
    [_, narrow, wide] = accuracy_page("default", runs).sections
    assert (narrow.heading, wide.heading) == ("mlp (width 8)", "mlp (width 16)")
    assert wide.table is not None
    assert wide.table["optimizer"].tolist() == ["HALF (alpha 0.25)", "HALF (alpha 0.5)"]


def test_parameter_groups_are_told_as_they_are_written(study: Study) -> None:
    groups = [{"params": "norm_layers", "weight_decay": 0.0}, {"params": ["fc.*"], "lr": 0.5}]
    for chosen in (None, groups, groups[:1]):
        study.add(cell(variant("sam"), groups=chosen), 90.0)
    page = accuracy_page("default", load_runs(study.folder))
    told = {section.heading for section in page.sections if "norm_layers" in section.heading}
    assert len(told) == 2


def test_one_name_from_two_sources_is_two_rows(study: Study) -> None:
    for source in ("aa", "bb"):
        study.add(own(half(), {"combination": source}), 90.0)
    runs = load_runs(study.folder)
    assert sorted(runs["optimizer"]) == [
        "HALF (source combination aa)", "HALF (source combination bb)"
    ]  # fmt: skip
    assert runs["row_key"].nunique() == 2 and runs["recipe_key"].nunique() == 1


def test_ones_own_is_no_corner_of_the_design(study: Study) -> None:
    for seed in range(3):
        for chosen in ("sgd", "sam", "samdirection", "sammagnitude"):
            study.add(cell(variant(chosen, None if chosen == "sgd" else 0.1), seed=seed), 90.0)
    before = estimate_effects(*frames(study.written)[:2])
    for seed in range(3):
        for name in ("sgd", "samdirection", "half"):
            study.add(cell(half(name=name), seed=seed), 50.0)
    after = estimate_effects(*frames(study.written)[:2])
    assert len(before) and before.equals(after)


def test_every_page_can_be_made_of_components_that_are_gone(study: Study, root: Path) -> None:
    for seed in range(2):
        study.add(own(half(), {"model": "x"}, seed=seed), 90.0, taken("l1", {"l1": 3.0}))
        study.add(own(variant("sgd"), {"model": "x"}, seed=seed, base="gone.Lion"), 80.0)
    pages = {page.name: page for page in study_pages(open_study("default", root))}
    assert "measure_l1" in pages
    assert "Lion lr 0.1" in str([section.heading for section in pages["accuracy"].sections])
    assert "log_lambda_max" not in set(open_study("default", root).effects["outcome"])


def test_no_page_is_a_path_that_a_record_chose(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")), 90.0, taken("../../etc/x", {"../../etc/x": 3.0}))
    pages = study_pages(open_study("default", root))
    assert [page.name for page in pages if "etc" in page.name] == ["measure__etc_x"]


# --------------------------------------------------------------------------- rows and columns


@pytest.fixture
def swept(study: Study) -> Study:
    """Two alphas at two radii and two learning rates, and SGD, of three seeds."""
    for seed in range(3):
        for lr in (0.1, 0.5):
            study.add(cell(variant("sgd"), seed=seed, lr=lr), 50.0 + seed + 10 * lr)
            for alpha in (0.25, 0.75):
                for rho in (0.1, 0.2):
                    score = 60.0 + seed + 10 * lr + alpha + rho
                    study.add(cell(half(alpha, rho), seed=seed, lr=lr), score, measurement(score))
    return study


def _tables(page: Page) -> dict[str, list[list[str]]]:
    return {
        section.heading: [list(section.table.columns), *section.table.to_numpy().tolist()]
        for section in page.sections
        if section.table is not None
    }


def test_any_keys_are_rows_and_columns(swept: Study, root: Path) -> None:
    page = swept_page(open_study("default", root), ["opt.alpha", "lr"], ["rho"], "test_accuracy")
    assert _tables(page) == {
        "": [
            ["opt.alpha", "lr", "no rho", "rho=0.1", "rho=0.2"],
            ["", "0.1", "52.00 ± 1.00 (n=3)", "", ""],
            ["", "0.5", "56.00 ± 1.00 (n=3)", "", ""],
            ["0.25", "0.1", "", "62.35 ± 1.00 (n=3)", "62.45 ± 1.00 (n=3)"],
            ["0.25", "0.5", "", "66.35 ± 1.00 (n=3)", "66.45 ± 1.00 (n=3)"],
            ["0.75", "0.1", "", "62.85 ± 1.00 (n=3)", "62.95 ± 1.00 (n=3)"],
            ["0.75", "0.5", "", "66.85 ± 1.00 (n=3)", "66.95 ± 1.00 (n=3)"],
        ]
    }
    [section] = page.sections
    assert section.best is not None and section.best.to_numpy().sum() == 3
    assert len(page.data) == 10 and page.data["n"].eq(3).all()


def test_what_else_varies_is_never_averaged(swept: Study, root: Path) -> None:
    page = swept_page(open_study("default", root), ["alpha"], [], "lambda_max")
    found = _tables(page)
    assert len(found) == 6  # two rates, each of two radii and SGD, which has no measurement
    assert all("n=3" in row[-1] for table in found.values() for row in table[1:] if row[0])
    by_seed = swept_page(open_study("default", root), ["seed"], ["alpha", "rho", "lr"], "test_loss")
    assert by_seed.data["n"].eq(1).all() and len(by_seed.data) == 30


def test_bad_keys_values_and_levels_are_a_sentence(
    swept: Study, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {
        "rows=alhpa": "did you mean 'opt.combination_args.alpha'?",
        "rows=opt cols=opt": "cols: opt is a key of the rows",
        "rows=opt value=test_acuracy": "did you mean 'test_accuracy'?",
        "effects=lr": "effects=lr: write a key and two different values",
        "effects=lr:0.1,0.6": "choose one of 0.1, 0.5.",
        "effects=seed:0,1": "choose another key",
        "effects=alhpa:0.25,0.75": "did you mean 'opt.combination_args.alpha'?",
    }
    for words, sentence in told.items():
        folders = [f"root={root}", f"out={root}"]
        assert main(["study=default", *words.split(), *folders]) == 2
        _, *lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and sentence in lines[0]


def test_a_part_of_a_name_has_to_say_which_key_is_meant(study: Study) -> None:
    study.add(cell(half(0.1), base_args={"alpha": 1}), 1.0)
    study.add(cell(half(0.2), base_args={"alpha": 2}), 1.0)
    keys = keys_frame(load_runs(study.folder))
    assert resolve_key("rows", "opt.alpha", keys, "s") == "opt.combination_args.alpha"
    assert resolve_key("rows", "base_args.alpha", keys, "s") == "base_args.alpha"
    with pytest.raises(ConfigError, match="may be opt.combination_args.alpha or base_args.alpha"):
        resolve_key("rows", "alpha", keys, "s")
    assert set(COLUMNS) <= set(keys.columns)


def test_levels_may_be_lists(study: Study) -> None:
    """As they are written for a sweep, with spaces or without."""
    betas: list[list[float]] = [[0.9, 0.99], [0.8, 0.99]]
    for pair in betas:
        study.add(cell(variant("sgd"), base_args={"betas": pair}), 1.0)
    runs = load_runs(study.folder)
    for text in ("[0.9,0.99],[0.8,0.99]", "[0.9, 0.99], [0.8, 0.99]"):
        levels = parse_factor(f"base_args.betas:{text}", runs, "s").levels
        assert [json.loads(level) for level in levels] == betas
    assert len(parse_factor("betas:[0.9,0.99]", runs, "s").levels) == 2


# --------------------------------------------------------------------------- effects


def test_a_factor_is_paired_by_seed_and_everything_else(swept: Study, root: Path) -> None:
    read = open_study("default", root)
    found = factor_effects(
        read.runs, read.measurements, parse_factor("alpha:0.25,0.75", read.runs, "default")
    )
    assert set(found.keys) == {"rho", "lr"} and found.confounded == ()
    rows = found.effects[found.effects["outcome"] == "test_accuracy"]
    assert len(rows) == 4 and np.allclose(rows["estimate"].astype(float), 0.5)
    assert rows["n"].tolist() == [3] * 4 and set(rows["family"]) == {"exploratory"}
    logs = found.effects[found.effects["outcome"] == "log_lambda_max"]
    first = 60.0 + 1 + 0.1
    expected = np.mean([np.log((first + s + 0.75) / (first + s + 0.25)) for s in range(3)])
    assert logs["estimate"].iloc[0] == pytest.approx(expected)


def test_a_cell_without_a_radius_is_compared_with_each(swept: Study, root: Path) -> None:
    read = open_study("default", root)
    factor = parse_factor("opt:sgd,half", read.runs, "default")
    found = factor_effects(read.runs, read.measurements, factor)
    rows = found.effects[found.effects["outcome"] == "test_accuracy"]
    assert len(rows) == 8  # two rates, two radii, two alphas
    assert sorted(rows["estimate"].round(6)) == sorted([10.35, 10.45, 10.85, 10.95] * 2)


def test_a_factor_agrees_with_the_contrast_of_the_hybrids(study: Study, root: Path) -> None:
    random = np.random.default_rng(0)
    for seed in range(8):
        for rho in (0.1, 0.2):
            for name in ("samdirection", "sammagnitude"):
                score = float(random.normal(90, 1))
                study.add(cell(variant(name, rho), seed=seed), score, measurement(score))
    read = open_study("default", root)
    factor = parse_factor("opt:samdirection,sammagnitude", read.runs, "default")
    found = factor_effects(read.runs, read.measurements, factor).effects
    headline = read.effects[read.effects["effect"] == "magnitude_minus_direction"]
    ours = found.set_index(["outcome", "rho"]).sort_index()
    theirs = headline.set_index(["outcome", "rho"]).sort_index()
    for name in ("estimate", "median", "t_low", "t_high", "bca_low", "bca_high", "p", "fit_r2"):
        assert np.allclose(ours[name].astype(float), theirs[name].astype(float), equal_nan=True), (
            name
        )


def test_what_changes_with_the_factor_is_named(study: Study, root: Path) -> None:
    for seed in range(2):
        study.add(cell(variant("sgd"), seed=seed, momentum=0.0, lr=0.5), 80.0)
        study.add(cell(variant("sgd"), seed=seed, momentum=0.9, lr=0.1), 90.0)
    read = open_study("default", root)
    factor = parse_factor("momentum:0,0.9", read.runs, "default")
    found = factor_effects(read.runs, read.measurements, factor)
    assert found.confounded == ("lr 0.5 and 0.1",)
    assert main(["study=default", f"root={root}", f"out={root}", "effects=momentum:0,0.9"]) == 0
    page = (root / "default" / "factor.md").read_text()
    assert "momentum: 0.9 less 0" in page and "lr 0.5 and 0.1" in page


def test_lost_seeds_are_counted(study: Study, root: Path) -> None:
    for seed in range(4):
        study.add(cell(variant("sgd"), seed=seed, momentum=0.0), 80.0)
        state = None if seed < 2 else "diverged"
        study.add(
            cell(variant("sgd"), seed=seed, momentum=0.9), 90.0 if seed < 2 else None, status=state
        ) if seed < 3 else None
    read = open_study("default", root)
    factor = parse_factor("momentum:0,0.9", read.runs, "default")
    rows = factor_effects(read.runs, read.measurements, factor).effects
    row = rows[rows["outcome"] == "test_accuracy"].iloc[0]
    assert (row["n"], row["n_diverged"], row["n_missing"]) == (2, 1, 1)


# --------------------------------------------------------------------------- effects of any value


def l1(value: float | None, **settings: Any) -> Any:
    """What a plugin's own measure found, which is not registered here."""
    return taken("weight_l1", {"weight_l1": value, "num_forwards": 3}, **settings)


@pytest.fixture
def measured(study: Study) -> Study:
    """Both hybrids between SGD and SAM, of eight seeds, with measures of one's own and ours."""
    random = np.random.default_rng(1)
    for seed in range(8):
        for name in ("sgd", "sam", "samdirection", "sammagnitude"):
            score = float(random.normal(90, 1))
            found = [measurement(score), l1(2 * score), taken("trace", {"trace": 10 * score})]
            study.add(cell(variant(name, None if name == "sgd" else 0.1), seed=seed), score, *found)
    return study


SAME = ("estimate", "median", "t_low", "t_high", "bca_low", "bca_high", "p", "n")


def _headline(effects: Any) -> Any:
    (row,) = effects[effects["effect"] == "magnitude_minus_direction"].to_dict("records")
    return row


def test_effects_of_an_own_measure_have_the_statistics_of_all(measured: Study, root: Path) -> None:
    read = open_study("default", root)
    accuracy = _headline(read.effects[read.effects["outcome"] == "test_accuracy"])
    logs = _headline(read.effects[read.effects["outcome"] == "log_lambda_max"])

    def of(value: str) -> Any:
        return _headline(estimate_effects(read.runs, read.measurements, value=value))

    own = of("weight_l1")
    assert own["outcome"] == "weight_l1" and own["settings_label"] is not None
    for name in ("estimate", "median", "t_low", "t_high", "bca_low", "bca_high", "fit_estimate"):
        assert own[name] == pytest.approx(2 * accuracy[name], nan_ok=True), name
    assert (own["p"], own["n"]) == (accuracy["p"], 8)
    assert own["family"] == "exploratory"
    # A logarithm where it is asked for, of a measure of ours or one's own alike.
    for name in ("log_trace", "log_weight_l1"):
        assert all(of(name)[s] == pytest.approx(logs[s]) for s in SAME), name
    # Any number of the training, and another number of a measure.
    assert of("val_accuracy")["estimate"] == pytest.approx(accuracy["estimate"])
    assert of("weight_l1.num_forwards")["estimate"] == 0


def test_a_factor_has_effects_on_an_own_measure(measured: Study, root: Path) -> None:
    read = open_study("default", root)
    factor = parse_factor("opt:samdirection,sammagnitude", read.runs, "default")
    found = factor_effects(read.runs, read.measurements, factor, value="weight_l1").effects
    (row,) = found.to_dict("records")
    theirs = _headline(estimate_effects(read.runs, read.measurements, value="weight_l1"))
    assert row["outcome"] == "weight_l1"
    assert all(row[name] == pytest.approx(theirs[name]) for name in SAME)


def test_what_is_not_measured_or_has_no_logarithm_is_counted(study: Study, root: Path) -> None:
    for seed, (first, second) in enumerate([(1.0, 2.0), (None, 2.0), (-1.0, 2.0)]):
        for name, value in (("samdirection", first), ("sammagnitude", second)):
            study.add(cell(variant(name, 0.1), seed=seed), 90.0, l1(value))
    read = open_study("default", root)

    def of(value: str) -> Any:
        return _headline(estimate_effects(read.runs, read.measurements, value=value))

    assert (of("weight_l1")["n"], of("weight_l1")["n_missing"]) == (2, 1)
    assert (of("log_weight_l1")["n"], of("log_weight_l1")["n_missing"]) == (1, 2)
    assert of("log_weight_l1")["estimate"] == pytest.approx(np.log(2))


def test_measurements_of_other_settings_are_other_outcomes(study: Study, root: Path) -> None:
    for name in ("samdirection", "sammagnitude"):
        found = [l1(1.0, num_examples=100), l1(2.0, num_examples=200)]
        study.add(cell(variant(name, 0.1)), 90.0, *found)
    read = open_study("default", root)
    effects = estimate_effects(read.runs, read.measurements, value="weight_l1")
    headline = effects[effects["effect"] == "magnitude_minus_direction"]
    assert len(headline) == 2 and headline["settings_label"].nunique() == 2


@pytest.mark.parametrize(
    ("effects", "page", "title"),
    [
        ("effects=design", "design", "ln weight_l1"),
        ("effects=opt:samdirection,sammagnitude", "factor", "ln weight_l1"),
    ],
)
def test_the_command_takes_an_own_measure(
    measured: Study, root: Path, effects: str, page: str, title: str
) -> None:
    words = ["study=default", f"root={root}", f"out={root}", "quiet=true"]
    assert main([*words, effects, "value=log_weight_l1"]) == 0
    text = (root / "default" / f"{page}.md").read_text()
    assert title in text and "test accuracy" not in text


def test_the_design_of_a_usual_outcome_is_that_of_its_page(measured: Study, root: Path) -> None:
    words = ["study=default", f"root={root}", f"out={root}", "quiet=true"]
    assert main([*words, "effects=design", "value=test_loss"]) == 0
    read = open_study("default", root)
    design = pd.read_csv(root / "default" / "design.csv")
    ours = read.effects[read.effects["outcome"] == "test_loss"].reset_index(drop=True)
    assert design["p_adjusted"].tolist() == pytest.approx(ours["p_adjusted"].tolist(), nan_ok=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["effects=design", "value=weight_l2"],
            ["'weight_l2'", "did you mean 'weight_l1'", "log_"],
        ),
        (["value=weight_l1"], ["value=weight_l1", "rows=", "effects="]),
        (["effects=design", "value=trace.nothing"], ["'trace.nothing'", "num_hvps"]),
    ],
)
def test_a_value_that_means_nothing_is_refused(
    measured: Study,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: list[str],
) -> None:
    assert main(["study=default", f"root={root}", f"out={root}", *words]) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in told) and "Traceback" not in said


def test_a_design_without_hybrids_is_refused(
    swept: Study, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study=default", f"root={root}", f"out={root}", "effects=design", "value=lambda_max"]
    assert main(words) == 2
    assert "samdirection" in capsys.readouterr().err


# --------------------------------------------------------------------------- metrics


def test_the_metric_names_the_column_and_says_what_is_better(study: Study, root: Path) -> None:
    for seed in range(2):
        for name, score in (("sam", 0.5), ("samdirection", 0.3), ("sammagnitude", 0.4)):
            chosen = cell(variant(name, 0.1), seed=seed, loss="mse", metric="mae")
            study.add(chosen, score)
    read = open_study("default", root)
    page = accuracy_page("default", read.runs)
    assert page.title == "Test mean absolute error, last epoch: study default"
    assert "Bold: the lowest" in page.legend
    [_, section] = page.sections
    assert section.best is not None
    assert section.best["rho=0.1"].tolist() == [False, True, False]
    assert main(["study=default", f"root={root}", f"out={root}", "--quiet"]) == 0
    effects = (root / "default" / "effects.md").read_text()
    assert "test mean absolute error" in effects and "percentage points" not in effects


def test_a_metric_that_is_gone_has_its_name_and_no_best(study: Study) -> None:
    for name in ("sam", "samdirection"):
        study.add(cell(variant(name, 0.1), metric="gone.metrics.f1"), 0.5)
    page = accuracy_page("default", load_runs(study.folder))
    assert page.title.startswith("Test f1, last epoch")
    assert page.sections[1].best is not None and not page.sections[1].best.to_numpy().any()
