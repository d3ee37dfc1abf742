"""Hopeless cells are ended early, say so, and can be resumed as if they had not been."""

import json

import pytest
from helpers import assert_same_result, compose_run, leave, point

from samsweep.config import ConfigError, PruningConfig
from samsweep.records.lock import FolderLock
from samsweep.training.cell import run_cell
from samsweep.training.pruning import Curve, make_pruner, should_prune

QUICK = ("opt=sgd", "epochs=4", "sharpness=none")
#: At once, with whatever cells there are.
EAGER = ("pruner=median", "pruner_args.n_startup_trials=1")


def curve(*values, status="complete", order=0):
    return Curve(order=(f"{order:03}", ""), status=status, values=values)


def asks(name, own, *others, higher_is_better=True, **args):
    config = PruningConfig(name=name, args=args)
    return should_prune(
        config, curve(*own, status="running", order=999), others, higher_is_better=higher_is_better
    )


# ------------------------------------------------------------------ Optuna


def test_the_median_of_complete_cells_at_the_same_epoch():
    others = [curve(10, 50, 90), curve(20, 60, 90), curve(30, 70, 90)]
    assert asks("median", [15, 55], *others, n_startup_trials=3)
    assert not asks("median", [15, 60], *others, n_startup_trials=3)
    assert not asks("median", [15, 55], *others, n_startup_trials=4)
    assert not asks("median", [15, 55], *others, n_startup_trials=3, n_warmup_steps=2)
    assert asks("median", [15, 55, 80], *others, n_startup_trials=3, n_warmup_steps=2)
    # Of a metric that is to be low, the higher one is hopeless.
    low = {"n_startup_trials": 3, "higher_is_better": False}
    assert not asks("median", [15, 55], *others, **low)
    assert asks("median", [75, 65], *others, **low)


@pytest.mark.parametrize("status", ["pruned", "diverged", "failed", "running", "interrupted"])
def test_the_median_is_not_of_cells_that_are_not_complete(status):
    assert not asks("median", [1, 1], curve(50, 60, status=status), n_startup_trials=0)


def test_rungs_of_successive_halving_know_the_cells_that_passed_them():
    args = {"min_resource": 1, "reduction_factor": 2}
    others = [curve(0, 10 * i, status="running", order=i) for i in range(1, 5)]
    assert asks("successive_halving", [0, 15], *others, **args)
    assert not asks("successive_halving", [0, 50], *others, **args)
    # Between two rungs nobody is asked.
    assert not asks("successive_halving", [0, 50, 1, 1], *others, **args | {"min_resource": 4})


def test_a_threshold_needs_no_other_cell():
    assert asks("threshold", [11, 9], lower=10)
    assert not asks("threshold", [9, 11], lower=10)


def test_other_classes_of_optuna_go_by_their_paths():
    assert not asks("optuna.pruners.NopPruner", [1], curve(50))
    assert type(make_pruner(PruningConfig(name="hyperband"))).__name__ == "HyperbandPruner"


@pytest.mark.parametrize(
    ("name", "args", "told"),
    [
        ("median", {"n_warmup": 3}, ["pruner=median", "n_warmup", "n_warmup_steps"]),
        ("percentile", {}, ["pruner=percentile", "percentile"]),
        ("percentile", {"percentile": 200.0}, ["pruner=percentile", "200", "between 0 and 100"]),
        ("fractions.Fraction", {}, ["fractions.Fraction", "prune", "BasePruner"]),
        ("optuna.pruners.MedainPruner", {}, ["optuna.pruners", "MedainPruner"]),
    ],
)
def test_a_pruner_that_cannot_be_made_is_refused_in_a_sentence(name, args, told):
    with pytest.raises(ConfigError) as refused:
        make_pruner(PruningConfig(name=name, args=args))
    assert all(part in str(refused.value) for part in told)


# ------------------------------------------------------------------ a cell


def others(root, *values, overrides=QUICK, status="complete", **changes):
    """A cell of the study, with its history."""
    folder = leave(root, *overrides, "seed=7", status=status, **changes)
    rows = [{"epoch": i, "val_accuracy": value} for i, value in enumerate(values, 1)]
    folder.write_history(rows)
    return folder


def train(root, *overrides):
    cell = point(root, *QUICK, *overrides)
    cell.folder.path.mkdir(parents=True, exist_ok=True)
    return run_cell(cell.run, cell.folder), cell.folder


def test_a_pruned_cell_says_so_and_is_resumed_bit_for_bit_without_its_pruner(tmp_path):
    others(tmp_path, 99, 99.9, 99.9, 99.9)
    value, folder = train(tmp_path, *EAGER, "pruner_args.n_warmup_steps=1")
    record = folder.read()
    assert record.status == "pruned" and not record.finished
    assert record.metrics is None
    assert record.progress.epoch == 2
    assert value == record.progress.val_accuracy == folder.read_history()[-1]["val_accuracy"]
    assert "epoch 2" in record.error and f"{value:.2f} %" in record.error
    assert "pruner median" in record.error and "1 other cell" in record.error
    assert folder.checkpoint_file.exists()
    assert record.attempts[0].ended is not None and record.attempts[0].end_step == 2 * 7

    # With a pruner it stays as it is.
    before = folder.record_file.read_bytes()
    assert train(tmp_path, "pruner=threshold", "pruner_args.lower=0")[0] == value
    assert folder.record_file.read_bytes() == before

    train(tmp_path)
    resumed = folder.read()
    assert (resumed.status, resumed.error) == ("complete", None)
    assert [a.start_step for a in resumed.attempts] == [0, 14]
    assert not folder.checkpoint_file.exists()
    _, reference = train(tmp_path / "elsewhere")
    assert_same_result(folder.path, reference.path)
    histories = [[{**row, "seconds": 0} for row in f.read_history()] for f in (folder, reference)]
    assert histories[0] == histories[1]


def test_a_cell_that_can_be_compared_with_none_is_trained_to_its_end(tmp_path):
    others(tmp_path, 99, 99.9, 99.9, overrides=("opt=sgd", "epochs=3", "sharpness=none"))
    noise = (*QUICK, "dataset.label_noise=0.2")
    others(tmp_path, 99, 99.9, 99.9, 99.9, overrides=noise)
    _, folder = train(tmp_path, *EAGER)
    assert folder.read().status == "complete"


def test_the_last_epoch_is_not_asked_about(tmp_path):
    others(tmp_path, 0, 0, 0, 99.9)
    _, folder = train(tmp_path, *EAGER)
    assert folder.read().status == "complete"


def test_what_stands_in_other_folders_is_data(tmp_path):
    folder = others(tmp_path, 99, 99.9, 99.9, 99.9)
    broken = leave(tmp_path, *QUICK, "seed=8")
    broken.history_file.write_text("no JSON\n")
    odd = leave(tmp_path, *QUICK, "seed=9")
    odd.history_file.write_text('{"epoch": 1, "val_accuracy": "99"}\n[1]\n')
    leave(tmp_path, *QUICK, "seed=10").record_file.write_text("{")
    _, ours = train(tmp_path, *EAGER)
    assert "1 other cell" in ours.read().error
    assert folder.read().status == "complete"


def test_what_other_cells_reach_meanwhile_counts(tmp_path, monkeypatch):
    from samsweep.training import train as train_module

    original = train_module._end_epoch

    def end_epoch(workspace, trainer, history, row):
        original(workspace, trainer, history, row)
        if len(history) == 3:
            others(tmp_path, 99, 99.9, 99.9, 99.9)

    monkeypatch.setattr(train_module, "_end_epoch", end_epoch)
    _, folder = train(tmp_path, *EAGER)
    assert folder.read().progress.epoch == 3
    assert folder.read().status == "pruned"


def test_a_pruner_is_no_part_of_the_identity():
    plain, pruned = compose_run(*QUICK), compose_run(*QUICK, *EAGER)
    assert plain.cell == pruned.cell
    assert plain.pruning is None and pruned.pruning.args == {"n_startup_trials": 1}


def test_a_pruned_cell_is_no_failure_of_wandb_and_holds_no_lock(tmp_path):
    others(tmp_path, 99, 99.9, 99.9, 99.9)
    _, folder = train(tmp_path, *EAGER)
    assert not FolderLock(folder.path).alive
    record = json.loads(folder.record_file.read_text())
    assert record["schema_version"] == 1
