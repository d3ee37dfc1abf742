"""Every level of a key against one of them: pairs, names, statistics, page and figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from multirun_analysis import open_study
from multirun_analysis.__main__ import main
from multirun_analysis.figures.ablation import ablation_forest
from multirun_analysis.stats.factor import FactorEffects, factor_effects, parse_factor
from samsweep.config import Variant

from .conftest import Study, cell, measurement, metrics, panels, variant


def relative(name: str, rho: float = 0.2, **changes: Any) -> Variant:
    """A preset of SAM's family."""
    return Variant(
        name=name, direction="sam", magnitude="sam", rho=rho, **({"ascent": "plain"} | changes)
    )


#: Each network, with what is added to SAM's accuracy and to its ln lambda_max.
FAMILY = [
    (variant("sam", 0.2), 0.0, 0.0),
    (variant("sgd"), -6.0, 1.5),
    (variant("samdirection", 0.2), -2.0, 0.8),
    (variant("samdirection", 0.2, granularity="global"), 0.5, -0.1),
    (relative("random_sam", ascent_direction="random"), -5.0, 1.2),
    (relative("looksam", when="every", when_args={"steps": 5, "reuse": 0}), -4.0, 1.0),
    (relative("looksam", when="every", when_args={"steps": 5, "reuse": 0.7}), -3.0, 0.4),
    (relative("usam", ascent="unnormalized"), -1.0, 0.2),
    (relative("usam", rho=0.3, ascent="unnormalized"), 0.25, 0.1),
]
SEEDS = 6


@pytest.fixture
def family(study: Study) -> Study:
    """SAM and what lacks one thing of it, of six seeds whose differences are known."""
    random = np.random.default_rng(0)
    for seed in range(SEEDS):
        for chosen, accuracy, sharpness in FAMILY:
            score = 90.0 + seed + accuracy
            found = metrics(score).model_copy(update={"train_loss": float(random.normal(1, 0.1))})
            config = cell(chosen, seed=seed)
            study.add(config, score, measurement(float(np.exp(3 + sharpness))), metrics=found)
    return study


def against(root: Path, text: str, value: str | None = None) -> FactorEffects:
    read = open_study("default", root)
    factor = parse_factor(text, read.runs, "default")
    return factor_effects(read.runs, read.measurements, factor, value=value)


def of(found: FactorEffects, outcome: str) -> pd.DataFrame:
    return found.effects[found.effects["outcome"] == outcome]


def test_every_level_is_compared_with_the_reference(family: Study, root: Path) -> None:
    found = against(root, "opt:sam")
    assert (found.keys, found.confounded, found.unpaired) == ((), (), ())
    rows = of(found, "test_accuracy")
    assert list(zip(rows["name"], rows["differs"], rows["estimate"].round(9), strict=True)) == [
        ("SGD", "direction sgd, magnitude sgd", -6.0),
        ("SAMDIRECTION, element", "magnitude sgd", -2.0),
        ("SAMDIRECTION, global", "magnitude sgd", 0.5),
        ("LOOKSAM (reuse 0)", "when every, steps 5, reuse 0", -4.0),
        ("LOOKSAM (reuse 0.7)", "when every, steps 5, reuse 0.7", -3.0),
        ("RANDOM_SAM", "ascent direction random", -5.0),
        ("USAM", "ascent unnormalized", -1.0),
        ("USAM", "ascent unnormalized, rho 0.3", 0.25),
    ]
    logs = of(found, "log_lambda_max")["estimate"].astype(float)
    assert logs.tolist() == pytest.approx([1.5, 0.8, -0.1, 1.0, 0.4, 1.2, 0.2, 0.1])
    assert set(found.effects["n"]) == {SEEDS}
    assert set(found.effects["family"]) == {"exploratory"}
    assert set(found.effects["family_size"]) == {len(found.effects)}


def test_its_statistics_are_those_of_two_levels(family: Study, root: Path) -> None:
    rows = of(against(root, "opt:sam"), "test_loss").set_index("opt")
    every = of(against(root, "opt:sam"), "log_lambda_max").set_index("opt")
    for level in ("sgd", "random_sam"):
        pair = against(root, f"opt:sam,{level}")
        for name in ("estimate", "median", "t_low", "t_high", "bca_low", "p", "n", "n_lost"):
            for ours, outcome in ((rows, "test_loss"), (every, "log_lambda_max")):
                theirs = of(pair, outcome)[name].astype(float).tolist()
                assert theirs == pytest.approx([float(ours.at[level, name])], nan_ok=True), name


def test_the_training_loss_is_adjusted_for_over_all_levels(family: Study, root: Path) -> None:
    # Two levels of six seeds are too few cells for it; all nine cells of a seed are not.
    assert of(against(root, "opt:sam,sgd"), "test_accuracy")["fit_estimate"].isna().all()
    assert of(against(root, "opt:sam"), "test_accuracy")["fit_estimate"].notna().all()


def test_each_radius_of_the_reference_is_a_contrast(family: Study, root: Path) -> None:
    for seed in range(SEEDS):
        family.add(cell(variant("sam", 0.4), seed=seed), 80.0 + seed)
    found = against(root, "opt:sam", "test_accuracy")
    assert found.keys == ("rho",)
    rows = found.effects.set_index(["name", "rho"])["estimate"].round(9)
    assert rows["SGD"].to_dict() == {0.2: -6.0, 0.4: 4.0}
    # Other levels are compared at equal radii alone.
    assert rows["RANDOM_SAM"].to_dict() == {0.2: -5.0}
    assert rows["USAM"].to_dict() == {0.2: -1.0}


def test_levels_of_any_key_are_named_by_their_values(study: Study, root: Path) -> None:
    for seed in range(2):
        for momentum, lr, score in ((0.0, 0.1, 80), (0.5, 0.1, 85), (0.9, 0.1, 90), (0.9, 1, 70)):
            study.add(cell(variant("sgd"), seed=seed, momentum=momentum, lr=lr), float(score))
    rows = against(root, "momentum:0.5", "test_accuracy").effects
    assert rows[["name", "differs", "estimate"]].to_numpy().tolist() == [
        ["0", "", -5.0],
        ["0.9", "", 5.0],
        ["0.9", "lr 1", -15.0],
    ]


def test_a_level_without_a_partner_is_named(study: Study, root: Path) -> None:
    for seed in range(2):
        for rho in (0.1, 0.2):
            study.add(cell(variant("sam", rho), seed=seed), 90.0)
        study.add(cell(variant("sgd"), seed=seed), 80.0)
        study.add(cell(relative("usam", 0.5, ascent="unnormalized"), seed=seed), 85.0)
    words = ["study=default", f"root={root}", f"out={root}", "quiet=true", "effects=opt:sam"]
    assert against(root, "opt:sam").unpaired == ("usam",)
    assert main(words) == 0
    page = (root / "default" / "ablation.md").read_text()
    assert "Without a partner, and so not here: usam." in page


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("opt:smm", "did you mean 'sam'?"),
        ("lr:0.1", "every cell of study default has lr=0.1"),
        ("opt:", "write a key and two different values"),
        ("opt:sam,sgd,usam", "write a key and two different values"),
        ("opt:usam", "no cell with usam has a partner with another level of the same rho, seed"),
    ],
)
def test_what_means_nothing_is_a_sentence(
    study: Study, root: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    for rho in (0.1, 0.2):
        study.add(cell(variant("sam", rho)), 90.0)
        study.add(cell(relative("usam", rho + 5, ascent="unnormalized")), 90.0)
    assert main(["study=default", f"root={root}", f"out={root}", f"effects={text}"]) == 2
    _, *lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and told in lines[0]


# --------------------------------------------------------------------------- page and figure


def test_the_command_writes_the_page_and_the_figure(
    family: Study, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study=default", f"root={root}", f"out={root}", "quiet=true", "effects=opt:sam"]
    assert main([*words, "report=true"]) == 0
    folder = root / "default"
    for suffix in ("md", "html", "tex", "csv", "png", "svg"):
        assert (folder / f"ablation.{suffix}").exists(), suffix
    page = (folder / "ablation.md").read_text()
    assert "opt: each other level less sam" in page and "all levels of one recipe" in page
    assert "LOOKSAM (reuse 0.7)" in page and "when every, steps 5, reuse 0.7" in page
    numbers = pd.read_csv(folder / "ablation.csv")
    assert numbers["opt"].nunique() == 5 and numbers["differs"].nunique() == 7
    report = (folder / "report.html").read_text()
    assert 'id="figure-ablation"' in report and 'id="page-ablation"' in report


def test_two_levels_draw_nothing(family: Study, root: Path) -> None:
    words = ["study=default", f"root={root}", f"out={root}", "quiet=true", "effects=opt:sam,sgd"]
    assert main(words) == 0
    assert not list((root / "default").glob("*.png"))


def _forest(root: Path, *outcomes: str) -> Figure:
    effects = against(root, "opt:sam").effects
    figure = ablation_forest(effects[effects["outcome"].isin(outcomes)])
    assert figure is not None
    return figure


def test_a_row_per_contrast_from_the_sharpest_down(family: Study, root: Path) -> None:
    accuracy, sharpness = panels(_forest(root, "test_accuracy", "log_lambda_max"))
    assert (accuracy.get_title(), sharpness.get_title()) == ("test accuracy (points)", "ln λₘₐₓ")
    labels = [label.get_text().split("\n")[0] for label in accuracy.get_yticklabels()]
    assert labels[:4] == ["SGD", "RANDOM_SAM", "LOOKSAM (reuse 0)", "SAMDIRECTION, element"]
    assert labels[-1] == "SAMDIRECTION, global" and len(labels) == len(FAMILY) - 1
    # A point per row, of the estimate; and a line at that of SGD.
    points = [line.get_xdata()[0] for line in sharpness.lines if line.get_linestyle() == "None"]
    assert {round(float(x), 9) for x in points} >= {1.5, 1.2, 1.0, 0.8, 0.4, 0.2, 0.1, -0.1}
    assert [line.get_xdata()[0] for line in sharpness.lines[:2]] == pytest.approx([0, 1.5])


def test_one_outcome_is_one_panel(family: Study, root: Path) -> None:
    assert len(panels(_forest(root, "test_accuracy"))) == 1
    assert ablation_forest(against(root, "opt:sam").effects.head(0)) is None


def test_an_estimate_that_leaves_no_room_stands_at_the_edge(study: Study, root: Path) -> None:
    """As of a network at chance: the axis is that of the others, and the number is there."""
    for seed in range(SEEDS):
        for chosen, accuracy in ((variant("sam", 0.2), 0), (variant("sgd"), -6), (FAR, -75)):
            study.add(cell(chosen, seed=seed), 90.0 + accuracy + (seed % 2) * 0.1)
    [axes] = panels(_forest(root, "test_accuracy"))
    low, high = axes.get_xlim()
    assert -10 < low < -6 and high < 10
    [text] = [text.get_text() for text in axes.texts]
    assert text.startswith("◀ −75.0 [")


FAR = relative("per_tensor_sam", ascent="per_tensor")


def test_labels_that_would_be_cut_alike_are_whole(study: Study, root: Path) -> None:
    effects = against_long(study, root)
    figure = ablation_forest(effects[effects["outcome"] == "test_accuracy"])
    assert figure is not None
    labels = [label.get_text() for label in panels(figure)[0].get_yticklabels()]
    assert len(labels) == len(set(labels)) == 2


def against_long(study: Study, root: Path) -> pd.DataFrame:
    """Two levels that differ at the end of a long text alone."""
    for seed in range(SEEDS):
        study.add(cell(variant("sam", 0.2), seed=seed), 90.0)
        for last in (1, 2):
            args = {"first_of_many_arguments": 0.125, "second_of_many_arguments": 0.25}
            own = relative(
                "mine", combination="mylab.rules.own", combination_args=args | {"z": last}
            )
            study.add(cell(own, seed=seed), 80.0 + last)
    return against(root, "opt:sam").effects


def test_labels_do_not_overlap(family: Study, root: Path) -> None:
    figure = _forest(root, "test_accuracy", "log_lambda_max")
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in zip(boxes, boxes[1:], strict=False))
    assert min(box.x0 for box in boxes) >= 0
