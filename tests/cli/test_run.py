"""The command as a user types it, in a process of its own and in a foreign folder."""

import os
import signal

import pytest
from helpers import QUICK, assert_same_result, records, run

# ------------------------------------------------------------------ refused before anything happens


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["opt=smm"], "opt 'smm' is unknown: did you mean 'sam'? choose one of"),
        (
            ["dataset=mnist"],
            "dataset 'mnist' is unknown: choose one of arrays, cifar10, cifar100, digits",
        ),
        (["eopchs=3"], "key 'eopchs' is unknown: did you mean 'epochs'?"),
        (["+typo=1"], "key 'typo' is unknown"),
        (["rho=-1"], "rho=-1: should be greater than or equal to 0."),
        (["rho=0.1,0.2"], "rho=0.1,0.2 gives several values: add -m to sweep over them."),
        (["batch_size=1000"], "batch_size=1000 is larger than the 898 training examples of digits"),
        (["dataset=image_folder"], "dataset.path is missing: set dataset.path=VALUE."),
        (["opt=["], "opt=[ cannot be read"),
        (
            ["experiment=demo"],
            "no experiment is chosen yet that could be replaced: write +experiment=demo.",
        ),
        (["dataset=cifar100"], "run once where the network allows it"),
        (["rho=-1", "-m", "rho=-2"], "rho=-1 and rho=-2: the last counts.\nrho=-2: should be"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: there is no such folder."),
        (["--experimental-rerun=x"], "write experimental-rerun=x"),
        (
            ["groups={params:biases,lr:0.1}"],
            "write a list of groups, groups=[",
        ),
        (["opt=gsam", "opt.alpha=0.3"], "write opt.combination_args.alpha=VALUE"),
        (["sharpness.rho_l2=0.3"], "write sharpness.worst_case.rho_l2=VALUE"),
        (["opt.alpha=0.3"], "key 'opt.alpha' is unknown"),
        (["loss_args.reduction=sum"], "loss_args.reduction=sum: a mean is trained and measured"),
        (
            ["sharpness=fisher_trace", "label_smoothing=0.1"],
            "fisher_trace is of plain",
        ),
        (["sharpness=empirical_sam", "loss_args.label_smoothing=0"], "empirical_sam is of plain"),
        (["hydra.foo=1"], "key 'hydra.foo' is unknown."),
        (["+rho=0.2"], "write rho=0.2"),
        (["dataset.augment.flop=true"], "did you mean 'dataset.augment.flip'?"),
        (["--study", "demo"], "study=demo"),
        (["device=cuda:99"], "device=cuda:99: this machine has"),
        (["-m", "opt=sam,smm"], "opt 'smm' is unknown: did you mean 'sam'?"),
        (["epochs=2", "-m", "rho=0.1,-1"], "rho=-1: should be greater than or equal to 0."),
        (["-m", "rho=0.1,-1,-2", "epochs=2,x"], "rho=-2: should be greater"),
        (["hydra/launcher=local"], "hydra/launcher=local has no effect on a single run"),
        (["hydra.launcher.workers=2"], "add -m to launch, also a single cell."),
        (["-m", "hydra.launcher.workers=0"], "hydra.launcher.workers=0: should be greater"),
        (["-m", "hydra.launcher.gpus=[]"], "name at least one"),
        (["-m", "hydra.launcher.gpus=[0]", "device=cpu"], "these cells run on the CPU of"),
        (["rho=0.1,-1", "--config-dir", ".", "-m", "seed=0"], "rho=-1: should be greater"),
        (["-m", "dry_run=true,false"], "dry_run=true,false: give one value for the whole sweep."),
        (["-m", "hydra.sweep.dir=a,b"], "hydra.sweep.dir=a,b: give one value"),
        (["-m", "+experiment=demo,accuracy"], "each preset brings a grid of its own"),
        (["-m", "hydra.launcher.wokers=2"], "did you mean 'hydra.launcher.workers'?"),
        (
            ["-m", "hydra.launcher.nope=2"],
            "choose one of hydra.launcher.cells_per_gpu, hydra.launcher.gpus, "
            "hydra.launcher.workers.",
        ),
        (
            ["-m", "hydra/launcher=slurm", "hydra.launcher.parition=2"],
            "did you mean 'hydra.launcher.partition'?",
        ),
        (
            ["-m", "hydra/launcher=slurm", "hydra.launcher.per_model={resnet8: {mem_gb: 1}}"],
            "hydra.launcher.per_model.resnet8 is not there to be replaced: write +hydra.launcher",
        ),
        (["-m", "seed=1,"], "seed=1, cannot be read: look at its quotes, commas and brackets."),
        (["-m", "dry_run=maybe"], "dry_run=maybe: should be a valid boolean."),
        (["-m", "hydra/sweeper=basic", "dry_run=true"], "hydra/sweeper=basic has no plan"),
        (["=0.1"], "=0.1: write the key"),
        (["opt=[sam,sgd]"], "opt=sam,sgd with -m"),
        (["-m", "+experiment=[demo,digits]"], "one option is chosen at a time"),
        (["-m", "rho=interval(0,1)"], "rho=0.1,0.2"),
        (["rho=${foo}"], "rho=${foo}: there is no such key: set rho=VALUE."),
        (["-m", "lr=${oc.env:NOPE}"], "'NOPE' not found: set lr=VALUE."),
        (["-m", "--cfg", "job"], "--cfg shows a single run: leave out -m."),
    ],
)
def test_what_cannot_run_ends_in_one_sentence_and_leaves_nothing(
    tmp_path, refused, arguments, sentence
):
    assert sentence in refused(*arguments)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "name", "choices"),
    [
        ("dataset=nan", "dataset 'nan'", ("digits", "cifar100")),
        ("model=null", "model 'null'", ("resnet8", "wrn28_10")),
        ("opt=true", "opt 'true'", ("sam", "sgdhess")),
        ("sharpness=1.5", "sharpness '1.5'", ("lambda_max", "none")),
        ("tracking=0", "tracking '0'", ("none", "wandb")),
        ("+experiment=1", "experiment '1'", ("demo", "digits")),
        ("hydra/launcher=null", "hydra/launcher 'null'", ("local", "slurm")),
        ("-m dataset=digits,1", "dataset '1'", ("digits", "cifar100")),
        ("-m opt=range(1,2)", "opt '1'", ("sam", "sgdhess")),
        ("-m hydra.sweeper.zip={opt:[sam,null],rho:[0.1,0.2]}", "opt 'null'", ("sam", "sgdhess")),
        ("dataset=1 --help", "dataset '1'", ("digits", "cifar100")),
    ],
)
def test_an_option_that_is_no_text_is_refused_as_others_are(
    tmp_path, refused, words, name, choices
):
    told = refused(*words.split())
    assert f"{name} is unknown" in told and all(choice in told for choice in choices)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("sweeps", [False, True])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"name: digits\n path: x\n", ("mine.yaml, line 2", "correct it")),
        (b"name:\tx\n\tpath: x\n", ("mine.yaml, line 1", "correct it")),
        (b"name: digits\nname: svhn\n", ("mine.yaml, line 2", "name", "correct it")),
        (b"name: digits\x07\n", ("mine.yaml", "correct it")),
        (b"\xff\xfename: x\n", ("mine.yaml", "UTF-8")),
        (b"defaults: [mine, _self_]\n", ("defaults", "themselves")),
        (b"name: digits\n", ("lr=${dataset.recipe.lr}", "defaults: [own, _self_]", "lr=VALUE")),
    ],
)
def test_an_option_that_cannot_be_read_is_told_by_its_file(
    tmp_path, refused, content, told, sweeps
):
    (tmp_path / "conf/dataset").mkdir(parents=True)
    (tmp_path / "conf/dataset/mine.yaml").write_bytes(content)
    sentence = refused(*(["-m"] if sweeps else []), "--config-dir", "conf", "dataset=mine")
    assert all(part in sentence for part in told)
    assert os.listdir(tmp_path) == ["conf"]


def test_options_of_ones_own_go_before_ours_of_the_same_name(tmp_path):
    for group, text in (
        ("opt/sam", "name: hybrid\ndirection: sam\nmagnitude: sgd\n"),
        ("model/resnet8", "name: resnet20\n"),
        ("dataset/digits", "defaults: [own, _self_]\nname: digits\nrecipe: {epochs: 1}\n"),
    ):
        (tmp_path / f"mine/{group}.yaml").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"mine/{group}.yaml").write_text(text)
    words = ("opt=sam", "model=resnet8", "batch_size=449", "sharpness=none", "--config-dir", "mine")
    planned = run(tmp_path, "-m", *words, "dry_run=true").stdout
    assert "resnet20" in planned and "samdirection" in planned
    run(tmp_path, *words)
    (record,) = records(tmp_path)
    identity = record["identity"]
    assert (identity["model"]["name"], identity["recipe"]["epochs"]) == ("resnet20", 1)
    # The command in the record is what was typed, not what Hydra was given.
    assert "--config-dir mine" in record["attempts"][-1]["provenance"]["command"]


def test_an_option_of_ones_own_may_be_called_as_a_number_is(tmp_path):
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/1.yaml").write_text("name: resnet20\n")
    planned = run(tmp_path, "-m", "model=1,resnet8", "--config-dir", "mine", "dry_run=true")
    assert "2 cells: 2 to train." in planned.stdout and "resnet20" in planned.stdout


def test_a_refusal_of_the_command_is_its_exit_status_and_all_that_it_prints(tmp_path):
    done = run(tmp_path, "opt=smm", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("preparing ...\nopt 'smm' is unknown: did you mean 'sam'?")


def test_a_sweep_tells_every_problem_once(refused):
    assert sorted(refused("-m", "rho=0.1,-1,-2", "opt=sgd,sam", "epochs=0").splitlines()) == [
        "epochs=0: should be greater than or equal to 1.",
        "rho=-1: should be greater than or equal to 0.",
        "rho=-2: should be greater than or equal to 0.",
    ]


def test_cfg_is_readable_and_leaves_nothing(tmp_path):
    assert "rho: 0.1" in run(tmp_path, "--cfg", "job").stdout
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------ sweeps


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a small sweep, and what was printed."""
    folder = tmp_path_factory.mktemp("swept")
    done = run(folder, "-m", *QUICK, "study=small", "opt=sgd,sam", "rho=0.1,0.2")
    return folder, done


def test_a_sweep_trains_each_distinct_cell_and_prints_the_table(swept):
    folder, done = swept
    found = records(folder)
    assert [r["status"] for r in found] == ["complete"] * 3
    assert {(r["identity"]["variant"]["name"], r["identity"]["variant"]["rho"]) for r in found} == {
        ("sgd", None),
        ("sam", 0.1),
        ("sam", 0.2),
    }
    assert "3 cells of 4 points: 3 to train" in done.stdout
    assert "| SAM " in done.stdout
    assert "3 cells: 3 complete" in done.stdout
    # A study holds cells and launches, and nothing else.
    names = (os.listdir(folder / name) for name in ("", "multirun", "multirun/small"))
    assert list(map(sorted, names)) == [["multirun"], ["small"], ["cells", "launches"]]


def test_the_same_again_trains_nothing(swept):
    """As a sweep, as a single cell, and with Hydra's own sweeper and launcher."""
    folder, _ = swept
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*.json*")}
    done = run(folder, "-m", *QUICK, "study=small", "opt=sgd,sam", "rho=0.1,0.2")
    assert "3 cells of 4 points: 3 already finished" in done.stdout
    assert "| SAM " in done.stdout
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*.json*")} == before
    done = run(folder, *QUICK, "study=small", "opt=sam", "rho=0.2")
    assert "already complete" in done.stdout
    basic = ["-m", "hydra/sweeper=basic", "hydra/launcher=basic", "opt=sam", "rho=0.1,0.2"]
    done = run(folder, *QUICK, "study=small", *basic)
    assert done.stdout.count("already complete") == 2


def test_tables_of_a_study(swept):
    folder, _ = swept
    done = run(folder, "tables", "study=small", module="samsweep")
    assert "# Test accuracy (%), last epoch: study small" in done.stdout
    assert set(os.listdir(folder / "tables/small")) >= {
        f"{name}.{suffix}"
        for name in ("accuracy", "accuracy_best", "accuracy_train", "sharpness", "amplified")
        for suffix in ("md", "csv", "tex", "html")
    }


def test_a_run_returns_its_validation_accuracy(swept):
    """What a sweeper such as Optuna's optimizes."""
    folder, _ = swept
    code = (
        "import sys, samsweep.cli.run as r\n"
        "original = r.task\n"
        "def task(cfg):\n"
        "    value = original(cfg); print('returned', value); return value\n"
        "r.task = task; r.main(sys.argv[1:])"
    )
    done = run(folder, *QUICK, "study=small", "opt=sam", "rho=0.2", code=code)
    (record,) = [r for r in records(folder) if r["identity"]["variant"]["rho"] == 0.2]
    assert f"returned {record['metrics']['val_accuracy']}" in done.stdout


def test_an_unreadable_record_is_told_in_one_sentence(tmp_path):
    run(tmp_path, *QUICK, "opt=sgd", "epochs=1")
    file = only_cell(tmp_path) / "record.json"
    file.write_text("{")
    for arguments in (["-m", "opt=sgd,sam"], ["opt=sgd"]):
        done = run(tmp_path, *QUICK, "epochs=1", *arguments, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "record.json" in done.stderr
        assert "Move that cell's folder away to train it anew." in done.stderr


# ------------------------------------------------------------------ stopping and resuming

SLOW = [
    "epochs=6",
    "sharpness=none",
    "num_threads=1",
    "checkpoint_every_steps=3",
    "opt=samdirection",
]


#: The command, sending itself a signal in the middle of the step that follows so many others.
SIGNALLED = """
import os, sys
from samsweep.training.trainer import Trainer
signum, at = int(sys.argv.pop(1)), int(sys.argv.pop(1))
original = Trainer.take_step
def take_step(self, indices):
    if self.total_steps == at:
        os.kill(os.getpid(), signum)
    original(self, indices)
Trainer.take_step = take_step
from samsweep.cli.main import main
main(["run", *sys.argv[1:]])
"""


def only_cell(folder):
    (cell,) = (folder / "multirun/default/cells").glob("resnet8-*")
    return cell


def test_killed_in_mid_epoch_and_resumed_is_bit_identical(tmp_path, tmp_path_factory):
    """SIGKILL during step 20 of 42, in the third epoch; the last checkpoint is of step 18."""
    done = run(tmp_path, int(signal.SIGKILL), 19, *SLOW, code=SIGNALLED, check=False)
    assert done.returncode == -signal.SIGKILL
    (record,) = records(tmp_path)
    assert record["status"] == "running"
    assert record["progress"]["epoch"] == 2
    assert (only_cell(tmp_path) / "lock.json").exists()

    done = run(tmp_path, *SLOW)
    assert "resumed at step 18" in done.stdout
    uninterrupted = tmp_path_factory.mktemp("uninterrupted")
    run(uninterrupted, *SLOW)
    assert_same_result(only_cell(tmp_path), only_cell(uninterrupted))
    (record,) = records(tmp_path)
    assert [attempt["start_step"] for attempt in record["attempts"]] == [0, 18]
    assert not (only_cell(tmp_path) / "lock.json").exists()


# ------------------------------------------------------------------ tracking


@pytest.mark.slow
def test_wandb_offline_needs_no_account(tmp_path):
    home = str(tmp_path / "home")
    done = run(tmp_path, *QUICK, "tracking=wandb", WANDB_API_KEY="", HOME=home)
    cell = only_cell(tmp_path)
    (offline,) = (cell / "wandb").glob("offline-run-*")
    assert offline.name.endswith(cell.name)
    assert list(offline.glob("run-*.wandb"))
    assert "complete" in done.stdout
