"""What does not fit is refused in one sentence, before anything is written."""

import json
import os
from types import SimpleNamespace

import pytest
from helpers import compose_run, make_folder, run

from samsweep.config import MEASURES, ConfigError
from samsweep.models import build_model
from samsweep.records.identity import cell_id
from samsweep.records.store import CellFolder
from samsweep.training import trial
from samsweep.training.cell import CellFailed, run_cell
from samsweep.training.trial import try_out
from samsweep.training.worker import prepare_runs

MODULE = """
import torch
from torch import nn

def fits(*, in_features, num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, width), nn.Linear(width, num_classes))

def nothing(): return None
def many(*, in_features): return nn.Sequential(nn.Flatten(), nn.Linear(in_features, 3))
def strange(): return nn.Linear(5, 5)
def needs(*, secret): return nn.Linear(secret, 1)

class Tuple(nn.Module):
    def __init__(self, *, in_features, num_classes):
        super().__init__()
        self.layers = fits(in_features=in_features, num_classes=num_classes)
    def forward(self, x): return self.layers(x), x

def each(outputs, labels): return nn.functional.cross_entropy(outputs, labels, reduction="none")
def number(outputs, labels): return 1.0
def raises(outputs, labels): raise RuntimeError("on\\n purpose")
def first(g, h): return g
def fewer(g, h): return g[:1]
def no_optimizer(params, lr): return lr
def no_step(base): return base
def bad_metric(outputs, labels): return outputs
def nan_loss(outputs, labels): return outputs.sum() * float("nan")
def nan_metric(outputs, labels): return float("nan")
def late(*, epoch, epochs):
    if epoch >= 2: raise ValueError("late")
    return 1.0
def negative(*, epoch, epochs): return 1.0 - epoch
def nan_radius(now, scale=1.0): return float("nan")
def floats(image): return image / 255
def smaller(image): return image[..., :4]
def ends(outputs, labels): raise SystemExit("enough")
def blend(g, h, alpha=0.5): return h
class Track:
    def __init__(self, folder, key): pass

class Weighted(nn.Module):
    def __init__(self, *, in_features, num_classes):
        super().__init__()
        layer = nn.Linear(in_features, num_classes)
        self.layer = nn.utils.parametrizations.weight_norm(layer)
    def forward(self, x): return self.layer(x.flatten(1))

def several(model, inputs, labels): return {"a": 1.0, "b": 2.0}
def curve(model, inputs, labels): return {"heights": [1.0, 2.0]}

class Plain(nn.Module):
    def forward(self, x): return x.flatten(1)[:, :10] + nn.Parameter(torch.zeros(10))
"""


@pytest.fixture(autouse=True)
def parts(own_modules):
    (own_modules / "parts.py").write_text(MODULE)


def model(name, *args):
    return ["opt=sgd", f"+model.factory=parts.{name}", "model.name=own", *args]


OWN = ["+opt.factory=parts.no_step", "opt.name=own"]
REFUSED = [
    (model("missing"), "parts.missing: module parts has no callable missing; name a function"),
    (model("fits", "model.args.depth=3"), "fits takes no argument depth: choose among width."),
    (model("needs"), "model=own: parts.needs needs a value for secret."),
    (model("nothing"), "model=own: parts.nothing returns NoneType, not a torch.nn.Module."),
    (
        model("many"),
        "model=own gives outputs of shape (4, 3) for 4 examples of digits: return (4, 10).",
    ),
    (model("Tuple"), "model=own gives tuple: return a tensor of outputs."),
    (model("strange"), "one batch was tried and raised RuntimeError: mat1 and mat2 shapes"),
    (["loss=parts.each"], "loss=parts.each gives (4,), not a scalar: take the mean."),
    (["loss=parts.number"], "loss=parts.number gives float, not a scalar: take the mean."),
    (
        ["loss=parts.raises"],
        "model=resnet8 opt=sam dataset=digits: one batch was tried and raised RuntimeError: on "
        "purpose (",
    ),
    (["loss=parts.each", "loss_args.x=1"], "loss=parts.each: parts.each takes no argument x"),
    (["metric=parts.bad_metric"], "one batch was tried and raised"),
    (
        ["base=parts.no_optimizer", "weight_decay=0"],
        "base=parts.no_optimizer: parts.no_optimizer returns float, not a torch.optim.Optimizer.",
    ),
    (OWN, "opt=own: parts.no_step returns SGD, not a samsweep.optim.ClosureOptimizer."),
    (
        ["opt.name=own", "+opt.combination=parts.fewer"],
        "opt=own dataset=digits: one batch was tried and raised ValueError",
    ),
    (["loss=parts.nan_loss"], "loss=parts.nan_loss of a batch of random examples is nan"),
    (["metric=parts.nan_metric"], "metric=parts.nan_metric of a batch of random examples is nan"),
    (["lr_schedule=parts.late"], "one batch was tried and raised ValueError: late ("),
    (
        ["lr_schedule=parts.negative", "lr=0.5"],
        "lr_schedule=parts.negative gives -0.5 in epoch 3: return a finite factor of at least 0.",
    ),
    (["opt.rho_schedule=parts.nan_radius"], "opt.rho_schedule=parts.nan_radius gives nan in epoch"),
    (["dataset.augment.policy=parts.floats"], "makes torch.float32 of shape (4, 1, 8, 8)"),
    (["dataset.augment.policy=parts.smaller"], "and (4, 1, 8, 8): return images of the same type"),
    (["loss=parts.ends"], "one batch was tried and ended the process (enough): raise an error"),
    (
        ["opt.name=own", "+opt.combination=parts.blend", "+opt.combination_args.h=1"],
        "opt.combination=parts.blend: h is given by samsweep: leave it out.",
    ),
    (["lr_schedule=linear", "lr_schedule_args.epoch=1"], "linear: epoch is given by samsweep"),
    (
        ["tracking.name=own", "+tracking.factory=parts.Track"],
        "tracking=own: parts.Track needs a value for key.",
    ),
    (["tracking.name=own", "+tracking.factory=parts.Nope"], "parts has no callable Nope"),
    (model("Weighted"), "second derivative of an operation of torch's weight_norm"),
    *(
        (
            model("Weighted", f"sharpness.measures=[{name}]"),
            "second derivative of an operation of torch's weight_norm",
        )
        for name in ("trace", "spectral_density", "empirical_sam")
    ),
    (
        ["sharpness.measures=[parts.several]"],
        "parts.several gives several values (a, b), of which tables need one: return a number, or "
        "register it with headline='a'.",
    ),
    ([*OWN, "opt.when=random"], "opt.when=random has no effect on opt=own, which is an optimizer"),
    ([*OWN, "opt.m=32"], "opt.m=32 has no effect on opt=own"),
    # Of samsweep's own, what the user gives beside.
    (["opt=msam", "base=novograd"], "NovoGrad keeps no momentum to ascend along"),
    (["opt=fsam", "opt.ascent_direction_args.decay=2"], "decay=2: choose between 0 and 1"),
    (["opt=looksam", "opt.when_args.steps=2.5"], "steps=2.5: choose a whole number"),
    (["opt=looksam", "opt.when_args.reuse=-1"], "reuse=-1: choose at least 0"),
    (["opt=aesam", "opt.when_args.decay=1.5"], "decay=1.5: choose at least 0 and less than 1"),
    (["model=resnet18", "opt=m_sam", "opt.m=1"], "Expected more than 1 value per channel"),
    (["base=adamw", "base_args.beta=3"], "AdamW takes no argument beta: choose among params, lr"),
    (["base=rprop"], "base=rprop has no weight decay: set weight_decay=0, not 0.001."),
    (["lr_schedule=step", "lr_schedule_args.gama=1"], "step takes no argument gama: choose among"),
    (
        ["dataset.augment.policy=randaugment", "dataset.augment.policy_args.ops=3"],
        "RandAugment takes no argument ops: choose among num_ops",
    ),
]


@pytest.mark.parametrize(("overrides", "sentence"), REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(overrides, sentence):
    with pytest.raises(ConfigError) as caught:
        try_out(compose_run(*overrides))
    (found,) = caught.value.problems
    assert sentence in found
    assert "\n" not in found


@pytest.mark.parametrize(
    "overrides",
    [
        model("fits", "model.args.width=7"),
        ["opt.name=own", "+opt.combination=parts.first"],
        ["base=nadam"],
        ["sharpness.measures=[parts.curve]"],
        # All of ours, of a network that is not.
        model("fits", f"sharpness.measures=[{','.join(MEASURES)}]"),
        ["dataset.augment.policy=trivialaugment", "dataset.augment.mixup=0.2"],
        ["loss=torch.nn.functional.cross_entropy"],
        # Parts of m-SAM are tried whole, whatever it is crossed with.
        ["opt=m_sam", "opt.perturb=norm_layers"],
        ["opt=m_sam", "parts_at_once=2", "groups=[{params:norm_layers,rho:0.2}]"],
        ["opt=m_sam", "opt.m=64", "opt.when=random", "opt.when_args.probability=0.5"],
        ["opt=m_sam", "opt.m=2", "opt.perturb=norm_layers"],
        ["opt=msam", "base=nadam"],
        model("fits", "ema=0.9", "clip_norm=1", "label_smoothing=0.1", "warmup_epochs=1"),
    ],
)
def test_what_fits_is_tried_once(overrides, monkeypatch):
    try_out(compose_run(*overrides))
    monkeypatch.setattr(trial, "_try_out", None)
    try_out(compose_run(*overrides, "seed=3"))


def test_what_is_samsweeps_own_is_not_tried(monkeypatch):
    monkeypatch.setattr(trial, "_try_out", None)
    try_out(compose_run("label_smoothing=0.1", "clip_norm=1", "ema=0.9", "base=adamw"))


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]])
def test_nothing_is_left_behind(sweep, tmp_path, own_modules):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "parts.py").write_text(MODULE)
    done = run(folder, *sweep, *model("many"), check=False)
    assert done.returncode == 2
    assert "return (4, 10)." in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(os.listdir(folder)) in (["parts.py"], ["__pycache__", "parts.py"])


# ------------------------------------------------------------------ changed sources


@pytest.fixture
def changed(tmp_path):
    """A cell that was planned with another source, and its folder."""

    def make(policy):
        config = compose_run(*model("fits"), "epochs=1", "sharpness=none", "lr=0.01")
        cell = config.cell.model_copy(update={"sources": {"model": "0" * 16}})
        folder = tmp_path / "study" / "cells" / "cell"
        folder.mkdir(parents=True)
        changes = {"cell": cell, "on_code_change": policy}
        return SimpleNamespace(config=config.model_copy(update=changes), folder=CellFolder(folder))

    return make


def test_a_changed_source_is_refused_if_asked(changed):
    cell = changed("refuse")
    with pytest.raises(CellFailed, match="source of its model has changed since it was planned"):
        run_cell(cell.config, cell.folder)
    assert not cell.folder.weights_file.exists()


def test_a_changed_source_is_warned_of(changed, caplog):
    cell = changed("warn")
    run_cell(cell.config, cell.folder)
    assert "source of its model has changed since it was planned: it runs on the" in caplog.text
    assert json.loads(cell.folder.record_file.read_text())["status"] == "complete"


def test_torchs_initialiser_is_given_nothing():
    """It takes any argument, to refuse it."""
    built = build_model("own", factory="parts.Plain", in_channels=1, num_classes=10)
    assert not list(built.parameters())


def test_a_measure_by_its_path_is_taken(own_modules, tmp_path):
    (own_modules / "flat.py").write_text("def l1(model): return 1.5\n")
    config = compose_run("opt=sgd", "epochs=1", "sharpness.measures=[flat.l1]")
    try_out(config)
    folder = CellFolder(make_folder(tmp_path, cell_id(config.cell)))
    run_cell(config, folder)
    (taken,) = folder.read().measurements.values()
    assert (taken.name, taken.result["flat.l1"]) == ("flat.l1", 1.5)
    assert "source" in taken.settings


def test_every_component_that_does_not_fit_is_named():
    runs = tuple(compose_run(*o) for o in (["loss=parts.each"], ["metric=parts.nan_metric"]))
    with pytest.raises(ConfigError) as caught:
        prepare_runs(runs)
    assert len(caught.value.problems) == 2
