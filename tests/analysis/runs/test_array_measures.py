"""Spectra and landscapes: read with caution, and drawn as they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet

from multirun_analysis import load_measurements
from multirun_analysis.figures.array_figures import array_pictures
from multirun_analysis.figures.captions import Picture, Recipe
from multirun_analysis.figures.gallery import draw_figures, write_figures
from multirun_analysis.figures.landscape import contour_levels, loss_along_line, loss_over_plane
from multirun_analysis.figures.panels import MOST_COLUMNS
from multirun_analysis.figures.spectrum import WIDTH, density, spectral_density
from multirun_analysis.figures.style import Palette, power_of_ten
from multirun_analysis.runs.array_measures import Line, Spectrum, load_arrays
from multirun_analysis.study import open_study
from samsweep.records.schema import Measurement

from ..conftest import Study, cell, line, measurement, panels, plane, spectrum, variant


def pictures(root: Path) -> dict[str, Picture]:
    """The figures of spectra and landscapes of a study of one recipe."""
    read = open_study("default", root)
    recipe = Recipe("the recipe", "", "", read.runs, read.measurements)
    return {one.name: one for one in array_pictures(recipe, read, Palette(read.runs))}


def arrays(study: Study) -> Any:
    return load_arrays(study.folder, load_measurements(study.folder))


def curve(axes: Axes, label: str) -> tuple[Any, Any]:
    """Places and values of the one line with a label."""
    [found] = [one for one in axes.lines if one.get_label() == label]
    return np.asarray(found.get_xdata(), float), np.asarray(found.get_ydata(), float)


# --------------------------------------------------------------------------- reading


def test_arrays_are_read_for_the_cells_that_have_them(study: Study) -> None:
    record = study.add(cell(variant("sgd")), 90.0, measurement(5.0), spectrum(0.0, 3.0), line(2.0))
    study.add(cell(variant("sam", 0.1)), 90.0, measurement(5.0))
    study.add(cell(variant("sam", 0.2)), None, plane(), status="diverged")
    found = arrays(study).set_index("name")
    assert set(found["cell_id"]) == {record.cell_id} and len(found) == 2
    spectra, along = found.loc["spectral_density", "array"], found.loc["landscape_1d", "array"]
    assert isinstance(spectra, Spectrum) and isinstance(along, Line)
    assert spectra.nodes.tolist() == [0.0, 3.0] * 2 and spectra.weights.tolist() == [0.25] * 4
    assert spectra.dim == 1000
    assert along.losses.tolist() == [2.1, 0.6, 0.1, 0.6, 2.1]
    assert found.attrs["skipped"] == []


def test_what_is_no_number_is_a_gap(study: Study) -> None:
    gaps = line(1.0, losses=[None, 2, 0.5, 1e300, 10**400])
    study.add(cell(variant("sgd")), 90.0, gaps)
    [along] = [one for one in arrays(study)["array"] if isinstance(one, Line)]
    np.testing.assert_array_equal(along.losses, [np.nan, 2.0, 0.5, np.nan, np.nan])


#: Results that nobody's code writes, and why they are not drawn.
STRANGE: list[tuple[Measurement, str]] = [
    (spectrum(0.0, 1.0, nodes="many"), "nodes is no list of rows"),
    (spectrum(0.0, 1.0, nodes=[]), "nodes is no list of rows"),
    (spectrum(0.0, 1.0, nodes=[1.0, 2.0]), "nodes is no list"),
    (spectrum(0.0, 1.0, nodes=[[0.0, 1.0]]), "not of one shape"),
    (spectrum(0.0, 1.0, weights=[[0.5, 0.5], [1.0]]), "not of one shape"),
    (spectrum(0.0, 1.0, weights=[[], []], nodes=[[], []]), "row without numbers"),
    (spectrum(0.0, 1.0, nodes=[[0.0, None], [0.0, 1.0]]), "is no number"),
    (spectrum(0.0, 1.0, nodes=[[0.0, 10**400], [0.0, 1.0]]), "is no number"),
    (spectrum(0.0, 1.0, nodes=[[0.0, "1"], [0.0, 1.0]]), "entry that is no number"),
    (spectrum(0.0, 1.0, nodes=[[0.0, True], [0.0, 1.0]]), "entry that is no number"),
    (spectrum(0.0, 1.0, weights=[[0.5, 0.4], [0.5, 0.5]]), "no shares of one"),
    (spectrum(0.0, 1.0, weights=[[1.5, -0.5], [0.5, 0.5]]), "no shares of one"),
    (spectrum(0.0, 1.0, dim="large"), "dim is no number of parameters"),
    (spectrum(0.0, 1.0, dim=0), "dim is no number of parameters"),
    (spectrum(0.0, 1.0, dim=10**400), "dim is no number of parameters"),
    (line(1.0, alphas=None), "alphas is no list"),
    (line(1.0, alphas=[-1.0, 0.0, 1.0]), "not of one length"),
    (line(1.0, alphas=[-1.0, 0.5, 0.0, 0.5, 1.0]), "alphas are no rising numbers"),
    (line(1.0, alphas=[-1.0, None, 0.0, 0.5, 1.0]), "alphas are no rising numbers"),
    (line(1.0, alphas=[1.0, 2.0, 3.0, 4.0, 5.0]), "the weights, 0, between them"),
    (line(1.0, alphas=[-5e-324, 0.0, 5e-324], losses=[1.0] * 3), "too close"),
    (line(1.0, losses={"a": 1}), "losses is no list"),
    (line(1.0, losses=[None] * 5), "no loss is a number"),
    (plane(losses=[[1.0] * 5] * 2), "a row per alpha and a column per beta"),
    (plane(losses=[[1.0] * 4] * 3), "a row per alpha and a column per beta"),
    (plane(losses=[1.0, 2.0, 3.0]), "losses is no list"),
    (plane(losses=[[None] * 5] * 3), "no loss is a number"),
    (plane(betas=[-1e9, -1.0, 0.0, 1.0, 1e9]), "too unlike distances"),
]


@pytest.mark.parametrize(("strange", "reason"), STRANGE)
def test_a_result_of_another_form_is_skipped_and_the_rest_is_drawn(
    study: Study, root: Path, strange: Measurement, reason: str
) -> None:
    good = {"spectral_density": spectrum(0.0, 1.0), "landscape_1d": line(1.0)}
    good["landscape_2d"] = plane()
    record = study.add(cell(variant("sam", 0.1), seed=0), 90.0, strange)
    for seed in (1, 2):
        study.add(cell(variant("sam", 0.1), seed=seed), 90.0, good[strange.name])
    found = arrays(study)
    assert found["seed"].tolist() == [1, 2]
    [skipped] = found.attrs["skipped"]
    assert Path(skipped.file).parent.name == record.cell_id
    assert f"measurement {strange.name}: " in skipped.reason and reason in skipped.reason
    [picture] = pictures(root).values()
    assert "Not drawn: 1 cell whose record has another form." in picture.caption


@pytest.mark.parametrize(
    "extreme",
    [
        spectrum(1e30, -1e30),
        spectrum(7.0, 7.0),
        spectrum(-1e-30, 1e-30, dim=10**29),
        line(0.0, losses=[1e30, 1e-300, 0.0, -1.0, None]),
        line(0.0, losses=[-3.0] * 5),
        line(0.0, alphas=[-1e30, -1.0, 0.0, 1.0, 1e30]),
        plane(losses=[[1e30] * 5] * 3),
        plane(losses=[[-1.0] * 5, [0.0] * 5, [1e-300] * 5]),
        plane(losses=[[None] * 5, [None, 1.0, 0.0, 1e30, None], [None] * 5]),
        plane(losses=[[0.0] * 5] * 3),
    ],
)
def test_extreme_numbers_are_drawn(
    study: Study, root: Path, tmp_path: Path, extreme: Measurement
) -> None:
    study.add(cell(variant("sam", 0.1)), 90.0, extreme)
    found = pictures(root)
    assert list(found) == [extreme.name]
    write_figures(found, tmp_path / "figures")


def test_a_record_that_has_gone_since_is_skipped(study: Study) -> None:
    records = [
        study.add(cell(variant("sam", 0.1), seed=seed), 90.0, spectrum(0.0, 1.0))
        for seed in range(3)
    ]
    measurements = load_measurements(study.folder)
    (study.cell_folder(records[0]) / "record.json").write_text("{")
    (study.cell_folder(records[1]) / "record.json").unlink()
    found = load_arrays(study.folder, measurements)
    assert found["seed"].tolist() == [2]
    assert [Path(file).parent.name for file, _ in found.attrs["skipped"]] == [records[0].cell_id]


def test_lines_at_other_places_than_most_are_not_averaged(study: Study, root: Path) -> None:
    for seed in range(2):
        study.add(cell(variant("sam", 0.1), seed=seed), 90.0, line(1.0))
    other = line(9.0, alphas=[-2.0, -0.5, 0.0, 0.5, 2.0])
    study.add(cell(variant("sam", 0.1), seed=2), 90.0, other)
    found = arrays(study)
    assert found["seed"].tolist() == [0, 1]
    assert "alphas are others" in found.attrs["skipped"][0].reason


# --------------------------------------------------------------------------- spectra


def _integral(values: Any, at: Any) -> float:
    return float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(at)))


def test_a_density_integrates_to_one_and_has_the_moments_of_its_nodes() -> None:
    rng = np.random.default_rng(0)
    weights = rng.random(40)
    found = Spectrum(rng.normal(0, 10, 40), weights / weights.sum(), 1000)
    width = 0.5
    at = np.linspace(-60, 60, 20_001)
    values = density(found, at, width)
    mean = found.weights @ found.nodes
    variance = found.weights @ (found.nodes - mean) ** 2 + width**2
    assert _integral(values, at) == pytest.approx(1, abs=1e-12)
    assert _integral(values * at, at) == pytest.approx(mean, abs=1e-9)
    assert _integral(values * (at - mean) ** 2, at) == pytest.approx(variance, rel=1e-9)


def test_curves_are_means_over_seeds_of_densities_of_one_width(study: Study, root: Path) -> None:
    for seed, largest in enumerate((10.0, 30.0)):
        study.add(cell(variant("sam", 0.1), seed=seed), 90.0, spectrum(0.0, largest))
    study.add(cell(variant("sgd")), 90.0, spectrum(-20.0, 80.0))
    [picture] = pictures(root).values()
    [axes] = panels(picture.figure)
    width = WIDTH * 100.0
    at, values = curve(axes, "SAM")
    one, other = (Spectrum(np.array([0.0, x]), np.array([0.5, 0.5]), 1) for x in (10.0, 30.0))
    expected = (density(one, at, width) + density(other, at, width)) / 2
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert _integral(values, at) == pytest.approx(1, abs=1e-6)
    assert (at[0], at[-1]) == pytest.approx((-20 - 5 * width, 80 + 5 * width))
    assert axes.get_xlim() == pytest.approx((at[0], at[-1]))
    assert axes.get_yscale() == "log"
    assert "is 1 % of the range of the eigenvalues in its row of panels (1)." in picture.caption
    assert "SAM rho 0.1 20" in picture.alt and "SGD 80" in picture.alt


def test_a_single_eigenvalue_of_one_network_is_inside_the_axis(study: Study, root: Path) -> None:
    dim = 75_000
    weights = [[1 - 1 / dim, 1 / dim]] * 2
    for seed in range(10):
        largest = 50.0 if seed == 0 else 20.0
        found = spectrum(0.0, largest, weights=weights, dim=dim)
        study.add(cell(variant("sam", 0.1), seed=seed), 90.0, found)
    [axes] = panels(pictures(root)["spectral_density"].figure)
    at, values = curve(axes, "SAM")
    peak = values[np.abs(at - 50.0).argmin()]
    low, high = axes.get_ylim()
    assert low < peak / 4 and values.max() < high
    texts = [text.get_text() for text in axes.get_yticklabels()]
    assert texts and all(text.startswith("10") and "$" not in text for text in texts)


def test_powers_of_ten_are_plain_text() -> None:
    assert [power_of_ten(x) for x in (1e-7, 1.0, 1e12)] == ["10⁻⁷", "10⁰", "10¹²"]


def test_a_row_per_granularity_and_a_column_per_radius(study: Study, root: Path) -> None:
    names = [("sgd", None, None), ("sgdhess", 0.5, None)]
    names += [("sam", rho, None) for rho in (0.1, 0.2)]
    names += [("samdirection", rho, g) for rho in (0.1, 0.2) for g in ("element", "global")]
    for name, rho, granularity in names:
        extra = {"granularity": granularity} if granularity else {}
        study.add(cell(variant(name, rho, **extra)), 90.0, spectrum(0.0, 1.0), line(1.0))
    for name in ("spectral_density", "landscape_1d"):
        figure = pictures(root)[name].figure
        drawn = panels(figure)
        assert [axes.get_title() for axes in drawn] == [
            "ρ = 0.1", "ρ = 0.2", "ρ = 0.1", "ρ = 0.2", "ρ = 0.5"
        ]  # fmt: skip
        shown = [axes.get_legend_handles_labels()[1] for axes in drawn]
        assert shown[0] == shown[1] == ["SGD", "SAM", "SAMDIRECTION, element"]
        assert shown[2] == shown[3] == ["SGD", "SAM", "SAMDIRECTION, global"]
        assert shown[4] == ["SGD", "SGDHESS"]
        rows = [axes.get_ylabel().split("\n")[0] for axes in drawn if axes.get_ylabel()]
        assert rows == ["by element", "over the whole", "curvature in place"]


def test_sgd_alone_has_a_panel_without_a_radius(study: Study, root: Path) -> None:
    study.add(cell(variant("sgd")), 90.0, spectrum(0.0, 1.0), line(1.0), plane())
    found = pictures(root)
    assert list(found) == ["spectral_density", "landscape_1d", "landscape_2d"]
    for picture in found.values():
        [axes] = panels(picture.figure)
        assert axes.get_title() == ""


def test_of_many_radii_a_choice_is_drawn_and_the_rest_is_told(study: Study, root: Path) -> None:
    for k in range(1, 8):
        study.add(cell(variant("sam", k / 10)), 90.0, spectrum(0.0, 1.0), plane())
    for picture in pictures(root).values():
        assert len(panels(picture.figure)) == MOST_COLUMNS
        assert "Not drawn: rho = 0.2, 0.6." in picture.caption


# --------------------------------------------------------------------------- landscapes


def test_losses_along_a_line_are_means_with_faint_seeds(study: Study, root: Path) -> None:
    for seed, curvature in enumerate((1.0, 3.0)):
        study.add(cell(variant("sam", 0.1), seed=seed), 90.0, line(curvature))
    [picture] = pictures(root).values()
    [axes] = panels(picture.figure)
    alphas, losses = curve(axes, "SAM")
    np.testing.assert_allclose(losses, 0.1 + 2.0 * alphas**2, rtol=1e-15)
    faint = [np.asarray(one.get_ydata(), float) for one in axes.lines if one.get_alpha() == 0.35]
    for values, curvature in zip(faint, (1.0, 3.0), strict=True):
        np.testing.assert_allclose(values, 0.1 + curvature * alphas**2)
    assert axes.get_yscale() == "log"  # from 0.1 to 3.1
    assert "SAM rho 0.1 0.1 to 2.1" in picture.alt


def test_a_mean_is_open_where_a_seed_has_no_number(study: Study, root: Path) -> None:
    study.add(cell(variant("sam", 0.1), seed=0), 90.0, line(1.0))
    gap = line(1.0, losses=[None, 0.35, 0.1, 0.35, None])
    study.add(cell(variant("sam", 0.1), seed=1), 90.0, gap)
    [axes] = panels(pictures(root)["landscape_1d"].figure)
    np.testing.assert_allclose(curve(axes, "SAM")[1], [np.nan, 0.35, 0.1, 0.35, np.nan])
    assert axes.get_yscale() == "linear"  # from 0.1 to 1.1
    low, high = axes.get_ylim()
    assert low < 0.1 and 1.1 < high < 1.3


def test_a_known_landscape_is_drawn_at_the_right_places(study: Study, root: Path) -> None:
    study.add(cell(variant("sam", 0.1)), 90.0, plane())
    [picture] = pictures(root).values()
    [axes] = panels(picture.figure)
    assert axes.get_aspect() == 1.0
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("α", "SAM\nβ")
    assert (axes.get_xlim(), axes.get_ylim()) == ((-1.0, 1.0), (-1.0, 1.0))
    [dot] = [one for one in axes.lines if one.get_label() == "weights"]
    assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([0], [0])
    assert _vertices(axes, lambda alpha, beta: 4 + alpha + 2 * beta) > 20


def test_a_steep_landscape_has_levels_of_equal_ratios(study: Study, root: Path) -> None:
    alphas, betas = [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]
    losses = [[math.exp(2 * a + 3 * b) for b in betas] for a in alphas]
    found = plane(alphas=alphas, betas=betas, losses=losses)
    study.add(cell(variant("sam", 0.1)), 90.0, found)
    [axes] = panels(pictures(root)["landscape_2d"].figure)
    assert _vertices(axes, lambda a, b: (2 * a + 3 * b) / math.log(10)) > 20
    steps = np.diff(axes.collections[0].levels)
    np.testing.assert_allclose(steps, steps[0])


def _vertices(axes: Axes, height: Callable[[float, float], float]) -> int:
    """How many vertices the contours have; each lies on its level, as in a linear landscape."""
    contours = axes.collections[1]
    assert isinstance(contours, ContourSet)
    found = 0
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        for alpha, beta in np.asarray(path.vertices):
            assert height(alpha, beta) == pytest.approx(level, abs=1e-9)
            found += 1
    return found


def test_panels_are_of_the_lowest_seed_with_the_same_levels(study: Study, root: Path) -> None:
    for name, slope in (("sam", 1.0), ("samdirection", 3.0)):
        for seed in (4, 2, 7):
            found = plane(slope) if seed == 2 else plane(1000.0)
            study.add(cell(variant(name, 0.1), seed=seed), 90.0, found)
    picture = pictures(root)["landscape_2d"]
    drawn = panels(picture.figure)
    assert [axes.get_ylabel() for axes in drawn] == ["SAM\nβ", "SAMDIRECTION\nelement\nβ"]
    levels = [axes.collections[0].levels.tolist() for axes in drawn]
    assert levels[0] == levels[1] and levels[0][-1] < 21.0
    assert "that of the lowest seed (2)" in picture.caption
    assert "SAM rho 0.1 4 to 7" in picture.alt


def test_levels_reach_to_nine_tenths_of_the_losses() -> None:
    losses = np.concatenate([np.linspace(0.01, 1.0, 91), np.full(9, 1e20), [np.nan]])
    levels = contour_levels([losses])
    assert levels[0] == pytest.approx(0.01) and levels[-1] == pytest.approx(1.0, rel=0.02)
    ratios = levels[1:] / levels[:-1]
    np.testing.assert_allclose(ratios, ratios[0])
    steps = np.diff(contour_levels([np.linspace(1.0, 2.0, 101)]))
    np.testing.assert_allclose(steps, steps[0])


# --------------------------------------------------------------------------- names and words


def test_models_recipes_and_settings_have_figures_of_their_own(study: Study, root: Path) -> None:
    for epochs in (40, 80):
        for model in ("resnet8", "resnet20"):
            config = cell(variant("sam", 0.1), model=model, epochs=epochs)
            long = spectrum(0.0, 2.0).model_copy(
                update={"settings": {"spectral_density": {"num_steps": 9}}}
            )
            study.add(config, 90.0, spectrum(0.0, 1.0), long, plane())
    drawn = draw_figures(open_study("default", root))
    kinds = ("spectral_density", "landscape")
    found = {name: one for name, one in drawn.items() if name.startswith(kinds)}
    recipes = list(open_study("default", root).runs["recipe_key"].unique())
    assert sum(name.startswith("spectral_density-") for name in found) == 8
    assert {f"landscape_2d-{m}-{r}" for m in ("resnet8", "resnet20") for r in recipes} <= set(found)
    assert len({picture.title for picture in found.values()}) == len(found) == 12


def test_nothing_to_draw_is_no_figure(study: Study) -> None:
    study.add(cell(variant("sgd")), 90.0, measurement(5.0))
    found = arrays(study)
    assert found.empty
    palette = Palette(load_measurements(study.folder))
    assert spectral_density(found, palette) is None
    assert loss_along_line(found, palette) is None
    assert loss_over_plane(found) is None


def test_a_record_may_be_written_with_numbers_that_json_has_not(study: Study) -> None:
    record = study.add(cell(variant("sam", 0.1)), 90.0, line(1.0))
    file = study.cell_folder(record) / "record.json"
    values = json.loads(file.read_text())
    [stored] = values["measurements"].values()
    stored["result"]["losses"][0] = math.inf
    file.write_text(json.dumps(values))
    [found] = arrays(study)["array"]
    assert np.isnan(found.losses[0]) and np.isfinite(found.losses[1:]).all()
