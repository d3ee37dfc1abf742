"""The import rules of the layers, and what quick commands must not import."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_import_rules():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_planning_and_analysis_do_not_import_torch():
    named = ("records.store", "sweep.plan", "cli.status", "cli.measure", "cli.run", "cli.help")
    modules = ["multirun_analysis", *(f"samsweep.{name}" for name in named)]
    code = "import sys\n" + "".join(
        f"import {module}\nassert 'torch' not in sys.modules, {module!r}\n" for module in modules
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_command_says_something_before_it_imports_what_takes_time():
    code = (
        "import sys, samsweep.cli.main; heavy = {'hydra', 'pydantic', 'pandas', 'torch'}; "
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
