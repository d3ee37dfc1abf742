"""The command ``python -m multirun_analysis``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from multirun_analysis.__main__ import main
from samsweep.cli.main import main as samsweep

from .conftest import Study


def test_a_study_without_records_says_how_to_fill_it(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "mine" / "cells").mkdir(parents=True)
    assert main(["study=mine", f"root={root}", f"out={tmp_path / 'out'}"]) == 1
    message = capsys.readouterr().err
    assert str(root / "mine" / "cells") in message
    assert "samsweep run -m study=mine" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["defalt", "mine"])
def test_a_missing_study_is_told_as_every_command_tells_it(
    small_grid: Study, root: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    statuses = [samsweep([word, f"study={name}", f"root={root}"]) for word in ("tables", "status")]
    assert statuses == [2, 2]
    reading, *told = capsys.readouterr().err.splitlines()
    assert reading == f"reading study {name} ..."
    told = [line for line in told if not line.startswith("reading")]
    assert len(told) == 2 and len(set(told)) == 1 and f"study '{name}' is unknown" in told[0]


def test_the_command_prints_and_writes(
    small_grid: Study, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["reference=empirical_sam", f"export={tmp_path / 'frames'}"]
    assert main([f"root={root}", f"out={tmp_path / 'tables'}", *options]) == 0
    output = capsys.readouterr().out
    assert "| SAM " in output and "Written to" in output
    assert "# Published values beside study default" in output
    assert "Exported runs.csv, runs.parquet" in output
    for name in ("accuracy.csv", "comparison.tex"):
        assert (tmp_path / "tables" / "default" / name).exists()
    assert len(list((tmp_path / "frames").iterdir())) == 6


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("study=default", "root=multirun", "out=tables", "empirical_sam", "??"):
        assert word in text


def test_neither_torch_nor_hydra_is_imported() -> None:
    code = (
        "import sys, multirun_analysis, multirun_analysis.__main__, multirun_analysis.references\n"
        "banned = {'torch', 'hydra', 'omegaconf', 'samsweep.training'} & set(sys.modules)\n"
        "sys.exit(f'imported: {banned}' if banned else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_reference_is_refused_before_anything_is_read(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"root={root}", "reference=empirical"]) == 2
    assert "did you mean 'empirical_sam'?" in capsys.readouterr().err


def test_quiet_prints_no_table_and_wandb_is_not_imported_unless_asked_for(
    small_grid: Study, root: Path, tmp_path: Path
) -> None:
    code = (
        "import sys\n"
        "from multirun_analysis.__main__ import main\n"
        f"main(['root={root}', 'out={tmp_path}', '--quiet'])\n"
        "sys.exit('wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "|" not in done.stdout and "9 cells: 6 complete" in done.stdout
