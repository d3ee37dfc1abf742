"""Figures: what they show is what the frames hold, and every file is the same each time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from multirun_analysis.figures.captions import Picture, Recipe
from multirun_analysis.figures.effects import HEADLINE, MAIN, SIMPLE, forest
from multirun_analysis.figures.epochs import (
    AMPLIFIED,
    LEARNING,
    MOST_COLUMNS,
    PERTURBATION,
    epoch_summary,
    layer_cosines,
    left_out,
    over_epochs,
)
from multirun_analysis.figures.gallery import draw_figures, write_figures
from multirun_analysis.figures.panels import Series, by_series, granularity_groups
from multirun_analysis.figures.rho import SHARPNESS, TEST_ACCURACY, against_rho
from multirun_analysis.figures.scatter import scatter
from multirun_analysis.figures.style import (
    Palette,
    SeriesStyle,
    apart,
    png_bytes,
    shade,
    svg_bytes,
    thinned,
    titled,
    variant_style,
)
from multirun_analysis.runs.load import load_history, load_measurements, load_runs
from multirun_analysis.stats.summary import join_measurements, summarize
from multirun_analysis.study import Study as ReadStudy
from multirun_analysis.study import open_study

from ..conftest import Study, cell, measurement, panels, variant

RADII = (0.1, 0.2, 0.4)
# The fixtures of the module are made once: one worker runs it.
pytestmark = pytest.mark.xdist_group("figures")

HYBRIDS = [(name, g) for name in ("samdirection", "sammagnitude") for g in ("element", "global")]


def write_history(study: Study, record: Any, epochs: int = 6, **numbers: Any) -> None:
    """A history in the form in which a run writes it."""
    rows = [
        {
            "train_loss": 2.0 / epoch,
            "val_loss": 2.1 / epoch,
            "train_accuracy": 50.0 + epoch,
            "val_accuracy": 60.0 + epoch,
            "weight_norm": 12.0,
            **numbers,
        }
        for epoch in range(1, epochs + 1)
    ]
    study.add_history(record, rows)


def fill(study: Study, *, model: str = "resnet8", seeds: int = 3, **recipe: Any) -> None:
    """A whole grid: SGD, SGDHESS, SAM and the hybrids, with histories."""
    rng = np.random.default_rng(0)
    variants = [variant("sgd"), *(variant("sgdhess", rho) for rho in (0.5, 1.0))]
    variants += [variant("sam", rho) for rho in RADII]
    variants += [variant(name, rho, granularity=g) for name, g in HYBRIDS for rho in RADII]
    for seed in range(seeds):
        for one in variants:
            config = cell(one, model=model, seed=seed, **recipe)
            found = measurement(float(np.exp(rng.normal(4, 0.5))))
            record = study.add(config, float(rng.normal(95, 1)), found)
            numbers: dict[str, Any] = {}
            if one.rho is not None and one.name != "sgdhess":
                numbers = {
                    "amplified_share": 0.5 + 0.1 * rng.random(),
                    "cosine": 0.9,
                    "directional_curvature": None,
                    "layer_cosines": {"conv1.weight": 0.5, "fc.weight": 0.9},
                }
            write_history(study, record, **numbers)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> ReadStudy:
    """A full grid of three seeds, read."""
    root = tmp_path_factory.mktemp("multirun")
    fill(Study(root / "default"))
    return open_study("default", root)


@pytest.fixture(scope="module")
def against(grid: ReadStudy) -> Figure:
    """The accuracies of the full grid against rho, drawn once."""
    return drawn(against_rho(grid.runs, TEST_ACCURACY, Palette(grid.runs)))


@pytest.fixture(scope="module")
def pictures(grid: ReadStudy) -> dict[str, Picture]:
    """The figures of the full grid, drawn once."""
    return draw_figures(grid, effects_frame(recipe_key=grid.runs["recipe_key"].iloc[0]))


def effects_frame(**changes: Any) -> pd.DataFrame:
    """Effects in the shape of the effects frame: one recipe and model, two granularities."""
    rows = []
    effects = enumerate((*HEADLINE, *MAIN, *SIMPLE), start=1)
    for granularity, outcome, rho, (k, effect) in product(
        ("element", "global"), ("test_accuracy", "log_lambda_max"), RADII, effects
    ):
        estimate = rho * k * (1 if granularity == "element" else -1)
        measured = outcome == "log_lambda_max"
        rows.append(
            {
                "settings_key": "lambda_max-1" if measured else pd.NA,
                "settings_label": "lambda_max, 898 examples" if measured else pd.NA,
                "granularity": granularity,
                "outcome": outcome,
                "rho": rho,
                "effect": effect,
                "estimate": estimate,
                "t_low": estimate - 0.5,
                "t_high": estimate + 0.5,
                "bca_low": estimate - 0.4,
                "bca_high": estimate + 0.6,
            }
        )
    usual = {
        "recipe_key": "r", "model": "resnet8", "ascent": "plain", "eta": np.nan, "scaled": pd.NA,
        "n": 10, "p_adjusted": 0.006, "fit_estimate": np.nan, "fit_low": np.nan, "fit_high": np.nan,
    }  # fmt: skip
    return pd.DataFrame(rows).assign(**{**usual, **changes})


def drawn(figure: Figure | None) -> Figure:
    """The figure, which must be there."""
    assert figure is not None
    return figure


def labels(axes: Axes) -> set[str]:
    """Labels of the series in a panel."""
    return {text for text in axes.get_legend_handles_labels()[1] if not text.startswith("_")}


def legend_texts(figure: Figure) -> list[str]:
    """What the legend names."""
    return [text.get_text() for text in figure.legends[0].get_texts() if text.get_text()]


# --------------------------------------------------------------------------- style


def every_style() -> Iterator[tuple[str, SeriesStyle]]:
    for name in ("sgd", "sgdhess", "sam", "asam"):
        yield name, variant_style(name)
    for name in ("samdirection", "sammagnitude"):
        for granularity in ("element", "tensor", "global"):
            yield f"{name} {granularity}", variant_style(name, granularity)


def test_every_series_is_told_apart_without_colour() -> None:
    styles = dict(every_style())
    seen = {(style.marker, str(style.line), style.filling) for style in styles.values()}
    assert len(seen) == len(styles)


def test_the_colours_of_the_four_corners_differ_in_grey() -> None:
    def grey(colour: str) -> float:
        return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))

    corners = ("sgd", "sam", "samdirection", "sammagnitude")
    levels = sorted(grey(variant_style(name).colour) for name in corners)
    assert min(np.diff(levels)) > 0.05


def test_labels_of_one_variant_differ_in_marker_and_colour(study: Study, root: Path) -> None:
    study.add(cell(variant("samdirection", 0.1)), 90.0)
    study.add(cell(variant("samdirection", 0.1, ascent="adaptive", scaled="weights")), 91.0)
    palette = Palette(load_runs(root / "default"))
    plain = palette.style("SAMDIRECTION", "samdirection", "element")
    adaptive = palette.style("SAMDIRECTION (adaptive)", "samdirection", "element")
    assert plain == variant_style("samdirection", "element")
    assert plain.marker != adaptive.marker and plain.colour != adaptive.colour


def test_shades_grow_darker_to_the_full_colour() -> None:
    shades = [shade("#0072B2", rank, 3) for rank in range(3)]
    greys = [sum(to_rgb(colour)) for colour in shades]
    assert greys[0] > greys[1] > greys[2]
    assert shades[2] == "#0072b2"
    assert shade("#0072B2", 0, 1) == "#0072B2"


def test_few_values_of_many_keep_the_ends() -> None:
    assert thinned([1, 2, 3], 5) == [1, 2, 3]
    assert thinned(list(range(101)), 5) == [0, 25, 50, 75, 100]
    assert apart({0.0: 1.0, 0.1: 2.0, 1.0: 3.0, 1.05: 4.0}, 0.5) == [2.0, 4.0]


def test_drawing_leaves_matplotlib_as_it_was(grid: ReadStudy) -> None:
    before = dict(matplotlib.rcParams)
    draw_figures(grid)
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()


# --------------------------------------------------------------------------- against rho


def test_panels_are_granularities_with_sam_in_each_and_sgdhess_apart(grid: ReadStudy) -> None:
    series = by_series(grid.runs)
    assert next(iter(series)) == Series("SGD", "sgd", None)
    found = granularity_groups(series)
    assert {group.title: [one.label for one in group.series] for group in found} == {
        "by element": ["SAM", "SAMDIRECTION, element", "SAMMAGNITUDE, element"],
        "over the whole gradient": ["SAM", "SAMDIRECTION, global", "SAMMAGNITUDE, global"],
        "curvature in place of a perturbation": ["SGDHESS"],
    }


def test_means_and_bars_are_those_of_the_summary(grid: ReadStudy, against: Figure) -> None:
    summary = summarize(grid.runs, "test_accuracy")
    seen = 0
    for axes in panels(against):
        for container in axes.containers:
            assert isinstance(container, ErrorbarContainer)
            name, _, granularity = str(container.get_label()).partition(", ")
            rows = summary[summary["optimizer"] == name]
            if granularity:
                rows = rows[rows["granularity"] == granularity]
            line, _, (bars,) = container.lines
            assert line is not None
            np.testing.assert_array_equal(line.get_xdata(), rows["rho"])
            np.testing.assert_array_equal(line.get_ydata(), rows["mean"])
            heights = [path[1, 1] - path[0, 1] for path in bars.get_segments()]
            np.testing.assert_allclose(heights, 2 * rows["sd"])
            seen += 1
    assert seen == 3 + 3 + 1


def test_every_seed_is_a_faint_point(grid: ReadStudy, against: Figure) -> None:
    faint = [line for line in panels(against)[0].lines if line.get_alpha() == 0.45]
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in faint])
    here = grid.runs[
        grid.runs["variant"].isin(["sgd", "sam"]) | (grid.runs["granularity"] == "element")
    ]
    np.testing.assert_array_equal(np.sort(values), np.sort(here["test_accuracy"]))
    assert len(values) == 3 * (1 + 3 + 3 + 3)


def test_sgd_is_a_horizontal_line_at_its_mean_in_every_panel(
    grid: ReadStudy, against: Figure
) -> None:
    mean = grid.runs.loc[grid.runs["variant"] == "sgd", "test_accuracy"].mean()
    for axes in panels(against):
        flat = [line for line in axes.lines if list(line.get_xdata()) == [0, 1]]
        assert [float(line.get_ydata()[0]) for line in flat] == [pytest.approx(mean)]
    assert "SGD, mean ± sd" in legend_texts(against)


def test_every_mean_and_seed_is_inside_its_panel(grid: ReadStudy) -> None:
    joined = join_measurements(grid.runs, grid.measurements)
    for frame, outcome in ((grid.runs, TEST_ACCURACY), (joined, SHARPNESS)):
        figure = drawn(against_rho(frame, outcome, Palette(grid.runs)))
        values = frame[outcome.column]
        assert {axes.get_yscale() for axes in panels(figure)} == {
            "log" if outcome.log else "linear"
        }
        assert all(float(t.get_text()) > 0 for t in panels(figure)[0].get_yticklabels())
        for axes in panels(figure):
            low, high = axes.get_ylim()
            assert low < values.min() and values.max() < high
            left, right = axes.get_xlim()
            ticks = axes.get_xticks()
            assert left < min(ticks) and max(ticks) < right


def test_axes_are_named_and_have_a_tick_at_each_rho(against: Figure) -> None:
    element, _, factor = panels(against)
    assert element.get_ylabel() == "test accuracy (%)"
    assert element.get_xlabel() == "ρ, radius of the perturbation"
    assert factor.get_xlabel() == "ρ, factor of the curvature"
    assert [text.get_text() for text in element.get_xticklabels()] == ["0.1", "0.2", "0.4"]
    assert [text.get_text() for text in factor.get_xticklabels()] == ["0.5", "1"]


def test_models_stand_in_rows_in_the_order_of_the_registry(study: Study, root: Path) -> None:
    fill(study, model="resnet18", seeds=1)
    fill(study, model="resnet8", seeds=1)
    runs = load_runs(root / "default")
    figure = drawn(against_rho(runs, TEST_ACCURACY, Palette(runs)))
    names = [axes.get_ylabel() for axes in panels(figure) if axes.get_ylabel()]
    assert names == ["resnet8\ntest accuracy (%)", "resnet18\ntest accuracy (%)"]


def test_lost_seeds_are_marked_not_drawn_as_numbers(study: Study, root: Path) -> None:
    study.add(cell(variant("sam", 0.1)), 90.0)
    study.add(cell(variant("sam", 0.2)), 91.0)
    study.add(cell(variant("sam", 0.2), seed=1), status="diverged", error="nan")
    runs = load_runs(root / "default")
    figure = drawn(against_rho(runs, TEST_ACCURACY, Palette(runs)))
    (axes,) = panels(figure)
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[0.2]]
    assert "seeds diverged or failed" in legend_texts(figure)
    assert axes.get_ylim()[0] > 80
    caption = draw_figures(open_study("default", root))["accuracy_rho"].caption
    assert "seeds that diverged or failed, 1 in all" in caption


def test_a_radius_of_zero_has_a_place(study: Study, root: Path) -> None:
    for rho in (0.0, 0.1, 0.2):
        study.add(cell(variant("sam", rho)), 90.0 + rho)
    runs = load_runs(root / "default")
    (axes,) = panels(drawn(against_rho(runs, TEST_ACCURACY, Palette(runs))))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "0.1", "0.2"]
    places = axes.transData.transform([(rho, 90.0) for rho in (0.0, 0.1, 0.2)])[:, 0]
    assert axes.bbox.x0 < places[0] < places[1] < places[2] < axes.bbox.x1


# --------------------------------------------------------------------------- accuracy and sharpness


def test_points_are_accuracy_and_the_logarithm_of_the_eigenvalue(grid: ReadStudy) -> None:
    joined = join_measurements(grid.runs, grid.measurements)
    figure = drawn(scatter(joined, Palette(grid.runs), "log_lambda_max", "test_accuracy"))
    axes = panels(figure)[0]
    points = {
        (float(x), float(y))
        for line in axes.lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    here = joined[joined["variant"].isin(["sgd", "sam"]) | (joined["granularity"] == "element")]
    logs = np.log(here["lambda_max"].astype(float))
    assert points == set(zip(logs, here["test_accuracy"], strict=True))
    assert "ln λₘₐₓ" in axes.get_xlabel()
    assert {"SGD", "SAM", "ρ = 0.4", "SGDHESS: ρ = 1"} <= set(legend_texts(figure))


def measured_cells(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of a study, and those with their measurements."""
    runs, found = load_runs(root / "default"), load_measurements(root / "default")
    return runs, join_measurements(runs, found)


def test_what_has_no_logarithm_is_no_point(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")), 90.0, measurement(-1.0))
    study.add(cell(variant("sam", 0.1)), 91.0, measurement(None))
    runs, joined = measured_cells(root)
    assert scatter(joined, Palette(runs), "log_lambda_max", "test_accuracy") is None
    assert against_rho(joined, SHARPNESS, Palette(runs)) is None
    study.add(cell(variant("sam", 0.2)), 91.0, measurement(2.0))
    caption = draw_figures(open_study("default", root))["accuracy_sharpness"].caption
    assert "Not drawn: 1 of an eigenvalue that has no logarithm." in caption


def test_many_points_become_pixels_in_an_svg(study: Study, root: Path) -> None:
    study.add(cell(variant("sam", 0.1)), 91.0, measurement(10.0))
    runs, one = measured_cells(root)
    many = pd.concat([one] * 1001, ignore_index=True)
    few = drawn(scatter(one, Palette(runs), "log_lambda_max", "test_accuracy"))
    figure = drawn(scatter(many, Palette(runs), "log_lambda_max", "test_accuracy"))
    assert not any(line.get_rasterized() for axes in panels(few) for line in axes.lines)
    assert all(line.get_rasterized() for axes in panels(figure) for line in axes.lines)
    assert len(svg_bytes(figure)) < 2 * len(svg_bytes(few)) + 100_000


# --------------------------------------------------------------------------- epochs


def test_curves_are_means_over_the_seeds_of_complete_cells(study: Study, root: Path) -> None:
    for seed, share in enumerate((0.5, 0.6, 0.7)):
        record = study.add(cell(variant("sam", 0.1), seed=seed), 90.0)
        write_history(study, record, amplified_share=share)
    running = study.add(cell(variant("sam", 0.1), seed=3), status="running")
    write_history(study, running, epochs=2, amplified_share=0.0)
    runs, history = load_runs(root / "default"), load_history(root / "default")
    summary = epoch_summary(history, runs)
    assert list(summary["epoch"]) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(summary["amplified_share"], 0.6)
    np.testing.assert_allclose(summary["amplified_share:sd"], 0.1)
    (axes,) = panels(drawn(over_epochs(summary, [AMPLIFIED], Palette(runs), by_model=True)))
    (line,) = [line for line in axes.lines if line.get_label() == "SAM"]
    np.testing.assert_allclose(line.get_ydata(), 0.6)
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.5, 0.7))


def test_small_multiples_have_a_row_per_number_and_a_column_per_radius(grid: ReadStudy) -> None:
    summary = epoch_summary(grid.history, grid.runs)
    figure = drawn(over_epochs(summary, LEARNING, Palette(grid.runs)))
    assert len(figure.axes) == 4 * (len(RADII) + 1)
    titles = [axes.get_title() for axes in figure.axes[:4]]
    assert titles == ["ρ = 0.1", "ρ = 0.2", "ρ = 0.4", "SGDHESS"]
    assert figure.axes[0].get_ylabel() == "training loss\n(nats)"
    assert labels(figure.axes[0]) == {
        "SGD",
        "SAM",
        *(f"{name.upper()}, {granularity}" for name, granularity in HYBRIDS),
    }
    assert labels(figure.axes[3]) == {"SGD", "SGDHESS, ρ = 0.5", "SGDHESS, ρ = 1"}


def test_numbers_that_no_cell_has_are_no_row(grid: ReadStudy) -> None:
    summary = epoch_summary(grid.history, grid.runs)
    figure = drawn(over_epochs(summary, PERTURBATION, Palette(grid.runs)))
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["cosine of\ng and h"]
    assert "SGD" not in legend_texts(figure)


def test_of_many_radii_a_choice_is_drawn_and_the_rest_is_told(study: Study, root: Path) -> None:
    radii = [0.1 * k for k in range(1, 9)]
    for rho in radii:
        record = study.add(cell(variant("sam", rho)), 90.0)
        write_history(study, record, amplified_share=0.6)
    read = open_study("default", root)
    summary = epoch_summary(read.history, read.runs)
    assert len(left_out(summary)) == len(radii) - MOST_COLUMNS
    caption = draw_figures(read)["amplified_share"].caption
    assert "Not drawn: rho = " in caption


def test_layers_are_shades_in_the_networks_order(grid: ReadStudy) -> None:
    summary = epoch_summary(grid.history, grid.runs)
    figure = drawn(layer_cosines(summary))
    first = figure.axes[0]
    assert [text.get_text() for text in first.get_yticklabels()] == ["conv1", "fc"]
    shades = np.asarray(first.images[0].get_array())
    assert shades.shape == (2, 6)
    np.testing.assert_allclose(shades, [[0.5] * 6, [0.9] * 6])
    rows = [axes.get_ylabel() for axes in figure.axes if axes.images and axes.get_ylabel()]
    assert rows == ["SAM", *(f"{name.upper()}\n{granularity}" for name, granularity in HYBRIDS)]


# --------------------------------------------------------------------------- effects


@pytest.mark.parametrize("shown", [HEADLINE, MAIN, SIMPLE])
def test_a_forest_draws_every_estimate_and_interval(shown: Any) -> None:
    frame = effects_frame()
    figure = drawn(forest(frame, shown))
    assert len(figure.axes) == 4
    places = product(("element", "global"), ("test_accuracy", "log_lambda_max"))
    for axes, (granularity, outcome) in zip(figure.axes, places, strict=True):
        rows = frame[
            frame["effect"].isin(list(shown))
            & (frame["granularity"] == granularity)
            & (frame["outcome"] == outcome)
        ]
        ends = [list(line.get_xdata()) for line in axes.lines]
        for row in rows.to_dict("records"):
            assert [row["t_low"], row["t_high"]] in ends
            assert [row["bca_low"], row["bca_high"]] in ends
            assert [row["estimate"]] in ends
        low, high = axes.get_xlim()
        assert low < rows["t_low"].min() and rows["t_high"].max() < high
    assert [axes.get_title() for axes in figure.axes[:2]] == ["test accuracy (points)", "ln λₘₐₓ"]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["element", "global"]


def test_ascents_have_figures_of_their_own(grid: ReadStudy) -> None:
    key = grid.runs["recipe_key"].iloc[0]
    adaptive = {"recipe_key": key, "ascent": "adaptive", "scaled": "weights"}
    etas = [effects_frame(**adaptive, eta=eta) for eta in (0.01, 0.1)]
    plain = effects_frame(recipe_key=key)
    pictures = draw_figures(grid, pd.concat([plain, *etas], ignore_index=True))
    assert [name for name in pictures if name.startswith("effects_headline")] == [
        "effects_headline-plain",
        "effects_headline-adaptive-eta-0-01",
        "effects_headline-adaptive-eta-0-1",
    ]


def test_the_headline_shows_the_contrast_at_equal_fit() -> None:
    at_equal_fit = {"fit_estimate": 7.0, "fit_low": 6.0, "fit_high": 8.0}
    figure = drawn(forest(effects_frame(**at_equal_fit), HEADLINE))
    assert {text.get_text() for text in figure.axes[0].texts} == {"n = 10, adj. p = 0.006"}
    assert any(list(line.get_xdata()) == [6.0, 7.0, 8.0] for line in figure.axes[0].lines)
    assert any("training loss" in text for text in legend_texts(figure))
    main = drawn(forest(effects_frame(**at_equal_fit), MAIN))
    assert not any("training loss" in text for text in legend_texts(main))


def test_without_an_interval_the_estimate_stands_alone() -> None:
    nothing = dict.fromkeys(("t_low", "t_high", "bca_low", "bca_high", "p_adjusted"), np.nan)
    figure = drawn(forest(effects_frame(n=1, **nothing), HEADLINE))
    assert {text.get_text() for text in figure.axes[0].texts} == {"n = 1"}
    assert not any("BCa" in text for text in legend_texts(figure))


# --------------------------------------------------------------------------- no data, no figure


def test_empty_data_give_no_figure(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")))
    study.add(cell(variant("sam", 0.1)), status="failed", error="oops")
    read = open_study("default", root)
    palette = Palette(read.runs)
    joined = join_measurements(read.runs, read.measurements)
    summary = epoch_summary(read.history, read.runs)
    assert against_rho(read.runs, TEST_ACCURACY, palette) is None
    assert scatter(joined, palette, "log_lambda_max", "test_accuracy") is None
    assert over_epochs(summary, [AMPLIFIED], palette, by_model=True) is None
    assert over_epochs(summary, LEARNING, palette) is None
    assert layer_cosines(summary) is None
    assert forest(effects_frame(estimate=np.nan), HEADLINE) is None
    assert forest(effects_frame().head(0), HEADLINE) is None
    assert draw_figures(read, effects_frame().head(0)) == {}


def test_a_grid_with_lost_cells_is_drawn(small_grid: Study, root: Path) -> None:
    assert list(draw_figures(open_study("default", root))) == OF_CELLS


# --------------------------------------------------------------------------- gallery


#: The figures that every study of several radii has.
OF_CELLS = [
    "accuracy_rho", "sharpness_rho", "accuracy_sharpness", "sharpness_fit", "accuracy_best_rho"
]  # fmt: skip


def test_the_gallery_holds_every_figure_in_reading_order(
    grid: ReadStudy, pictures: dict[str, Picture]
) -> None:
    assert list(pictures) == [
        "effects_headline", "effects_main", "effects_simple", *OF_CELLS,
        "amplified_share", "learning_curves", "perturbation", "step", "layer_cosines",
    ]  # fmt: skip
    for name, picture in pictures.items():
        assert picture.name == name
        assert len(picture.caption) > 40 and len(picture.alt) > 40
    assert len({picture.title for picture in pictures.values()}) == len(pictures)
    alt = pictures["accuracy_rho"].alt
    means = grid.runs[grid.runs["variant"] == "sam"].groupby("rho")["test_accuracy"].mean()
    assert f"SAM {', '.join(f'{mean:.4g}' for mean in means)}" in alt


def test_recipes_models_and_measurements_have_figures_of_their_own(
    study: Study, root: Path
) -> None:
    for epochs in (40, 80):
        config = cell(variant("sam", 0.1), epochs=epochs)
        study.add(config, 90.0, measurement(10.0), measurement(11.0, num_examples=512))
    read = open_study("default", root)
    pictures = draw_figures(read)
    keys = list(read.runs["recipe_key"].unique())
    assert {f"accuracy_rho-{key}" for key in keys} <= set(pictures)
    assert sum(name.startswith("sharpness_rho-") for name in pictures) == 4
    assert len({picture.title for picture in pictures.values()}) == len(pictures)


def test_files_are_written_in_both_forms(pictures: dict[str, Picture], tmp_path: Path) -> None:
    written = write_figures({"a": pictures["accuracy_rho"]}, tmp_path / "figures")
    assert [path.name for path in written] == ["accuracy_rho.png", "accuracy_rho.svg"]
    assert set((tmp_path / "figures").iterdir()) == set(written)
    with Image.open(written[0]) as image:
        width, height = pictures["accuracy_rho"].figure.get_size_inches()
        assert image.size == (round(150 * width), round(150 * height))
        grey = np.asarray(image.convert("L"))
    assert grey.min() < 30 and grey.max() == 255


def test_a_name_is_never_taken_for_mathematics(study: Study, root: Path) -> None:
    study.add(cell(variant("sam", 0.1)), 90.0)
    runs = load_runs(root / "default").assign(optimizer="SAM $x^{$")
    figure = titled(drawn(against_rho(runs, TEST_ACCURACY, Palette(runs))), "100 $", "a_b $ $ {")
    assert b"<svg" in svg_bytes(figure)
    assert "SAM $x^{$" in legend_texts(figure)


_DRAW_TWICE = """
import hashlib, sys
from multirun_analysis.figures.style import svg_bytes
from multirun_analysis.figures.gallery import draw_figures
from multirun_analysis.study import open_study
pictures = draw_figures(open_study("default", sys.argv[1]))
for name in ("accuracy_rho", "accuracy_sharpness", "layer_cosines"):
    print(name, hashlib.sha256(svg_bytes(pictures[name].figure)).hexdigest())
"""


@pytest.mark.slow
def test_svg_files_are_the_same_byte_for_byte_in_another_process(
    grid: ReadStudy, pictures: dict[str, Picture]
) -> None:
    here = ""
    for name in ("accuracy_rho", "accuracy_sharpness", "layer_cosines"):
        png_bytes(pictures[name].figure)  # what was written before makes no difference
        here += f"{name} {hashlib.sha256(svg_bytes(pictures[name].figure)).hexdigest()}\n"
    there = subprocess.run(
        [sys.executable, "-c", _DRAW_TWICE, str(grid.folder.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout == here
    assert b"<dc:date>" not in svg_bytes(pictures["accuracy_rho"].figure)


def test_figures_of_another_metric_speak_of_it() -> None:
    runs = pd.DataFrame({"metric": ["r2"], "cell_id": ["a"]})
    recipe = Recipe("line", "", "", runs, runs)
    figure = Figure()
    axes = figure.subplots()
    axes.set_ylabel("test accuracy (%)")
    axes.set_xlabel("training loss (nats)")
    (picture,) = recipe.picture("name", "Test accuracy", figure, "Test accuracy.", "Accuracy.")
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("test R²", "training loss")
    assert (picture.title, picture.alt) == ("Test R²", "R².")
