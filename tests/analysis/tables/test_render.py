"""Tables as files and in the terminal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from multirun_analysis.study import open_study
from multirun_analysis.tables.render import accuracy_markdown, terminal_text, write_pages
from multirun_analysis.tables.study_pages import study_pages

from ..conftest import Study, cell, measurement, variant

_GOLDEN = Path(__file__).parent / "golden"
_NAMES = ["accuracy", "accuracy_best", "accuracy_train", "sharpness", "sgdhess", "amplified"]


def write_tables(name: str, root: Path, out: Path) -> str:
    """What the command does with a study, and what it prints."""
    study = open_study(name, root)
    pages = study_pages(study)
    write_pages(pages, out / name)
    return terminal_text(study, pages, pages, out / name)


def test_tables_are_as_checked_in_and_the_terminal_says_what_they_lack(
    small_grid: Study, root: Path, tmp_path: Path
) -> None:
    text = write_tables("default", root, tmp_path)
    for name in _NAMES:
        written = (tmp_path / "default" / f"{name}.md").read_text(encoding="utf-8")
        assert written == (_GOLDEN / f"{name}.md").read_text(encoding="utf-8")
        assert written in text
    suffixes = ("md", "csv", "tex", "html")
    files = {"tables.tex", *(f"{name}.{suffix}" for name in _NAMES for suffix in suffixes)}
    assert {path.name for path in (tmp_path / "default").iterdir()} == files
    assert "9 cells: 6 complete, 1 diverged, 1 failed, 1 planned\n" in text
    failed, planned = small_grid.written[-1].cell_id, small_grid.written[-2].cell_id
    assert f"failed: {failed} (RuntimeError: out of memory)\n" in text
    assert f"planned: {planned}\n" in text
    assert "(the loss is nan at step 12)" in text


def test_many_planned_cells_are_counted_not_listed(
    study: Study, root: Path, tmp_path: Path
) -> None:
    for seed in range(12):
        study.add(cell(variant("sgd"), seed=seed))
    text = write_tables("default", root, tmp_path)
    assert "12 cells: 12 planned" in text and "planned: and 2 more" in text


def test_csv_has_numbers_in_full(study: Study, root: Path, tmp_path: Path) -> None:
    values = (90.123456789, 91.0, 95.5)
    for seed, value in enumerate(values):
        study.add(cell(variant("sam", 0.1), seed=seed), value, measurement(value / 3))
    study.add(cell(variant("sam", 0.1), seed=3), status="diverged")
    study.add(cell(variant("sgd")), 77.36)
    write_tables("default", root, tmp_path)
    accuracy = pd.read_csv(tmp_path / "default" / "accuracy.csv").set_index("variant")
    expected = pd.Series(values)
    assert accuracy.loc["sam", "mean"] == pytest.approx(expected.mean(), rel=1e-12)
    assert accuracy.loc["sam", "sd"] == pytest.approx(expected.std(), rel=1e-12)
    assert accuracy.loc["sam", ["n", "n_diverged", "n_missing"]].tolist() == [3, 1, 0]
    assert accuracy.loc["sam", "recipe"].startswith("digits, 40 epochs")
    assert pd.isna(accuracy.loc["sgd", "sd"]) and pd.isna(accuracy.loc["sgd", "rho"])
    sharpness = pd.read_csv(tmp_path / "default" / "sharpness.csv").set_index("variant")
    assert sharpness.loc["sam", "mean"] == pytest.approx((expected / 3).mean(), rel=1e-12)
    assert sharpness.loc["sgd", ["n", "n_missing"]].tolist() == [0, 1]
    both = pd.read_csv(tmp_path / "default" / "sgdhess.csv")
    assert both["quantity"].tolist() == ["test_accuracy", "lambda_max"]
    assert list(both.columns) == list(pd.read_csv(tmp_path / "default" / "accuracy.csv").columns)


def test_pruned_cells_are_named_and_never_averaged(
    study: Study, root: Path, tmp_path: Path
) -> None:
    for seed in range(2):
        study.add(cell(variant("sam", 0.1), seed=seed), 90.0 + seed)
        study.add(cell(variant("sam", 0.2), seed=seed), 80.0, measurement(1.0))
    why = "epoch 3: validation 12.00 %, pruner median, 4 other cells"
    study.add(cell(variant("sam", 0.1), seed=2), status="pruned", error=why)
    study.add(cell(variant("sgd")), status="pruned", error=why)
    study.add(cell(variant("sam", 0.4), seed=0), status="pruned", error=why)
    study.add(cell(variant("sam", 0.4), seed=1), status="pruned", error=why)
    told = write_tables("default", root, tmp_path)
    assert "90.50 ± 0.71 (n=2, 1 pruned)" in told
    assert "pruned (2 of 2)" in told and " pruned  " in told
    assert "4 complete, 4 pruned" in told and why in told
    text = (tmp_path / "default" / "accuracy.md").read_text()
    assert "Pruned: ended early by the study's pruner" in text
    # The mean leaves out the worst seed: it is no column's best.
    assert "**90.50" not in text
    accuracy = pd.read_csv(tmp_path / "default" / "accuracy.csv")
    assert accuracy["n_pruned"].tolist() == [1, 1, 0, 2]
    assert accuracy["n_missing"].sum() == 0
    sharpness = pd.read_csv(tmp_path / "default" / "sharpness.csv")
    assert sharpness["n_pruned"].sum() == 4


def test_recipes_and_settings_have_headings(study: Study, root: Path, tmp_path: Path) -> None:
    study.add(cell(variant("sam", 0.1)), 90.0, measurement(1.0), measurement(2.0, weights="best"))
    study.add(cell(variant("sam", 0.1), model="resnet20"), 90.0)
    study.add(cell(variant("sam", 0.1), epochs=5), 90.0)
    write_tables("default", root, tmp_path)
    pages = {name: (tmp_path / "default" / f"{name}.md").read_text() for name in _NAMES}
    headings = {
        name: [line for line in page.splitlines() if line.startswith("##")]
        for name, page in pages.items()
    }
    tail = "batch 128, SGD lr 0.1, momentum 0.9, weight decay 0.001, label noise 0.4"
    short, long = f"## digits, 5 epochs, {tail}", f"## digits, 40 epochs, {tail}"
    assert headings["accuracy"] == [short, "### resnet8", long, "### resnet8", "### resnet20"]
    assert headings["sharpness"] == [short, long] + [
        f"### {model}, lambda_max, 2048 examples, {weights} weights, tolerance 1e-4"
        for weights in ("best", "last")
        for model in ("resnet8", "resnet20")
    ]
    assert "Not measured yet." in pages["sharpness"]
    assert "No SGD or SGDHESS cells" in pages["sgdhess"]


def test_unreadable_records_are_named_and_many_are_counted(
    study: Study, root: Path, tmp_path: Path
) -> None:
    study.add(cell(variant("sgd")), 90.0)
    files = [study.plant(f"broken{number:02}") for number in range(15)]
    text = write_tables("default", root, tmp_path)
    assert all(f"unreadable: {file}: " in text for file in files[:10])
    assert "broken10" not in text and "unreadable: and 5 more" in text


def test_the_sweeper_gets_the_accuracy_alone(small_grid: Study) -> None:
    text = accuracy_markdown(small_grid.folder)
    assert "# Test accuracy (%), last epoch: study default" in text and "9 cells: 6" in text
    assert "harpness" not in text
