"""Without the libraries of the extras everything else works, and they are told of."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import compose_run

from samsweep.config import ConfigError, extras
from samsweep.config.extras import EXTRAS

WITHOUT = (
    "import sys; "
    f"sys.modules.update(dict.fromkeys({list(EXTRAS.values())})); "
    "from samsweep.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


def samsweep(folder, *words):
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_they_are_what_the_package_declares():
    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    optional = declared["optional-dependencies"]
    assert {name: optional[name][0].partition(">")[0] for name in EXTRAS} == EXTRAS
    assert optional["all"] == [f"samsweep[{','.join(EXTRAS)}]"]
    core = {requirement.partition(">")[0] for requirement in declared["dependencies"]}
    assert core.isdisjoint(EXTRAS.values())


@pytest.mark.parametrize(
    ("override", "extra"), [("tracking=wandb", "wandb"), ("pruner=median", "pruning")]
)
def test_a_run_that_needs_one_is_refused_with_the_command(monkeypatch, override, extra):
    compose_run(override)
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=rf"{override} needs .* pip install 'samsweep\[{extra}\]'"
    ):
        compose_run(override, "seed=7")


def test_a_folder_of_runs_is_no_library(tmp_path, monkeypatch):
    """W&B keeps them in a folder of its own name."""
    (tmp_path / "wandbless").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(extras, "EXTRAS", {"wandb": "wandbless"})
    assert "pip install" in extras.lacking("tracking=wandb", "wandb")


@pytest.mark.slow
def test_a_cell_is_trained_and_tabulated_without(tmp_path):
    done = samsweep(tmp_path, "run", "model=resnet8", "opt=sam", "epochs=1", "study=bare")
    assert done.returncode == 0, done.stderr
    done = samsweep(tmp_path, "tables", "study=bare")
    assert done.returncode == 0 and "1 cell: 1 complete" in done.stdout, done.stderr
    before = sorted(tmp_path.rglob("*"))
    for words, extra in (
        (("report", "study=bare"), "report"),
        (("tables", "study=bare", "wandb=offline"), "wandb"),
    ):
        done = samsweep(tmp_path, *words)
        assert done.returncode == 2 and f"pip install 'samsweep[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
