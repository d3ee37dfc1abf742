"""The field's recipes, each against torch's own code or a sum written out by hand."""

import copy
import math
from pathlib import Path

import pytest
import torch
from helpers import compose_run, train_until
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from samsweep.config import ConfigError
from samsweep.data.load import load_dataset
from samsweep.numerics.seeding import derive_seed
from samsweep.optim import build_base, build_optimizer
from samsweep.optim.base import Clipping
from samsweep.training.evaluate import evaluate
from samsweep.training.schedule import LearningRate, step
from samsweep.training.task import Task
from samsweep.training.trainer import Trainer, initial_model

EPOCHS, STEPS = 6, 7


def recipe_of(*overrides):
    return compose_run(*overrides).cell.recipe


@pytest.fixture(scope="module")
def data():
    return load_dataset(compose_run().cell.dataset, data_dir=Path("data"), path=None)


def make(data, *overrides):
    return Trainer(compose_run("epochs=2", *overrides).cell, data, diagnostics_every=3)


def nothing():
    pass


# ------------------------------------------------------------------ loss


@pytest.fixture
def outputs():
    torch.manual_seed(0)
    return torch.randn(6, 10, dtype=torch.float64), torch.randint(10, (6,))


def test_label_smoothing_is_torchs_and_its_formula(outputs):
    logits, labels = outputs
    found = Task(recipe_of("label_smoothing=0.1")).loss(logits, labels)
    assert torch.equal(found, nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels))
    shares = 0.9 * F.one_hot(labels, 10).double() + 0.1 / 10
    by_hand = -(shares * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=0)


def test_networks_are_scored_without_smoothing(outputs):
    """So that test losses of smoothed and other trainings can be compared."""
    smoothed, plain = Task(recipe_of("label_smoothing=0.1")), Task(recipe_of())
    assert torch.equal(smoothed.summed_loss(*outputs), plain.summed_loss(*outputs))


def test_smoothing_of_mixed_labels_spreads_their_shares(outputs):
    logits, labels = outputs
    mixed = 0.3 * F.one_hot(labels, 10) + 0.7 * F.one_hot(labels.flip(0), 10)
    found = Task(recipe_of("label_smoothing=0.2")).loss(logits, mixed)
    by_hand = -((0.8 * mixed + 0.02) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=0)


# ------------------------------------------------------------------ learning rate


def lrs(*overrides):
    recipe = recipe_of(f"epochs={EPOCHS}", "lr=0.2", *overrides)
    lr = LearningRate(recipe, steps_per_epoch=STEPS)
    return [lr.at(epoch=e, step=s) for e in range(EPOCHS) for s in range(STEPS)]


def test_an_argument_that_a_schedule_does_not_take_is_refused_before_warm_up():
    recipe = recipe_of("lr_schedule_args.gamma=0.2", "warmup_epochs=1")
    with pytest.raises(ConfigError, match=r"takes no argument gamma: leave it out"):
        LearningRate(recipe, steps_per_epoch=STEPS)


def torchs(make_scheduler, num=EPOCHS * STEPS, times=1):
    """A torch scheduler's learning rates, each so many times."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = make_scheduler(optimizer)
    found = []
    for _ in range(num):
        found += [optimizer.param_groups[0]["lr"]] * times
        optimizer.step()
        scheduler.step()
    return found


def linear_to_zero(optimizer, steps):
    return lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=1e-30, total_iters=steps)


AFTER = {
    "cosine_per_step": lambda o, n: lr_scheduler.CosineAnnealingLR(o, T_max=n),
    "linear": linear_to_zero,
    "constant": lambda o, n: lr_scheduler.ConstantLR(o, factor=1.0),
}


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("warmup", [0, 2])
def test_schedules_equal_torchs(name, warmup):
    def scheduler(optimizer):
        after = AFTER[name](optimizer, (EPOCHS - warmup) * STEPS)
        if not warmup:
            return after
        steps = warmup * STEPS
        first = lr_scheduler.LinearLR(optimizer, start_factor=1 / steps, total_iters=steps - 1)
        return lr_scheduler.SequentialLR(optimizer, [first, after], milestones=[steps])

    expected = torchs(scheduler)
    found = lrs(f"lr_schedule={name}", f"warmup_epochs={warmup}")
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_steps_equal_torchs():
    def scheduler(optimizer):
        return lr_scheduler.MultiStepLR(optimizer, milestones=[2, 5], gamma=0.2)

    args = ["lr_schedule_args.at=[0.33,0.8]", "lr_schedule_args.gamma=0.2"]
    found = lrs("lr_schedule=step", *args)
    assert found == pytest.approx(torchs(scheduler, EPOCHS, STEPS), rel=1e-12)


@pytest.mark.parametrize("epochs", [100, 200, 350])
def test_a_step_falls_on_its_epoch_whatever_the_rounding(epochs):
    """0.55 * 100 is more than 55."""
    for percent in range(1, 100):
        if percent * epochs % 100 == 0:
            moment = percent * epochs // 100
            at = {"epochs": epochs, "at": (percent / 100,)}
            assert (step(epoch=moment - 1, **at), step(epoch=moment, **at)) == (1.0, 0.1)


@pytest.mark.parametrize("warmup", [0.1, 0.5, 1.3, 5.9])
@pytest.mark.parametrize("name", [*AFTER, "cosine_per_epoch", "step"])
def test_warm_up_that_ends_between_two_steps_never_passes_the_peak(name, warmup):
    found = lrs(f"lr_schedule={name}", f"warmup_epochs={warmup}")
    rising = [lr for index, lr in enumerate(found) if index / STEPS < warmup]
    assert rising == pytest.approx(
        [min(0.2, 0.2 * (index + 1) / STEPS / warmup) for index in range(len(rising))]
    )
    assert all(0 <= lr <= 0.2 for lr in found)
    assert max(found) == pytest.approx(0.2, rel=0.1)


# ------------------------------------------------------------------ optimizer


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()


def closure_of(model):
    inputs = torch.linspace(-1, 2, 15, dtype=torch.float64).view(5, 3)
    labels = torch.tensor([0, 1, 1, 0, 1])
    return lambda: F.cross_entropy(model(inputs), labels)


def gradient(model):
    return torch.autograd.grad(closure_of(model)(), list(model.parameters()))


def optimizer_of(model, *overrides):
    cell = compose_run(*overrides).cell
    return build_optimizer(cell.variant, cell.recipe, model, seed=0)


def test_nesterov_is_torchs():
    ours, theirs = network(), network()
    optimizer = optimizer_of(
        ours, "opt=sgd", "nesterov=true", "lr=0.1", "momentum=0.9", "weight_decay=0.01"
    )
    reference = torch.optim.SGD(
        theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True
    )
    for _ in range(4):
        optimizer.step(closure_of(ours))
        reference.zero_grad()
        closure_of(theirs)().backward()
        reference.step()
    for ours_p, theirs_p in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(ours_p, theirs_p)


def clipped_by_torch(vector, largest):
    params = [nn.Parameter(torch.zeros_like(x)) for x in vector]
    for param, x in zip(params, vector, strict=True):
        param.grad = x.detach().clone()
    nn.utils.clip_grad_norm_(params, largest)
    return [p.grad for p in params]


def steps_by_hand(opt, model, clip, largest):
    """What the base optimizer is to be given, from gradients that are taken here."""

    def of_gradients(vector):
        return clipped_by_torch(vector, largest) if clip == "gradient" else list(vector)

    raw = gradient(model)
    g = of_gradients(raw)
    update = g
    if opt in ("sam", "samdirection"):
        length = torch.sqrt(sum((x * x).sum() for x in g))
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for param, x in zip(moved.parameters(), g, strict=True):
                param.add_(0.1 * x / length)
        h = of_gradients(gradient(moved))
        update = h
        if opt == "samdirection":
            update = [a.sign() * b.abs() for a, b in zip(h, g, strict=True)]
    if opt == "sgdhess":
        params = list(model.parameters())
        curved = torch.autograd.functional.hvp(
            lambda *values: torch.func.functional_call(
                _Loss(model), {f"model.{n}": v for n, v in zip(names(model), values, strict=True)}
            ),
            tuple(params),
            tuple(g),
        )[1]
        update = [a + 0.1 * b for a, b in zip(g, curved, strict=True)]
    return clipped_by_torch(update, largest) if clip == "combined" else update


class _Loss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self):
        return closure_of(self.model)()


def names(model):
    return [name for name, _ in model.named_parameters()]


OPTS = {
    "sgd": ["opt=sgd"],
    "sam": ["opt=sam"],
    "samdirection": ["opt=samdirection"],
    "sgdhess": ["opt=sgdhess", "opt.curvature=exact"],
}


@pytest.mark.parametrize("opt", OPTS)
@pytest.mark.parametrize("clip", ["combined", "gradient"])
@pytest.mark.parametrize("largest", [0.05, 1e3])
def test_clipping_is_torchs(opt, clip, largest):
    """Of a curvature's product only the vector is clipped, not what is differentiated."""
    model = network()
    plain = ["momentum=0", "weight_decay=0", "lr=1"]
    optimizer = optimizer_of(model, *OPTS[opt], *plain, f"clip_norm={largest}", f"clip={clip}")
    expected = steps_by_hand(opt, network(), clip, largest)
    found = optimizer.compute(closure_of(model)).update
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    if clip == "combined" and largest < 1:
        length = torch.sqrt(sum((x * x).sum() for x in found)).item()
        assert length == pytest.approx(largest, rel=1e-4)


def test_clipping_keeps_a_gradient_that_is_not_finite():
    """So that a training that diverges is seen to."""
    vector = [torch.tensor([1.0, math.nan]), torch.ones(2)]
    assert all(x.isnan().all() for x in Clipping(1.0, "combined")(vector))


def test_norm_layers_and_biases_have_no_decay_if_asked():
    model = network()
    groups = optimizer_of(model, "opt=sgd", "no_decay_on_norm=true", "weight_decay=0.1").base
    decay = {id(p): group["weight_decay"] for group in groups.param_groups for p in group["params"]}
    found = {name: decay[id(p)] for name, p in model.named_parameters()}
    assert found == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.1,
        "2.bias": 0.0,
    }


def test_groups_have_values_of_their_own():
    model = network()
    groups = (
        "groups=[{params:norm_layers,weight_decay:0,rho:0.3},{params:biases,lr:0.4},"
        "{params:['2.*'],perturb:false}]"
    )
    optimizer = optimizer_of(model, "opt=sam", "rho=0.1", "lr=0.1", "weight_decay=0.2", groups)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group.get("lr_factor", 1.0), group["weight_decay"], group.get("rho"))
        for group in optimizer.base.param_groups
        for p in group["params"]
    }
    # 1.bias is of the first group that has it.
    assert found == {
        "0.weight": (1.0, 0.2, None),
        "0.bias": (4.0, 0.2, None),
        "1.weight": (1.0, 0.0, 0.3),
        "1.bias": (1.0, 0.0, 0.3),
        "2.weight": (1.0, 0.2, None),
        "2.bias": (4.0, 0.2, None),
    }


def test_of_groups_that_share_a_parameter_the_first_says_whether_it_is_perturbed():
    model = network()
    groups = "groups=[{params:norm_layers,rho:0.5},{params:biases,perturb:false}]"
    optimizer = optimizer_of(model, "opt=sam", "rho=0.1", groups)
    still = [name for name, p in model.named_parameters() if not optimizer._perturbs(p)]
    assert still == ["0.bias", "2.bias"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["groups=[{params:norm_layers,lr:0.2},{params:['1.*'],lr:0.3}]"], "in an earlier group"),
        (["opt=sam_on", "groups=[{params:norm_layers,perturb:false}]"], "no parameter to perturb"),
    ],
)
def test_groups_of_nothing_are_refused(overrides, told):
    with pytest.raises(ConfigError, match=told):
        optimizer_of(network(), "opt=sam", *overrides)


def test_a_radius_with_the_learning_rate_follows_a_group_that_learns():
    """The first group stands still: its learning rate says nothing."""
    model = network()
    groups = "groups=[{params:not_norm_layers,lr:0},{params:norm_layers,weight_decay:0}]"
    optimizer = optimizer_of(model, "opt=sam", "lr=0.1", "opt.rho_schedule=with_lr", groups)
    assert optimizer._step_now().lr_share == 1.0
    for group in optimizer.base.param_groups:
        group["lr"] *= 0.25
    assert optimizer._step_now().lr_share == 0.25


def test_a_step_of_groups_is_sams_by_hand():
    ours, theirs = network(), network()
    groups = "groups=[{params:norm_layers,rho:0.3},{params:['2.*'],perturb:false}]"
    recipe = ("lr=0.1", "momentum=0", "weight_decay=0")
    optimizer_of(ours, "opt=sam", "rho=0.1", *recipe, groups).step(closure_of(ours))
    g = dict(zip([n for n, _ in theirs.named_parameters()], gradient(theirs), strict=True))
    moved = {name: x for name, x in g.items() if not name.startswith("2.")}
    length = torch.sqrt(sum((x * x).sum() for x in moved.values())) + 1e-12
    before = {name: p.detach().clone() for name, p in theirs.named_parameters()}
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            if name in moved:
                p += (0.3 if name.startswith("1.") else 0.1) * moved[name] / length
    h = gradient(theirs)
    for (name, p), x in zip(ours.named_parameters(), h, strict=True):
        torch.testing.assert_close(p.detach(), before[name] - 0.1 * x)


def test_a_groups_learning_rate_follows_the_schedule(data):
    trainer = make(data, "groups=[{params:biases,lr:0.4}]", "lr=0.1", "lr_schedule=linear")
    for _ in range(2):
        trainer.take_step(torch.arange(8))
        first, biases = trainer.optimizer.base.param_groups
        assert biases["lr"] == pytest.approx(4 * first["lr"])


def test_a_step_without_decay_on_norm_is_torchs_with_groups_by_hand():
    ours, theirs = network(), network()
    optimizer = optimizer_of(
        ours, "opt=sgd", "no_decay_on_norm=true", "lr=0.1", "momentum=0", "weight_decay=0.1"
    )
    optimizer.step(closure_of(ours))
    by_hand = gradient(theirs)
    with torch.no_grad():
        for (name, p), g in zip(theirs.named_parameters(), by_hand, strict=True):
            p -= 0.1 * (g + (0.1 * p if name in ("0.weight", "2.weight") else 0.0))
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_a_base_without_weight_decay_is_refused():
    recipe = recipe_of("base=rprop", "weight_decay=0.1")
    assert build_base(recipe_of("base=rprop", "weight_decay=0"), network()).defaults["lr"]
    with pytest.raises(ConfigError, match=r"base=rprop has no weight decay: set weight_decay=0"):
        build_base(recipe, network())


# ------------------------------------------------------------------ average of the weights


def test_the_average_is_the_sum_by_hand_and_is_scored_and_kept(data):
    trainer = make(data, "opt=sam", "ema=0.9", "lr=0.05")
    trainer.model.train()
    expected = None
    for index in range(4):
        trainer.take_step(torch.arange(32 * index, 32 * index + 32))
        now = {k: v.double() for k, v in trainer.model.state_dict().items()}
        if expected is None:
            expected = now
        expected = {k: 0.9 * v + 0.1 * now[k] for k, v in expected.items()}
    kept = trainer.evaluated.state_dict()
    assert kept.keys() == trainer.model.state_dict().keys()
    for name, value in kept.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-6)
    assert any(not v.equal(trainer.model.state_dict()[k]) for k, v in kept.items())
    # What is scored are these weights, in a network that shares nothing with the trained one.
    again = initial_model(trainer.cell, data)
    again.load_state_dict(kept)
    scored = evaluate(trainer.evaluated, data, data.val, trainer.task)
    assert scored == pytest.approx(evaluate(again, data, data.val, trainer.task))
    total = sum(p.detach().double().square().sum() for p in again.parameters())
    assert trainer.weight_norm() == pytest.approx(math.sqrt(total), rel=1e-6)


def test_the_average_moves_no_step(data):
    plain, averaged = make(data, "opt=sam"), make(data, "opt=sam", "ema=0.9")
    for trainer in (plain, averaged):
        trainer.model.train()
        trainer.take_step(torch.arange(64))
        trainer.take_step(torch.arange(64, 128))
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, averaged.model.state_dict()[name])


# ------------------------------------------------------------------ interruptions

ALL = {
    "label_smoothing": ["label_smoothing=0.1"],
    "nesterov": ["nesterov=true"],
    "warmup": ["warmup_epochs=1.5", "lr_schedule=linear"],
    "step": ["lr_schedule=step", "lr_schedule_args.at=[0.5]"],
    "clip_combined": ["clip_norm=0.5"],
    "clip_gradient": ["clip_norm=0.5", "clip=gradient"],
    "no_decay_on_norm": ["no_decay_on_norm=true"],
    "groups": ["groups=[{params:norm_layers,lr:0.05,rho:0.2},{params:biases,perturb:false}]"],
    "randaugment": ["dataset.augment.policy=randaugment"],
    "trivialaugment": ["dataset.augment.policy=trivialaugment"],
    "mixup": ["dataset.augment.mixup=0.2"],
    "cutmix": ["dataset.augment.cutmix=1.0"],
    "mixup_or_cutmix": ["dataset.augment.mixup=0.2", "dataset.augment.cutmix=1.0"],
    "ema": ["ema=0.95"],
    "ema_gauss_newton": ["ema=0.95", "opt=sgdhess", "opt.curvature=gauss_newton"],
    "dropout": ["+model.factory=recipe_models.dropout", "model.name=dropout", "opt=samdirection"],
    "loss_that_draws": ["loss=recipe_models.noisy"],
    "combination_that_draws": ["opt.name=own", "+opt.combination=recipe_models.rotated"],
    "base_that_draws": ["base=recipe_models.Noise"],
    "metric_of_mixed": ["metric=recipe_models.top2", "dataset.augment.mixup=0.2"],
}


@pytest.fixture
def recipe_models(tmp_path, monkeypatch):
    (tmp_path / "recipe_models.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def dropout(*, in_features, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, 16), nn.ReLU(),\n"
        "        nn.Dropout(0.5), nn.Linear(16, num_classes))\n"
        "def noisy(outputs, labels):\n"
        "    noise = torch.randn_like(outputs)\n"
        "    return nn.functional.cross_entropy(outputs + noise, labels)\n"
        "def rotated(g, h):\n"
        "    return [a + 0.1 * torch.randn_like(b) for a, b in zip(g, h)]\n"
        "class Noise(torch.optim.SGD):\n"
        "    def step(self):\n"
        "        super().step()\n"
        "        for p in self.param_groups[0]['params']:\n"
        "            p.data += 0.01 * torch.randn_like(p)\n"
        "def top2(outputs, labels):\n"
        "    assert labels.dtype == torch.int64\n"
        "    return (outputs.topk(2).indices == labels[:, None]).any(1).double().mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("name", ALL)
def test_a_resumed_training_is_bit_identical(data, name, recipe_models):
    def fresh():
        return make(data, "opt=sam", "batch_size=200", *ALL[name])

    straight, stopped, resumed = fresh(), fresh(), fresh()
    rows = [straight.run_epoch(nothing) for _ in range(2)]
    torch.manual_seed(99)  # which decides nothing
    train_until(stopped, 2)
    state = copy.deepcopy(stopped.state_dict())
    stopped.run_epoch(nothing)
    resumed.load_state_dict(state)
    assert [resumed.run_epoch(nothing) for _ in range(2)] == rows
    for network in ("model", "evaluated"):
        found, expected = (getattr(t, network).state_dict() for t in (resumed, straight))
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_both_passes_of_a_step_drop_the_same_units(data, recipe_models):
    trainer = make(data, "opt=sam", "rho=0", *ALL["dropout"][:2])
    trainer.model.train()
    result, _ = trainer._compute(*trainer._batch(torch.arange(64)))
    assert torch.equal(result.loss, result.loss_perturbed)
    torch.manual_seed(derive_seed(0, "step", 0, 0))
    inputs, labels = trainer._batch(torch.arange(64))
    assert torch.equal(F.cross_entropy(trainer.model(inputs), labels).detach(), result.loss)
