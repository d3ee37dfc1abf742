"""A cell's states, as its record tells them."""

import importlib
import itertools
import json
import math
import os
import shutil
import signal
import sys

import pytest
import torch
from helpers import compose_run, make_folder

from samsweep.config import MEASURES, plugins
from samsweep.records.identity import cell_id
from samsweep.records.lock import FolderLock
from samsweep.records.store import CellFolder
from samsweep.system.signals import Interrupted
from samsweep.training import train as train_module
from samsweep.training import workspace as workspace_module
from samsweep.training.cell import CellFailed, run_cell
from samsweep.training.checkpoint import Checkpoints
from samsweep.training.trainer import Trainer

#: The package has a function of the module's name.
measuring = importlib.import_module("samsweep.sharpness.measures")

#: SGD takes one pass a step; what SAM does is the trainer's.
QUICK = ("opt=sgd", "epochs=2", "sharpness=none", "sharpness.num_examples=100")


@pytest.fixture
def folder(tmp_path):
    return CellFolder(make_folder(tmp_path, cell_id(compose_run(*QUICK).cell)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A complete cell that nobody may change, with a measurement."""
    name = cell_id(compose_run(*QUICK).cell)
    folder = CellFolder(make_folder(tmp_path_factory.mktemp("trained"), name))
    run(folder, "sharpness=lambda_max")
    return folder


@pytest.fixture
def finished(trained, folder):
    """The same, to go on with."""
    shutil.copytree(trained.path, folder.path, dirs_exist_ok=True)
    return folder


def run(folder, *overrides):
    return run_cell(compose_run(*QUICK, *overrides), folder)


def record_of(folder):
    record = folder.read()
    assert record is not None
    return record


def count_steps(monkeypatch):
    """A list that grows with every optimizer step."""
    steps = []
    original = Trainer.take_step

    def counted(self, indices):
        steps.append(1)
        original(self, indices)

    monkeypatch.setattr(Trainer, "take_step", counted)
    return steps


@pytest.fixture
def interrupt(monkeypatch):
    """Runs a cell and sends this process a signal during one optimizer step."""

    def run_to(step, folder, signum=signal.SIGTERM, overrides=()):
        original = Trainer.take_step

        def interrupted(self, indices):
            if self.total_steps == step:
                os.kill(os.getpid(), signum)
            original(self, indices)

        with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
            patch.setattr(Trainer, "take_step", interrupted)
            run(folder, *overrides)
        return caught.value

    return run_to


def test_a_complete_cell_has_everything_and_nothing_more(trained):
    folder, record = trained, record_of(trained)
    assert record.status == "complete"
    assert record.cell_id == folder.path.name
    assert record.formula == "g"
    assert record.metrics is not None
    assert record.progress is not None and record.progress.epoch == 2
    (attempt,) = record.attempts
    assert attempt.start_step == 0
    assert attempt.end_step == 2 * 7
    assert attempt.seconds > 0
    assert torch.__version__.startswith(attempt.provenance.versions["torch"])
    assert attempt.provenance.num_threads == torch.get_num_threads()
    (measurement,) = record.measurements.values()
    assert measurement.name == "lambda_max"
    assert measurement.settings["num_examples"] == 100
    assert measurement.result["lambda_max"] > 0
    assert measurement.result["converged"]
    history = folder.read_history()
    assert [row["epoch"] for row in history] == [1, 2]
    assert "grad_norm" in history[0] and "amplified_share" not in history[0]
    assert record.metrics.best_val_accuracy == max(row["val_accuracy"] for row in history)
    assert record.metrics.val_accuracy == history[-1]["val_accuracy"]
    assert sorted(os.listdir(folder.path)) == [
        "config.yaml",
        "history.jsonl",
        "record.json",
        "weights-best.safetensors",
        "weights.safetensors",
    ]


def test_the_recorded_accuracies_belong_to_the_weights_on_disk(trained):
    from samsweep.data.load import load_dataset
    from samsweep.training.checkpoint import read_weights
    from samsweep.training.evaluate import evaluate
    from samsweep.training.task import Task
    from samsweep.training.trainer import initial_model

    folder, config = trained, compose_run(*QUICK)
    data = load_dataset(config.cell.dataset, data_dir=config.data_dir, path=None)
    metrics, task = record_of(folder).metrics, Task(config.cell.recipe)
    model = initial_model(config.cell, data)
    model.load_state_dict(read_weights(folder.weights_file))
    assert evaluate(model, data, data.test, task).accuracy == metrics.test_accuracy
    assert evaluate(model, data, data.train, task).loss == metrics.train_loss
    model.load_state_dict(read_weights(folder.best_weights_file))
    assert evaluate(model, data, data.test, task).accuracy == metrics.best_test_accuracy
    assert evaluate(model, data, data.val, task).accuracy == metrics.best_val_accuracy


def test_the_average_is_what_is_kept_recorded_and_resumed(folder, interrupt):
    from samsweep.data.load import load_dataset
    from samsweep.training.checkpoint import read_weights

    config = compose_run(*QUICK, "ema=0.9")
    data = load_dataset(config.cell.dataset, data_dir=config.data_dir, path=None)
    trainer = Trainer(config.cell, data, diagnostics_every=5)
    kept = []
    for _ in range(2):
        trainer.run_epoch(lambda: None)
        kept.append({k: v.clone() for k, v in trainer.evaluated.state_dict().items()})
    interrupt(10, folder, overrides=["ema=0.9"])
    run(folder, "ema=0.9")
    metrics = record_of(folder).metrics
    assert metrics.weight_norm == trainer.weight_norm()
    best = kept[metrics.best_epoch - 1]
    for file, expected in ((folder.weights_file, kept[-1]), (folder.best_weights_file, best)):
        found = read_weights(file)
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_finished_cell_is_not_trained_again(finished, monkeypatch, caplog):
    folder = finished
    before = folder.record_file.read_bytes()
    steps = count_steps(monkeypatch)
    caplog.set_level("INFO")
    assert run(folder) == record_of(folder).metrics.val_accuracy
    assert steps == []
    assert folder.record_file.read_bytes() == before
    assert "already complete" in caplog.text


def test_a_new_measurement_trains_nothing_and_adds_to_the_record(finished, monkeypatch):
    folder = finished
    steps = count_steps(monkeypatch)
    run(folder, "sharpness=top5", "sharpness.num_examples=90")
    assert steps == []
    record = record_of(folder)
    assert [m.name for m in record.measurements.values()] == ["lambda_max", "top5"]
    top5 = list(record.measurements.values())[1].result
    assert len(top5["eigenvalues"]) == 5
    assert len(record.attempts) == 1


def test_eigenvalues_of_one_hessian_are_searched_once(folder):
    run(folder, "sharpness=lambda_max", "sharpness.measures=[relative_flatness,lambda_max,top5]")
    found = {m.name: m.result for m in record_of(folder).measurements.values()}
    five, one, relative = (found[n] for n in ("top5", "lambda_max", "relative_flatness"))
    assert five["num_hvps"] > 0 == one["num_hvps"] == relative["num_hvps"]
    assert one["eigenvalues"] == five["eigenvalues"][:1]
    scaled = five["weight_norm"] ** 2 * five["lambda_max"]
    assert relative["relative_flatness"] == pytest.approx(scaled)
    assert relative["error_bounds"] == pytest.approx(
        [five["weight_norm"] ** 2 * five["error_bounds"][0]]
    )
    # Other examples have another Hessian.
    few = "sharpness.num_examples=90"
    run(folder, "sharpness=lambda_max", "sharpness.measures=[relative_flatness]", few)
    assert list(record_of(folder).measurements.values())[-1].result["num_hvps"] > 0


def test_measuring_the_best_weights_uses_those(folder, monkeypatch):
    """Validation accuracy is made to fall, so that the first epoch is the best."""
    original, falling = train_module.evaluate, itertools.count(90, -1)

    def evaluate(model, data, split, task):
        score = original(model, data, split, task)
        return score._replace(accuracy=next(falling)) if split is data.val else score

    monkeypatch.setattr(train_module, "evaluate", evaluate)
    run(folder, "sharpness=lambda_max")
    run(folder, "sharpness=lambda_max", "sharpness.weights=best")
    record = record_of(folder)
    assert record.metrics.best_epoch == 1
    assert record.metrics.best_test_accuracy != record.metrics.test_accuracy
    last, best = (m.result["lambda_max"] for m in record.measurements.values())
    assert last != best


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_stops_at_a_step_boundary_and_the_rest_is_bit_identical(
    folder, trained, interrupt, monkeypatch, signum
):
    handler = signal.getsignal(signum)
    assert interrupt(9, folder, signum).code == 128 + signum
    assert signal.getsignal(signum) is handler
    record = record_of(folder)
    assert record.status == "interrupted"
    assert record.attempts[-1].end_step == 10
    assert folder.checkpoint_file.exists()

    steps = count_steps(monkeypatch)
    run(folder)
    assert len(steps) == 14 - 10
    resumed = record_of(folder)
    assert resumed.status == "complete"
    assert [a.start_step for a in resumed.attempts] == [0, 10]

    assert folder.weights_file.read_bytes() == trained.weights_file.read_bytes()
    assert resumed.metrics == record_of(trained).metrics

    def history(of):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in of.read_history()]

    assert history(folder) == history(trained)


def test_a_signal_between_two_steps_loses_none_whenever_it_comes(folder, monkeypatch):
    """Also while it is decided whether a state is to be written."""
    original = Checkpoints.due

    def disturbed(self):
        if self._steps_since == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "due", disturbed)
        with pytest.raises(Interrupted):
            run(folder)
    run(folder)
    first, second = record_of(folder).attempts
    assert second.start_step == first.end_step == 11


def test_best_weights_of_an_interrupted_attempt_are_those_of_its_checkpoint(folder, interrupt):
    """Whatever a killed attempt wrote after its last checkpoint does not survive the resume."""
    interrupt(9, folder)
    before = folder.best_weights_file.read_bytes()
    folder.best_weights_file.write_bytes(b"from a later epoch of the killed attempt")
    interrupt(10, folder)
    assert folder.best_weights_file.read_bytes() == before


def test_a_lost_history_starts_anew(folder, interrupt, caplog):
    interrupt(9, folder)
    folder.history_file.unlink()
    run(folder)
    assert "training starts anew" in caplog.text
    assert [row["epoch"] for row in folder.read_history()] == [1, 2]


def test_a_signal_while_measuring_ends_at_once_and_loses_nothing(finished, monkeypatch):
    def interrupt(*arguments, **known):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")

    monkeypatch.setattr(measuring, "measure", interrupt)
    with pytest.raises(Interrupted):
        run(finished, "sharpness=top5")
    assert record_of(finished).status == "complete"


def test_a_diverged_cell_is_a_result(folder, monkeypatch):
    assert run(folder, "lr=1e30") == 0
    record = record_of(folder)
    assert record.status == "diverged"
    assert "train_loss was nan in epoch" in record.error
    assert record.metrics is None
    steps = count_steps(monkeypatch)
    assert run(folder, "lr=1e30", "sharpness=lambda_max") == 0
    assert steps == []


def test_a_network_destroyed_by_its_last_step_has_diverged(folder):
    """Each loss was taken before the update that broke the weights."""
    run(folder, "opt=sgd", "epochs=1", "batch_size=898", "lr=1e38")
    record = record_of(folder)
    assert record.status == "diverged"
    assert "weight_norm was" in record.error


def test_who_lost_the_lock_writes_nothing_more(folder, monkeypatch, caplog):
    """Another process takes the cell over in mid epoch, as after a long sleep of this one."""
    original = Trainer.take_step

    def taken_over(self, indices):
        if self.total_steps == 5:
            lock = json.loads((folder.path / "lock.json").read_text())
            (folder.path / "lock.json").write_text(json.dumps(lock | {"token": "another"}))
        original(self, indices)

    monkeypatch.setattr(Trainer, "take_step", taken_over)
    assert math.isnan(run(folder))
    assert "another process" in caplog.text
    assert record_of(folder).status == "running"
    assert not folder.best_weights_file.exists()
    assert folder.read_history() == []


@pytest.mark.parametrize(
    ("module", "name", "start_step"),
    [(workspace_module, "load_dataset", None), (train_module, "evaluate", 0)],
    ids=["before the first step", "after an epoch"],
)
def test_a_failed_cell_keeps_its_traceback_and_can_be_run_again(
    folder, monkeypatch, module, name, start_step
):
    def fail(*arguments, **known):
        raise RuntimeError("out of luck\nsecond line")

    told = "training failed: RuntimeError: out of luck$"
    with monkeypatch.context() as patch, pytest.raises(CellFailed, match=told):
        patch.setattr(module, name, fail)
        run(folder)
    record = record_of(folder)
    assert record.status == "failed"
    assert "Traceback" in record.error and "out of luck" in record.error
    assert record.attempts[0].start_step == start_step
    run(folder)
    record = record_of(folder)
    assert record.status == "complete"
    assert record.error is None
    assert len(record.attempts) == 2


def test_a_measure_that_fails_keeps_none_of_the_others_away(folder, monkeypatch):
    real = measuring.measure

    def fail_once(name, *arguments, **known):
        if name == "lambda_max":
            raise RuntimeError("no eigenvalue")
        return real(name, *arguments, **known)

    measures = ["sharpness=lambda_max", "sharpness.measures=[lambda_max,sam_gap]"]
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "measure", fail_once)
        with pytest.raises(CellFailed, match="measuring lambda_max failed: RuntimeError: no"):
            run(folder, *measures)
    record = record_of(folder)
    assert record.status == "complete"
    assert [m.name for m in record.measurements.values()] == ["sam_gap"]
    assert "no eigenvalue" in record.measuring_error
    run(folder, *measures)
    record = record_of(folder)
    assert {m.name for m in record.measurements.values()} == {"lambda_max", "sam_gap"}
    assert record.measuring_error is None


def test_a_cell_that_runs_elsewhere_is_skipped(folder, caplog):
    caplog.set_level("INFO")
    with FolderLock(folder.path):
        assert math.isnan(run(folder))
    assert "held by process" in caplog.text
    assert folder.read() is None


def test_another_number_of_threads_at_resume_is_warned_of(folder, interrupt, caplog):
    interrupt(12, folder)
    before = torch.get_num_threads()
    try:
        run(folder, f"num_threads={before + 1}")
    finally:
        torch.set_num_threads(before)
    assert f"resumed with num_threads {before + 1} after {before}" in caplog.text


def test_a_compiled_resume_of_another_training_is_warned_of(folder, interrupt, monkeypatch, caplog):
    interrupt(12, folder)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    run(folder, "compile=true")
    assert "resumed with compiled True after False" in caplog.text
    assert [a.provenance.compiled for a in record_of(folder).attempts] == [False, True]


def test_checkpoints_can_be_kept(folder):
    run(folder, "keep_checkpoints=true", "checkpoint_every_steps=5")
    assert folder.checkpoint_file.exists()
    assert folder.previous_checkpoint_file.exists()


PLUGIN = """
from samsweep import register

def weight_l1(model, inputs, labels):
    return float(sum(p.detach().abs().sum() for p in model.parameters()))

register.measure("weight_l1", weight_l1)
"""


def test_a_plugins_measure_is_taken_later_in_a_process_that_has_not_loaded_it(
    finished, own_modules, monkeypatch
):
    """As in a pool or a job: what is left of a cell is asked once the plugin is there."""
    (own_modules / "mine.py").write_text(PLUGIN)
    asked = ("plugins=[mine]", "sharpness.measures=[weight_l1]")
    config = compose_run(*QUICK, *asked)
    MEASURES._components = {k: v for k, v in MEASURES._components.items() if k != "weight_l1"}
    plugins._load.cache_clear()
    sys.modules.pop("mine")
    run_cell(config, finished)
    (taken,) = [m for m in record_of(finished).measurements.values() if m.name == "weight_l1"]
    assert taken.result["weight_l1"] > 0
