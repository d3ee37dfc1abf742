"""The wheel: conf/ shipped, the sweeper discovered, a cell runs from it in a foreign folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import new_environment

ROOT = Path(__file__).parents[1]

slow = pytest.mark.slow  # builds and installs a wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """An environment with the wheel in it."""
    python, site = new_environment(tmp_path_factory.mktemp("installed"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), wheel],
        check=True,
    )
    return python


def run(python, folder, *arguments):
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}
    done = subprocess.run([python, *arguments], cwd=folder, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@slow
def test_it_holds_every_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(file.relative_to(ROOT))
        for package in ("samsweep", "multirun_analysis", "hydra_plugins")
        for file in (ROOT / package).rglob("*")
        if file.suffix in (".py", ".yaml", ".typed") and "__pycache__" not in file.parts
    }
    expected |= {f"samsweep/{f.relative_to(ROOT)}" for f in (ROOT / "conf").rglob("*.yaml")}
    assert expected <= names
    assert not any(name.startswith(("tests/", "conf/")) for name in names)


def test_the_plugin_namespace_stays_open():
    """An __init__.py there would hide submitit's plugin from Hydra."""
    assert not (ROOT / "hydra_plugins/__init__.py").exists()


@slow
def test_a_sweep_runs_from_it_in_a_foreign_folder(python, tmp_path):
    where = run(python, tmp_path, "-c", "import samsweep; print(samsweep.__file__)")
    assert str(ROOT) not in where
    out = run(python, tmp_path, "-m", "samsweep.run", "-m", "epochs=1", "opt=sgd", "sharpness=none")
    assert "1 cell: 1 to train" in out
    assert "| SGD " in out
    assert "| SGD " in run(python, tmp_path, "-m", "multirun_analysis")


def test_the_editable_install_works_from_a_foreign_folder(tmp_path):
    assert "samdirection, sammagnitude" in run(
        sys.executable, tmp_path, "-m", "samsweep.run", "--help"
    )
