"""Tasks that are no images, from a file of arrays to a measured record, with networks by path."""

import os
import signal

import numpy as np
import pytest
import torch
from helpers import assert_same_result, compose_run, make_folder
from safetensors.torch import load_file
from torch.nn import functional as F

from samsweep.config import ConfigError
from samsweep.data.load import load_dataset
from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder
from samsweep.system.signals import Interrupted
from samsweep.training.cell import run_cell
from samsweep.training.trainer import Trainer, initial_model
from samsweep.training.trial import try_out

REGRESSION = ("loss=mse", "metric=r2")


def table(draws):
    x = draws.standard_normal((300, 4))
    return x, (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 1)


def values(draws):
    x = draws.standard_normal((300, 4))
    return x, np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.05 * draws.standard_normal(300)


def several_values(draws):
    x = draws.standard_normal((300, 4))
    return x, np.stack([np.sin(x[:, 0]), x[:, 1] * 0.5], axis=1)


def sequences(draws):
    """Which of two tokens a sequence has more of."""
    ids = draws.integers(0, 12, (300, 6))
    return ids, ((ids < 4).sum(axis=1) > (ids > 7).sum(axis=1)).astype(int)


def spectra(draws):
    """Images of two channels of floats, whose class is where they are bright."""
    x = 0.3 * draws.standard_normal((300, 2, 6, 6))
    y = np.arange(300) % 3
    x[np.arange(300), 0, 2 * y] += 1.0
    return x, y


TASKS = {
    "table": (table, "mlp", ()),
    "regression": (values, "mlp", REGRESSION),
    "several values": (several_values, "mlp", REGRESSION),
    "tokens": (sequences, "Transformer", ("lr=0.05",)),
    "float images": (spectra, "cnn", ()),
}


@pytest.fixture(params=list(TASKS))
def task(request, tmp_path):
    """The overrides of a task, its data in a file."""
    make, network, beside = TASKS[request.param]
    x, y = make(np.random.default_rng(0))
    np.savez(
        tmp_path / "data.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:]
    )
    return (
        "dataset=arrays",
        f"dataset.path={tmp_path}/data.npz",
        f"model.name={network}",
        f"++model.factory=task_nets.{network}",
        "batch_size=20",
        "epochs=6",
        "num_threads=1",
        "sharpness.num_examples=60",
        "sharpness.tolerance=5e-5",
        "opt=sam",
        "rho=0.05",
        *beside,
    )


def train(run, folder):
    run_cell(run, folder)
    record = folder.read()
    assert record is not None
    assert record.status == "complete"
    return record


def dense_lambda_max(run, folder):
    """The largest eigenvalue of the Hessian in eval mode, in float64, on the measured examples."""
    data = load_dataset(run.cell.dataset, data_dir=run.data_dir, path=run.data_path)
    model = initial_model(run.cell, data)
    model.load_state_dict(load_file(folder.weights_file))
    model.double().eval()
    inputs, labels = (part[:60] for part in (data.train.inputs, data.train.labels))
    parameters = list(model.parameters())

    def flat_gradient(value):
        parts = torch.autograd.grad(
            value, parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])

    # Attention cannot be differentiated twice in its quick forms. Reverse over reverse: what
    # torch.func.hessian, forward over reverse, gave for this layer was off by a thousandth.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        if inputs.is_floating_point():
            inputs = inputs.double()
        outputs = model(inputs)
        if run.cell.recipe.loss == "mse":
            loss = F.mse_loss(outputs.reshape(labels.shape), labels.double())
        else:
            loss = F.cross_entropy(outputs, labels)
        rows = [flat_gradient(entry).detach() for entry in flat_gradient(loss)]
    return torch.linalg.eigvalsh(torch.stack(rows))[-1].item()


def test_a_task_is_tried_trained_resumed_and_measured(task, tmp_path, monkeypatch):
    run = compose_run(*task)
    try_out(run)
    name = cell_id(run.cell)
    folder = CellFolder(make_folder(tmp_path, name))
    record = train(run, folder)
    history = folder.read_history()
    assert history[-1]["train_loss"] < 0.9 * history[0]["train_loss"]
    assert record.metrics is not None
    metric = record.metrics.test_accuracy
    assert metric > (0.3 if run.cell.recipe.metric == "r2" else 55)

    (measurement,) = record.measurements.values()
    assert measurement.result["converged"]
    expected = dense_lambda_max(run, folder)
    assert measurement.result["lambda_max"] == pytest.approx(expected, rel=1e-4)

    other = CellFolder(make_folder(tmp_path / "stopped", name))
    original = Trainer.take_step

    def interrupted(self, indices):
        if self.total_steps == 17:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, indices)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Trainer, "take_step", interrupted)
        run_cell(run, other)
    train(run, other)
    assert_same_result(other.path, folder.path)


def test_what_does_not_fit_a_task_is_refused(tmp_path):
    x, y = values(np.random.default_rng(0))
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    own = ("dataset=arrays", f"dataset.path={tmp_path}/data.npz", "batch_size=20")
    with pytest.raises(ConfigError, match="has values to regress, not classes: set loss=mse"):
        compose_run(*own)
    with pytest.raises(ConfigError, match="has no raw images"):
        compose_run(*own, *REGRESSION, "dataset.augment.flip=true")
    with pytest.raises(ConfigError, match="label_noise=0.5: arrays has no classes"):
        compose_run(*own, *REGRESSION, "dataset.label_noise=0.5")
    with pytest.raises(ConfigError, match=r"batch_size=20 is larger than the 9 training"):
        compose_run(*own, *REGRESSION, "dataset.train_fraction=0.033")
    run = compose_run(*own, *REGRESSION, "dataset.train_fraction=0.5", "sharpness.num_examples=999")
    assert run.sharpness.num_examples == 135


MODELS_OF_ONES_OWN = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self, *, in_features, num_classes):
        super().__init__()
        self.enter = nn.Linear(in_features, in_features, bias=False)
        self.again = self.enter
        self.tied = nn.Linear(in_features, in_features, bias=False)
        self.tied.weight = self.enter.weight
        self.unused = nn.Linear(3, 3)
        self.still = nn.Linear(in_features, in_features)
        self.still.requires_grad_(False)
        self.leave = nn.Linear(in_features, num_classes)

    def forward(self, x):
        x = self.again(self.enter(x.flatten(1))).tanh()
        return self.leave(self.still(self.tied(x)))
"""


@pytest.mark.parametrize("opt", ["sam", "samdirection"])
def test_tied_frozen_and_unused_weights_are_trained_saved_and_measured(tmp_path, own_modules, opt):
    (own_modules / "odd.py").write_text(MODELS_OF_ONES_OWN)
    own = ("model.name=odd", "+model.factory=odd.Odd", f"opt={opt}", "epochs=2")
    run = compose_run(*own, "sharpness.num_examples=50", "sharpness.tolerance=0.1")
    try_out(run)
    folder = CellFolder(make_folder(tmp_path, cell_id(run.cell)))
    run_cell(run, folder)
    record = folder.read()
    assert record.status == "complete" and len(record.measurements) == 1
    for row in folder.read_history():
        cosines = row["layer_cosines"]
        assert cosines.keys() == {"enter.weight", "unused.weight", "leave.weight"}
        assert cosines["unused.weight"] == 0 and 0 < abs(cosines["leave.weight"]) <= 1
