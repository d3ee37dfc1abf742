"""The example project as a user has it: installed, swept, stopped, resumed, measured."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import new_environment

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples/own_project"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("own_project")]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project, installed into an environment of its own."""
    folder = tmp_path_factory.mktemp("lab") / "own_project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("multirun", "__pycache__"))
    # torch and all else come from here: installing them again would take gigabytes.
    python, _ = new_environment(folder.parent / "env", ROOT)
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    return folder, python


def environment_of(folder):
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SAMSWEEP_PLUGINS")}
    return kept | {"XDG_CACHE_HOME": str(folder.parent / "cache")}


def samsweep(project, *arguments, status=0):
    folder, python = project
    done = subprocess.run(
        [python, "-W", "ignore", "-m", "samsweep", *arguments],
        cwd=folder,
        env=environment_of(folder),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def records(project, study):
    files = (project[0] / "multirun" / study / "cells").glob("*/record.json")
    return [json.loads(file.read_text()) for file in files]


def test_its_sweep_is_stopped_resumed_measured_and_tabulated(project):
    folder, python = project
    sweep = ["run", "--config-dir", "conf", "+experiment=blend", "epochs=150"]
    process = subprocess.Popen(
        [python, "-W", "ignore", "-m", "samsweep", *sweep],
        cwd=folder,
        env=environment_of(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not any((r.get("progress") or {}).get("epoch") for r in records(project, "blend")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    assert any(record["status"] != "complete" for record in records(project, "blend"))

    samsweep(project, *sweep)
    found = records(project, "blend")
    assert len(found) == 10
    assert {record["status"] for record in found} == {"complete"}
    resumed = [r for r in found if len(r["attempts"]) > 1 and r["attempts"][-1]["start_step"]]
    assert resumed
    # The folder beside conf/ goes before the installed copy, whose version would stand here.
    (source,) = {record["identity"]["sources"]["model"] for record in found}
    assert re.fullmatch("[0-9a-f]{16}", source)
    blends = [r for r in found if r["identity"]["variant"]["name"] == "blend"]
    alphas = {r["identity"]["variant"]["combination_args"]["alpha"] for r in blends}
    assert alphas == {0.25, 0.5, 0.75}
    assert all({"lambda_max", "weight_kurtosis"} <= names(r) for r in found)

    assert "10 already finished" in samsweep(project, *sweep)
    samsweep(project, "measure", "--config-dir", "conf", "study=blend", "sharpness=trace")
    assert all("trace" in names(record) for record in records(project, "blend"))

    printed = samsweep(project, "tables", "study=blend")
    for alpha in ("0.25", "0.5", "0.75"):
        assert alpha in printed
    page = (project[0] / "tables/blend/measure_weight_kurtosis.md").read_text()
    assert "kurtosis of the weights" in page.splitlines()[0].lower()


def names(record):
    return {measurement["name"] for measurement in record["measurements"].values()}


def test_a_path_needs_no_plugin(project):
    samsweep(
        project, "run", "--config-dir", "conf", "model=mlp", "opt=sam", "dataset=wine", "epochs=1"
    )
    (record,) = records(project, "default")
    assert record["identity"]["model"] == {
        "name": "mlp",
        "factory": "mylab.model.TabularNet",
        "args": {"width": 16},
    }


def test_without_the_plugin_cells_are_readable_and_not_trained(project):
    folder, python = project
    samsweep(
        project,
        "run",
        "--config-dir",
        "conf",
        "model=tabular_net",
        "dataset=wine",
        "opt=sgd",
        "epochs=1",
        "study=gone",
    )
    uninstall = ["uninstall", "--quiet", "--yes", "mylab"]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *uninstall], check=True)
    assert "tabular_net" in samsweep(project, "tables", "study=gone")
    refused = samsweep(project, "measure", "study=gone", "sharpness=trace", status=2)
    assert "tabular_net" in refused and "plugins" in refused


@pytest.mark.parametrize(
    "options",
    [
        ["model_name=resnet18"],
        ["model_name=vit_tiny_patch16_224", "img_size=8", "patch_size=2", "depth=1"],
    ],
)
def test_a_network_of_timm_by_its_path(tmp_path, options):
    pytest.importorskip("timm")
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/timm.yaml").write_text("factory: timm.create_model\n")
    arguments = [
        "run",
        "--config-dir",
        "conf",
        "model=timm",
        "dataset=digits",
        "opt=sam",
        "epochs=1",
        "sharpness.num_examples=8",
    ]
    arguments += [f"model.args.{option}" for option in options]
    samsweep((tmp_path, Path(sys.executable)), *arguments)
    (record,) = records((tmp_path, None), "default")
    assert record["status"] == "complete"
    assert record["identity"]["sources"]["model"].startswith("timm ")
