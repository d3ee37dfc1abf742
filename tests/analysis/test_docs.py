"""The pages about the analysis: their code runs, their lists of columns are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from multirun_analysis.runs import columns
from samsweep.cli.tables import TablesOptions

from .conftest import Study, cell, measurement, variant

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture
def demo(root: Path) -> Study:
    """A study such as ``make demo`` makes: several optimizers, with measurements and histories."""
    study = Study(root / "demo")
    for seed in (0, 1):
        for chosen in (variant("sgd"), variant("sam", 0.1), variant("samdirection", 0.1)):
            record = study.add(cell(chosen, seed=seed), 90.0 + seed, measurement(50.0 + seed))
            rows = [{"train_loss": 1.0, "amplified_share": 0.6}] * 40
            study.add_history(record, rows if chosen.perturbs else [{"train_loss": 1.0}] * 40)
    study.add(cell(variant("sam", 0.2)), status="diverged")
    return study


def _blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", ["analysis.md", "analysis_example.md"])
def test_the_code_of_a_page_runs(demo: Study, root: Path, page: str) -> None:
    code = "\n".join(_blocks(page))
    assert code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=root.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if page == "analysis_example.md":
        assert "**90.50 ± 0.71 (n=2)** |" in done.stdout


@pytest.mark.slow
def test_the_commands_of_the_page_run(demo: Study, root: Path) -> None:
    commands = re.findall(
        r"^    (samsweep tables study=demo.*?)(?:  +#.*)?$",
        (DOCS / "analysis.md").read_text(),
        flags=re.MULTILINE,
    )
    assert len(commands) == 8
    for command in commands[:-1]:  # the last pushes to W&B, which has a test of its own
        subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=root.parent,
            check=True,
            capture_output=True,
        )
    assert (root.parent / "frames" / "history.parquet").exists()
    assert (root.parent / "tables" / "demo" / "comparison.html").exists()


def test_every_option_is_explained() -> None:
    page = (DOCS / "analysis.md").read_text()
    assert [key for key in TablesOptions.model_fields if f"`{key}=" not in page] == []


def column_table(*names: str) -> str:
    """The table of a list of columns, as the page shows it."""
    rows = [
        f"| `{name}` | {column.dtype} | {column.unit} | {column.meaning} |"
        for group in names
        for name, column in getattr(columns, group).items()
    ]
    return "\n".join(["| column | dtype | unit | meaning |", "|:--|:--|:--|:--|", *rows])


@pytest.mark.parametrize("groups", [("RUNS",), ("SETTINGS", "VALUES"), ("HISTORY",)])
def test_columns_are_those_of_the_code(groups: tuple[str, ...]) -> None:
    assert (
        f"<!-- columns: {' '.join(groups)} -->\n\n{column_table(*groups)}\n"
        in (DOCS / "analysis.md").read_text()
    )
