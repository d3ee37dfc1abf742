"""Losses that weigh their examples: micro-batches of any size give one value."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from samsweep.sharpness import (
    HessianOperator,
    MeanLoss,
    average_case,
    fisher_trace,
    ggn_trace,
    lambda_max,
    sam_gap,
    worst_case,
)

WEIGHTS = torch.tensor([0.2, 3.0, 1.0, 0.0, 5.0])
LOSSES = {
    "class weights": nn.CrossEntropyLoss(weight=WEIGHTS),
    "sum": partial(cross_entropy, reduction="sum"),
    "weighted sum": partial(cross_entropy, reduction="sum", weight=WEIGHTS),
    "ignored": partial(cross_entropy, ignore_index=2),
    "smoothed": partial(cross_entropy, label_smoothing=0.1, weight=WEIGHTS + 1),
    "regression": lambda outputs, labels: mse_loss(outputs[:, 0], labels.to(outputs.dtype)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_change_nothing(problem, name, dtype):
    model, inputs, labels = problem(dtype=dtype)
    loss_fn = LOSSES[name]
    whole = HessianOperator(model, inputs, labels, loss_fn=loss_fn, physical_batch_size=11)
    v = torch.ones(whole.dim, dtype=dtype)
    within = 1e-9 if dtype == torch.float64 else 1e-5
    value = MeanLoss(model, inputs, labels, loss_fn=loss_fn, physical_batch_size=11).value()
    for size in (1, 4, 10):
        parts = HessianOperator(model, inputs, labels, loss_fn=loss_fn, physical_batch_size=size)
        assert parts.objective.value() == pytest.approx(value, rel=within)
        loss, gradient = parts.loss_and_gradient()
        assert loss == pytest.approx(value, rel=within)
        torch.testing.assert_close(
            gradient, whole.loss_and_gradient()[1], rtol=100 * within, atol=within
        )
        torch.testing.assert_close(
            parts.matvec(v), whole.matvec(v), rtol=100 * within, atol=10 * within
        )


def test_labels_that_cross_entropy_ignores_by_default(problem):
    model, inputs, labels = problem()
    labels[3:7] = -100  # a whole micro-batch of four, but for one
    labels[7] = -100
    found = [
        lambda_max(model, inputs, labels, physical_batch_size=size, tolerance=1e-8)
        for size in (11, 4, 1)
    ]
    counted = labels >= 0
    expected = lambda_max(model, inputs[counted], labels[counted], tolerance=1e-8)
    assert found == pytest.approx([expected] * 3, rel=1e-6)


@pytest.mark.parametrize("measure", [sam_gap, average_case, worst_case])
def test_rises_too(problem, measure):
    loss_fn = LOSSES["class weights"]
    whole, parts = (
        measure(*problem(), rho=0.1, physical_batch_size=size, loss_fn=loss_fn).value
        for size in (11, 4)
    )
    assert parts == pytest.approx(whole, rel=1e-6)


def decayed(model, reduction):
    def loss_fn(outputs, labels):
        penalty = sum(p.square().sum() for p in model.parameters())
        return cross_entropy(outputs, labels, reduction=reduction) + 0.05 * penalty

    return loss_fn


def hardest(outputs, labels):
    return cross_entropy(outputs, labels, reduction="none").max()


def weighing_itself(outputs, labels):
    """A sum with shares, but shares that hang on the outputs."""
    losses = cross_entropy(outputs, labels, reduction="none")
    weights = losses.detach().exp()
    return (weights * losses).sum() / weights.sum()


def test_a_loss_that_takes_its_examples_together_is_refused(problem):
    model, inputs, labels = problem()
    for loss_fn in (hardest, weighing_itself, decayed(model, "sum")):
        with pytest.raises(ValueError, match="physical_batch_size of at least the number"):
            lambda_max(model, inputs, labels, loss_fn=loss_fn, physical_batch_size=4)
        assert lambda_max(model, inputs, labels, loss_fn=loss_fn) > 0


def test_a_penalty_beside_a_mean_is_no_obstacle(problem):
    model, inputs, labels = problem()
    loss_fn = decayed(model, "mean")
    parts, whole = (
        lambda_max(model, inputs, labels, loss_fn=loss_fn, physical_batch_size=size, tolerance=1e-8)
        for size in (4, 11)
    )
    assert parts == pytest.approx(whole, rel=1e-6)


def test_outputs_of_any_structure(problem):
    class Two(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return {"logits": self.model(x), "name": "two"}

    model, inputs, labels = problem()
    found = lambda_max(
        Two(model),
        inputs,
        labels,
        loss_fn=lambda outputs, y: cross_entropy(outputs["logits"], y),
        physical_batch_size=4,
    )
    assert found == pytest.approx(lambda_max(model, inputs, labels), rel=1e-4)


@pytest.mark.parametrize("trace", [ggn_trace, fisher_trace])
def test_traces_leave_out_ignored_examples(problem, trace):
    model, inputs, labels = problem()
    labels = labels.clone()
    labels[:5] = -100
    parts, whole, alone = (
        trace(model, x, y, num_samples=20, physical_batch_size=size).value
        for x, y, size in (
            (inputs, labels, 3),
            (inputs, labels, 11),
            (inputs[5:], labels[5:], 11),
        )
    )
    assert parts == pytest.approx(whole, rel=1e-6)
    assert whole == alone
