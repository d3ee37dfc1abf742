"""The parts of training: schedule, evaluation, diagnostics, seeding."""

import math

import pytest
import torch
from helpers import compose_run
from torch import nn
from torch.nn import functional as F

from samsweep.data.splits import Split, SplitData
from samsweep.numerics.seeding import derive_seed, generator
from samsweep.optim import SAM, GradientDescent
from samsweep.training.diagnostics import diagnose
from samsweep.training.evaluate import evaluate
from samsweep.training.schedule import LearningRate
from samsweep.training.task import Task

TASK = Task(compose_run().cell.recipe)

# ------------------------------------------------------------------ schedule


def lrs(*overrides):
    recipe = compose_run("epochs=4", "lr=0.2", *overrides).cell.recipe
    lr = LearningRate(recipe, steps_per_epoch=5)
    return [lr.at(epoch=e, step=s) for e in range(4) for s in range(5)]


def test_cosine_per_step_equals_torchs_scheduler():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for lr in lrs():
        assert lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_cosine_per_epoch_is_constant_within_an_epoch():
    expected = [0.2 * 0.5 * (1 + math.cos(math.pi * e / 4)) for e in range(4) for _ in range(5)]
    assert lrs("lr_schedule=cosine_per_epoch") == pytest.approx(expected)


def test_constant():
    assert set(lrs("lr_schedule=constant")) == {0.2}


# ------------------------------------------------------------------ evaluation


@pytest.fixture
def data():
    draws = torch.Generator().manual_seed(0)

    def split(n):
        return Split(
            inputs=torch.randint(0, 17, (n, 1, 4, 4), generator=draws, dtype=torch.uint8),
            labels=torch.randint(0, 3, (n,), generator=draws),
        )

    return SplitData(
        train=split(40),
        val=split(7),
        test=split(2300),
        mean=torch.tensor([8.0]),
        std=torch.tensor([5.0]),
        num_classes=3,
    )


def test_evaluation_equals_a_loop_over_single_images(data):
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3))
    model(torch.randn(9, 1, 4, 4))  # running statistics away from their start
    score = evaluate(model, data, data.test, TASK)
    assert model.training
    model.eval()
    logits = torch.cat([model(data.normalize(x[None])) for x in data.test.inputs])
    assert score.accuracy == pytest.approx(
        100 * (logits.argmax(1) == data.test.labels).double().mean().item()
    )
    assert score.loss == pytest.approx(F.cross_entropy(logits, data.test.labels).item(), rel=1e-5)


def test_evaluation_leaves_the_model_as_it_was(data):
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3)).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, data, data.val, TASK)
    assert not model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# ------------------------------------------------------------------ diagnostics


def result_of(rho=0.3, **keys):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = torch.randn(20, 6).double(), torch.randint(0, 3, (20,))
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=rho, **keys)
    return optimizer.step(lambda: F.cross_entropy(model(x), y))


@pytest.mark.parametrize("keys", [{}, {"direction": "sgd"}, {"magnitude": "sgd"}])
def test_diagnostics_equal_their_definitions(keys):
    result = result_of(**keys)
    g, h, d = (
        torch.cat([t.flatten() for t in part])
        for part in (result.grad_clean, result.grad_perturbed, result.update)
    )
    found = {k: v.tolist() for k, v in diagnose(result).items()}
    cos = torch.nn.functional.cosine_similarity
    expected = {
        "grad_norm": g.norm(),
        "update_norm": d.norm(),
        "amplified_share": (h.abs() > g.abs()).double().mean(),
        "sign_agreement": (g * h > 0).double().mean(),
        "cosine": cos(g, h, dim=0),
        "norm_ratio": h.norm() / g.norm(),
        "sam_gap": result.loss_perturbed - result.loss,
        "directional_curvature": (g / g.norm()) @ (h - g) / 0.3,
        "update_cosine_clean": cos(d, g, dim=0),
        "update_cosine_perturbed": cos(d, h, dim=0),
        "update_norm_ratio": d.norm() / h.norm(),
    }
    layers = found.pop("layer_cosines")
    assert found == pytest.approx({k: v.item() for k, v in expected.items()}, rel=1e-9)
    assert layers == pytest.approx(
        [
            cos(x.flatten(), y.flatten(), dim=0).item()
            for x, y in zip(result.grad_clean, result.grad_perturbed, strict=True)
            if x.ndim > 1
        ],
        rel=1e-9,
    )


def test_a_step_without_second_pass_has_norms_only():
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    result = GradientDescent(torch.optim.SGD([w], lr=0.1)).step(lambda: 0.5 * w.square().sum())
    assert {k: v.item() for k, v in diagnose(result).items()} == {
        "grad_norm": 5.0,
        "update_norm": 5.0,
    }


def test_no_gradient_gives_no_nan():
    w = nn.Parameter(torch.zeros(2, 2))
    result = SAM(torch.optim.SGD([w], lr=0.1), rho=0.1).step(lambda: 0.5 * w.square().sum())
    assert all(v.isfinite().all() for v in diagnose(result).values())


# ------------------------------------------------------------------ seeding


def test_purposes_and_counters_are_independent():
    seeds = [
        derive_seed(seed, purpose, *counters)
        for seed in range(3)
        for purpose in ("init", "order", "augment")
        for counters in [(), (0,), (1,), (0, 1), (1, 0), (10,)]
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)


def test_seeds_are_the_same_on_every_machine():
    assert derive_seed(0, "init") == 7797302695267191734
    assert torch.rand(1, generator=generator(0, "x")) == torch.rand(1, generator=generator(0, "x"))
