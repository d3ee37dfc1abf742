"""What measures take: loaders, arrays, structures, half precision, some parameters, both modes."""

import copy
import inspect
import re
from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from samsweep.sharpness import (
    HessianOperator,
    average_case,
    empirical_sam,
    fisher_trace,
    ggn_trace,
    hessian_trace,
    lambda_max,
    landscape,
    relative_flatness,
    sam_gap,
    spectral_density,
    top_eigenvalues,
    worst_case,
)

#: Each with the fewest arguments that it needs, and its number.
ALL = {
    top_eigenvalues: ({"k": 2}, lambda found: found.values[0]),
    relative_flatness: ({}, lambda found: found.values[0]),
    empirical_sam: ({"batch_size": 8, "k": 2}, lambda found: found.value),
    hessian_trace: ({"num_samples": 4}, lambda found: found.value),
    ggn_trace: ({"num_samples": 4}, lambda found: found.value),
    fisher_trace: ({"num_samples": 4}, lambda found: found.value),
    worst_case: ({"rho": 0.1, "num_steps": 2, "batch_size": 8}, lambda found: found.value),
    sam_gap: ({"rho": 0.1, "batch_size": 8}, lambda found: found.value),
    average_case: ({"rho": 0.01, "num_samples": 2}, lambda found: found.value),
    landscape: ({"num_directions": 1, "num_points": 3}, lambda found: found.losses[0]),
    spectral_density: ({"num_vectors": 2, "num_steps": 3}, lambda found: found.largest),
}
each = pytest.mark.parametrize("measure", ALL, ids=lambda f: f.__name__)


def numbers(seed=1):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(24, 4, generator=draws), torch.arange(24) % 3


def network():
    torch.manual_seed(0)
    layers = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)
    model = nn.Sequential(*layers)
    model(numbers()[0])
    return model


class Named(nn.Module):
    """Takes its inputs by name, two of them, and gives more than its logits."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, left, right):
        logits = self.net(torch.cat([left, right], dim=1))
        return {"logits": logits, "more": (left,)}


class Masked(nn.Module):
    """Draws where no layer says so."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return nn.functional.dropout(self.model(x), 0.1, self.training)


def of_logits(outputs, labels):
    return cross_entropy(outputs["logits"], labels)


def value(measure, *args, **more):
    given, number = ALL[measure]
    return number(measure(*args, **given, **more))


@each
def test_a_loader_is_the_tensors_that_it_gives(measure):
    inputs, labels = numbers()
    expected = value(measure, network(), inputs, labels)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=5)
    assert value(measure, network(), loader) == expected
    batches = ({"inputs": x, "labels": y} for x, y in loader)
    as_pairs = ((batch["inputs"], batch["labels"]) for batch in batches)
    assert value(measure, network(), as_pairs) == expected


@each
def test_arrays_are_taken(measure):
    inputs, labels = numbers()
    arrays = inputs.double().numpy(), labels.numpy().astype(np.int32)
    assert value(measure, network(), *arrays) == value(measure, network(), inputs, labels)


@each
def test_structures_of_inputs_and_outputs_are_taken(measure):
    """By name, and in micro-batches; Gauss-Newton's and Fisher's are of plain logits."""
    inputs, labels = numbers()
    named = {"left": inputs[:, :1], "right": inputs[:, 1:]}
    batches = [
        {**{key: x[part] for key, x in named.items()}, "labels": labels[part]}
        for part in (slice(0, 10), slice(10, 24))
    ]
    if measure in (ggn_trace, fisher_trace):
        model, more = Named(), {}
        forward = model.forward
        model.forward = lambda **keys: forward(**keys)["logits"]
    else:
        model, more = Named(), {"loss_fn": of_logits}
    expected = value(measure, network(), inputs, labels, physical_batch_size=7)
    # As a tokenizer's, with entries that it leaves empty.
    other = UserDict({**named, "mask": None})
    for given in ((named, labels), (other, labels), (batches,)):
        found = value(measure, model, *given, physical_batch_size=7, **more)
        assert found == pytest.approx(expected, rel=1e-4)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_of_half_precision_a_copy_is_measured(measure, dtype):
    """The numbers are those of the same weights in float32; the model stays as it is."""
    inputs, labels = numbers()
    model = network().to(dtype)
    model[1].float()  # norm layers often are
    model[0].bias.requires_grad_(False)
    full = copy.deepcopy(model).float()
    before = copy.deepcopy(model.state_dict())
    assert value(measure, model, inputs, labels) == value(measure, full, inputs, labels)
    short = inputs.to(dtype)
    assert value(measure, model, short, labels) == value(measure, full, short.float(), labels)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert model[0].weight.dtype == dtype and not model[0].bias.requires_grad


@each
def test_some_parameters_alone_are_measured(measure):
    inputs, labels = numbers()
    model, frozen = network(), network()
    for p in [*frozen[0].parameters(), *frozen[1].parameters()]:
        p.requires_grad_(False)
    found = value(measure, model, inputs, labels, params=model[3].parameters())
    assert found == value(measure, frozen, inputs, labels)
    assert all(p.requires_grad for p in model.parameters())
    for wrong in ([], [torch.ones(2)]):
        with pytest.raises(ValueError, match="some of model.parameters"):
            value(measure, model, inputs, labels, params=wrong)


@each
def test_results_say_how_they_were_measured(measure):
    given, _ = ALL[measure]
    found = measure(network(), *numbers(), **given)
    defaults = {
        key: p.default
        for key, p in inspect.signature(measure).parameters.items()
        if p.default is not p.empty and key not in ("labels", "loss_fn", "params", "progress")
    }
    expected = {**defaults, **given, "training": False, "num_params": 63}
    assert {key: found.settings[key] for key in expected} == expected
    assert "inputs" not in found.settings and found.seconds > 0
    text = str(found)
    assert "\n" not in text and len(text) < 300
    if measure in (hessian_trace, top_eigenvalues):
        assert f"{found.num_hvps} Hessian-vector products" in text
        assert "not converged" not in text


def test_products_are_shown(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    found = top_eigenvalues(network(), *numbers(), k=1, progress=True)
    shown = re.findall(r"(\d+) passes over the examples", capsys.readouterr().out)
    assert max(map(int, shown)) >= found.num_hvps


# ------------------------------------------------------------------ modes


def dense_in_train_mode(model, inputs, labels):
    params = {k: p.detach().double() for k, p in model.named_parameters()}
    buffers = {k: b.double() for k, b in model.named_buffers()}
    sizes = [p.numel() for p in params.values()]

    def loss(flat):
        parts = zip(params.items(), flat.split(sizes), strict=True)
        named = {key: part.view(p.shape) for (key, p), part in parts}
        outputs = torch.func.functional_call(model, {**buffers, **named}, (inputs.double(),))
        return cross_entropy(outputs, labels)

    flat = torch.cat([p.flatten() for p in params.values()])
    return torch.autograd.functional.hessian(loss, flat)


def test_in_train_mode_batch_norm_takes_the_batch():
    """The largest eigenvalue of the dense Hessian, and no statistic has moved."""
    inputs, labels = numbers()
    model = network().train()
    model[3].eval()
    before = copy.deepcopy(model.state_dict())
    expected = torch.linalg.eigvalsh(dense_in_train_mode(copy.deepcopy(model), inputs, labels))[-1]
    found = top_eigenvalues(model, inputs, labels, k=1, training=True)
    assert found.values[0] == pytest.approx(expected.item(), rel=1e-4)
    assert found.settings["training"]
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert [m.training for m in model] == [True, True, True, False]
    other = lambda_max(model, inputs, labels)
    assert other != pytest.approx(expected.item(), rel=1e-2)
    assert other == lambda_max(model.eval(), inputs, labels, training=True)


def test_what_is_no_one_quantity_in_train_mode_is_refused():
    inputs, labels = numbers()
    model = network().train()
    with pytest.raises(ValueError, match="choose physical_batch_size=24"):
        lambda_max(model, inputs, labels, training=True, physical_batch_size=8)
    for drawn in (nn.Sequential(model, nn.Dropout(0.1)), Masked(model)):
        state = torch.get_rng_state()
        for measure, (given, _) in ALL.items():
            with pytest.raises(ValueError, match="draws at each pass, as dropout does"):
                measure(drawn, inputs, labels, training=True, **given)
        assert torch.equal(state, torch.get_rng_state())
        drawn.eval()
        assert lambda_max(drawn, inputs, labels, training=True) > 0
        model.train()


@each
def test_in_train_mode_no_buffer_moves(measure):
    """Of a network that fits, which some measures take in float64, with batches of its own."""
    inputs, labels = numbers()
    model = network().train()
    with torch.no_grad():
        model[3].weight.mul_(30)
    before = copy.deepcopy(model.state_dict())
    found = measure(model, inputs, labels, training=True, **ALL[measure][0])
    assert found.settings["training"]
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((torch.ones(3, 4),), "Tensor without labels"),
        ((7,), "int without labels"),
        (([],), "gives no batch"),
        (([torch.ones(2, 4)],), "a batch is Tensor"),
        (([{"inputs": torch.ones(2, 4)}],), "no labels or label among inputs"),
        (
            ([(torch.ones(2, 4), torch.ones(2)), (torch.ones(2, 3), torch.ones(2))],),
            "padded alike",
        ),
        (({"a": torch.ones(2, 4), "b": torch.ones(3, 4)}, torch.ones(2)), "of 2, 3 examples"),
        (({}, torch.ones(2)), "of no examples"),
        (({"a": True}, torch.ones(2)), "is a single number"),
        (({"a": "text"}, torch.ones(2)), "str among the examples is no tensor"),
        ((torch.ones(2, 4), torch.ones(3)), "inputs has 2 examples, labels has 3"),
    ],
)
def test_what_are_no_examples_is_told(given, told):
    for take in (lambda_max, HessianOperator, lambda *args: worst_case(*args, rho=0.1)):
        with pytest.raises(ValueError, match=told):
            take(network(), *given)
