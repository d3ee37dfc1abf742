"""The command ``samsweep``: its five commands, their help, their words and tab completion."""

import errno
import importlib
import os
import shutil
import subprocess
import sys
import time
import types

import pytest

from samsweep.cli.complete import completions
from samsweep.cli.main import COMMANDS, main, run_command
from samsweep.cli.overrides import split_overrides
from samsweep.cli.status import StatusOptions
from samsweep.cli.tables import TablesOptions
from samsweep.config import ConfigError, Options, described

# ------------------------------------------------------------------ the commands


@pytest.mark.parametrize("arguments", [[], ["--help"], ["stats"]])
def test_the_commands_are_named(capsys, arguments):
    assert main(arguments) == (0 if "--help" in arguments else 2)
    told = "".join(capsys.readouterr())
    assert all(command in told for command in COMMANDS)
    assert ("did you mean 'status'" in told) == ("stats" in arguments)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--study", "demo", "opt=sam"], "study=demo"),
        (["--study=demo"], "study=demo"),
        (["opt=sam", "demo"], "study=demo"),
    ],
)
def test_a_word_that_is_no_override_is_answered_with_the_remedy(arguments, remedy):
    with pytest.raises(ConfigError, match=remedy):
        split_overrides(arguments)


def test_flags_may_stand_anywhere():
    flags, overrides = split_overrides(
        ["a=1", "--resolve", "b=2", "--config-dir", "mine", "~c", "--cfg=job"]
    )
    assert flags == ["--resolve", "--config-dir", "mine", "--cfg=job"]
    assert overrides == ["a=1", "b=2", "~c"]
    assert split_overrides(["--info", "defaults", "a=1"]) == (["--info", "defaults"], ["a=1"])
    with pytest.raises(ConfigError, match="study=demo"):
        split_overrides(["--info", "demo"])


@pytest.mark.parametrize("command", ["tables", "report"])
@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [("--study demo", "study=demo"), ("refrence=empirical_sam", "did you mean 'reference'")],
)
def test_tables_take_the_same_style_of_argument(capsys, command, arguments, remedy):
    assert main([command, *arguments.split()]) == 2
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run -m opt=sgd,sam", "planning ...\n"),
        ("run +experiment=demo", "planning ...\n"),
        ("run hydra.mode=MULTIRUN", "planning ...\n"),
        ("run opt=sam", "preparing ...\n"),
        ("measure study=demo", "selecting cells ...\n"),
        ("status study=demo", "reading records ...\n"),
        ("status --watch", "reading records ...\n"),
        ("run --help", ""),
        ("run -m --cfg=job", ""),
        ("run --info defaults", ""),
        ("measure -h", ""),
        ("status --help", ""),
    ],
)
def test_a_command_says_at_once_what_it_does_unless_it_prints(monkeypatch, capsys, line, said):
    command, *arguments = line.split()
    told = []
    module = types.SimpleNamespace(main=lambda _: told.append(capsys.readouterr().err))
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(importlib, "import_module", lambda _: module)
    assert main([command, *arguments]) == 0
    assert told == [said]


def test_tables_say_at_once_what_they_read(tmp_path, capsys):
    assert main(["report", "study=demo", f"root={tmp_path}"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "reading study demo ..."


def test_a_sweep_says_so_at_once(tmp_path):
    """Long before it could have imported Hydra: here it ends with an empty grid."""
    command = [sys.executable, "-u", "-m", "samsweep", "run", "-m", "seed=range(0,0)"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    first = process.stderr.readline()
    at = time.monotonic()
    _, rest = process.communicate()
    assert first == "planning ...\n"
    assert process.returncode == 2 and "This grid is empty" in rest
    assert time.monotonic() - at > 0.1, "the line came with the end"


# ------------------------------------------------------------------ help

SCHEMAS = {
    **{"run": Options, "measure": Options, "status": StatusOptions},
    **{"tables": TablesOptions, "report": TablesOptions},
}


@pytest.mark.parametrize("schema", [Options, StatusOptions, TablesOptions])
def test_every_key_has_a_meaning_and_says_what_it_can_be(schema):
    keys = list(described(schema))
    assert [key.name for key in keys if not key.meaning] == []
    sections = {key.name.rpartition(".")[0] for key in keys}
    groups = {"model", "opt", "dataset", "sharpness", "tracking"}
    plain = [key for key in keys if key.name not in sections | groups]
    assert [key.name for key in plain if not key.values and "confirmatory" not in key.name] == []


@pytest.mark.parametrize(
    ("line", "parts", "never"),
    [
        (
            "run dataset=cifar100 --help",
            [
                "epochs=200  integer >= 1",
                "granularity=element  element, tensor or global",
                "unified_sam, usam",
                "hydra.launcher.workers=null",
            ],
            "hydra.launcher.partition",
        ),
        (
            "run hydra/launcher=slurm -h",
            ["timeout_min=60  integer >= 1\n      Time limit of a job, in minutes."],
            "man sbatch",
        ),
        (
            "measure --help",
            ["  sharpness=", "sharpness.spectral_density", "epochs=", "dataset.label_noise"],
            "+experiment",
        ),
        ("status --help", ["usage: samsweep status "], "Traceback"),
        ("tables --help", ["usage: samsweep tables ", "report=false ", "quiet=false "], "=true "),
        ("report -h", ["usage: samsweep report ", "html that holds all"], "quiet=false "),
    ],
)
def test_help_explains_every_key(here, tmp_path, monkeypatch, capsys, line, parts, never):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 0
    told = capsys.readouterr().out
    assert [part for part in parts if part not in told] == [] and never not in told
    keys = list(described(SCHEMAS[line.split()[0]]))
    sections = {key.name.rpartition(".")[0] for key in keys}
    for key in keys if not line.startswith("measure") else ():
        if key.name not in sections and not key.name.endswith(".name"):
            assert f"  {key.name}=" in told and key.meaning.split()[0] in told
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ tab completion


@pytest.fixture
def studies(tmp_path, monkeypatch):
    for name in ("demo", "digits"):
        (tmp_path / "multirun" / name / "cells").mkdir(parents=True)
    (tmp_path / "multirun/demo/cells/resnet8-sam").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("samsweep st", ["status"]),
        ("samsweep run mod", ["model="]),
        ("samsweep run -m opt=sgd,samd", ["opt=sgd,samdirection"]),
        ("samsweep run hydra/launcher=s", ["hydra/launcher=slurm"]),
        ("samsweep run +experiment=de", ["+experiment=demo"]),
        ("samsweep run dataset.augment.f", ["dataset.augment.flip="]),
        ("samsweep run granularity=", ["element", "tensor", "global"]),
        ("samsweep run dry_run=t", ["dry_run=true"]),
        ("samsweep measure study=d", ["study=demo", "study=digits"]),
        ("samsweep status study=de", ["study=demo"]),
        ("samsweep status --re", ["--retry"]),
        ("samsweep tables study=di", ["study=digits"]),
        ("samsweep report quiet=f", ["quiet=false"]),
        ("samsweep tables reference=emp", ["reference=empirical_sam"]),
        ("samsweep tables +", []),
        ("samsweep status hydra", []),
        ("samsweep measure +", []),
        ("samsweep measure hydra", ["hydra/launcher="]),
        ("samsweep measure keep", []),
        ("samsweep measure rh", ["rho="]),
        ("samsweep measure dataset.p", ["dataset.path="]),
        ("samsweep measure sharpness=to", ["sharpness=top5"]),
        ("samsweep status study=demo --logs r", ["resnet8-sam"]),
        ("samsweep status --retry= study=demo --cancel=r", ["--cancel=resnet8-sam"]),
        ("samsweep status study=demo retry=", ["retry=resnet8-sam"]),
        ("samsweep status --cancel study=d", ["study=demo", "study=digits"]),
        ("samsweep status --logs r", []),
        ("samsweep run hydra.launcher.cells_per_j", ["hydra.launcher.cells_per_job="]),
        ("samsweep run hydra/launcher=local hydra.launcher.cells_per_j", []),
        ("samsweep tables rows=warm", ["rows=warmup_epochs"]),
        ("samsweep tables cols=lr,warm", ["cols=lr,warmup_epochs"]),
        ("samsweep tables value=log_l", ["value=log_lambda_max"]),
        ("samsweep nothing o", []),
    ],
)
def test_words_are_completed(studies, line, found):
    prefix = "granularity=" if line.endswith("granularity=") else ""
    assert completions(line) == [f"{prefix}{word}" for word in found]


def test_options_of_ones_own_are_completed(studies):
    (studies / "mine/opt").mkdir(parents=True)
    (studies / "mine/opt/zeus.yaml").write_text("name: sgd")
    assert completions("samsweep run --config-dir mine opt=z") == ["opt=zeus"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_replaces_what_follows_the_equals_sign(studies):
    """It splits words there."""
    line = "samsweep status study=de"
    script = f"""
        samsweep() {{ {sys.executable} -m samsweep "$@"; }}
        eval "$(samsweep --completion bash)"
        COMP_LINE='{line}' COMP_POINT={len(line)}
        _samsweep
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["demo"]


def test_zsh_has_a_script_and_other_shells_are_refused(capsys):
    assert main(["--completion", "zsh"]) == 0
    assert "compdef _samsweep samsweep" in capsys.readouterr().out
    assert main(["--completion", "fish"]) == 2
    assert "bash, zsh" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tables", "status", "run"])
def test_a_file_that_fails_is_a_sentence_and_the_traceback_is_kept(
    tmp_path, monkeypatch, capsys, command
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def full(arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/record.json")

    monkeypatch.setattr(f"samsweep.cli.{command}.main", full)
    assert run_command(command, ["--help"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("/some/record.json: No space left on device.")
    assert len(told.splitlines()) == 1
    (log,) = tmp_path.glob("samsweep/errors/*.log")
    assert str(log) in told and "in full" in log.read_text()
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(OSError, match="No space left"):
        run_command(command, ["--help"])


@pytest.mark.parametrize("words", [["run"], ["tables"], []])
def test_an_interruption_while_something_is_imported_is_told(monkeypatch, capsys, words):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("samsweep.cli.main._main", interrupted)
    assert main(words) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
