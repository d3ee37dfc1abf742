"""Tables as files, and the command that writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from multirun_analysis.__main__ import main
from multirun_analysis.render import write_tables
from multirun_analysis.study import StudyError

from .conftest import Study, cell, measurement, variant

_GOLDEN = Path(__file__).parent / "golden"
_NAMES = ["accuracy", "accuracy_best", "sharpness", "sgdhess"]


@pytest.mark.parametrize("name", _NAMES)
def test_markdown_is_as_checked_in(
    small_grid: Study, root: Path, tmp_path: Path, name: str
) -> None:
    write_tables("default", root, tmp_path / "tables")
    written = (tmp_path / "tables" / "default" / f"{name}.md").read_text(encoding="utf-8")
    assert written == (_GOLDEN / f"{name}.md").read_text(encoding="utf-8")


def test_the_terminal_shows_every_table_and_what_they_lack(
    small_grid: Study, root: Path, tmp_path: Path
) -> None:
    text = write_tables("default", root, tmp_path)
    for name in _NAMES:
        assert (tmp_path / "default" / f"{name}.md").read_text(encoding="utf-8") in text
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


def test_a_record_that_cannot_be_read_is_named(study: Study, root: Path, tmp_path: Path) -> None:
    study.add(cell(variant("sgd")), 90.0)
    broken = study.folder / "cells" / "broken" / "record.json"
    broken.parent.mkdir()
    broken.write_text("{")
    assert f"unreadable: {broken}: " in write_tables("default", root, tmp_path)


def test_no_half_written_file_stays(small_grid: Study, root: Path, tmp_path: Path) -> None:
    write_tables("default", root, tmp_path / "out")
    written = {path.name for path in (tmp_path / "out" / "default").iterdir()}
    assert written == {f"{name}.{suffix}" for name in _NAMES for suffix in ("md", "csv")}


# --------------------------------------------------------------------------- studies without tables


def test_a_study_without_records_says_how_to_fill_it(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "mine" / "cells").mkdir(parents=True)
    assert main(["--study", "mine", "--root", str(root), "--out", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert str(root / "mine" / "cells") in message
    assert "python -m samsweep.run -m study=mine" in message
    assert not (tmp_path / "out").exists()


def test_an_unknown_study_names_those_there_are(small_grid: Study, root: Path) -> None:
    with pytest.raises(StudyError, match=r"'defalt' is unknown: did you mean 'default'\?"):
        write_tables("defalt", root, root)


def test_no_study_at_all(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="There is no study in .*study=default"):
        write_tables("default", tmp_path / "multirun", tmp_path)


@pytest.mark.parametrize("name", ["", "..", "../default", "/tmp", "default/cells"])
def test_a_study_is_a_name_not_a_path(small_grid: Study, root: Path, name: str) -> None:
    with pytest.raises(StudyError, match="is no name"):
        write_tables(name, root, root)


def test_only_unreadable_records(root: Path) -> None:
    broken = root / "default" / "cells" / "broken" / "record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    with pytest.raises(StudyError, match=r"that can be read \(1 cannot\)"):
        write_tables("default", root, root)


# --------------------------------------------------------------------------- command


def test_the_command_prints_and_writes(
    small_grid: Study, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(root), "--out", str(tmp_path / "tables")]) == 0
    output = capsys.readouterr().out
    assert "| SAM " in output and "Written to" in output
    assert (tmp_path / "tables" / "default" / "accuracy.csv").exists()


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("--study", "--root", "--out", "default: tables", "??"))


def test_neither_torch_nor_hydra_is_imported() -> None:
    code = (
        "import sys, multirun_analysis, multirun_analysis.__main__, multirun_analysis.references\n"
        "banned = {'torch', 'hydra', 'omegaconf', 'samsweep.training'} & set(sys.modules)\n"
        "sys.exit(f'imported: {banned}' if banned else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
