import json

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from samsweep.config import MEASURES, ConfigError, SharpnessConfig, conf_dir
from samsweep.sharpness import (
    adaptive_lambda_max,
    average_case,
    empirical_sam,
    fisher_trace,
    ggn_trace,
    hessian_trace,
    landscape,
    measure,
    relative_flatness,
    sam_gap,
    spectral_density,
    top_eigenvalues,
    worst_case,
)

SETTINGS = SharpnessConfig.parse(
    {
        **yaml.safe_load((conf_dir() / "sharpness/lambda_max.yaml").read_text()),
        "num_examples": 11,
        "max_hvps": 100,
        "physical_batch_size": 4,
        "trace": {"num_samples": 4},
        "spectral_density": {"num_vectors": 2, "num_steps": 5},
        "average_case": {"rho": 0.01, "adaptive_rho": 0.1, "num_samples": 3},
        "sam_gap": {"rho": 0.1, "batch_size": 5},
        "landscape": {"radius": 1.0, "num_points_1d": 5, "num_points_2d": 3},
        "empirical_sam": {"num_batches": 2, "batch_size": 5, "num_eigenvalues": 3},
    }
)
SEARCH = {"tolerance": 1e-4, "max_hvps": 100, "physical_batch_size": 4}


EXPECTED = {
    "lambda_max": lambda *p: top_eigenvalues(*p, k=1, **SEARCH).values[0],
    "top5": lambda *p: top_eigenvalues(*p, k=5, **SEARCH).values[0],
    "relative_flatness": lambda *p: relative_flatness(*p, **SEARCH).values[0],
    "adaptive_lambda_max": lambda *p: adaptive_lambda_max(*p, **SEARCH).values[0],
    "trace": lambda *p: hessian_trace(*p, num_samples=4).value,
    "ggn_trace": lambda *p: ggn_trace(*p, num_samples=4).value,
    "fisher_trace": lambda *p: fisher_trace(*p, num_samples=4).value,
    "worst_case_l2": lambda *p: worst_case(*p, rho=0.1).value,
    "worst_case_linf": lambda *p: worst_case(*p, rho=0.001, norm="linf").value,
    "adaptive_worst_case_l2": lambda *p: worst_case(*p, rho=0.5, adaptive=True).value,
    "adaptive_worst_case_linf": lambda *p: (
        worst_case(*p, rho=0.01, norm="linf", adaptive=True).value
    ),
    "average_case": lambda *p: average_case(*p, rho=0.01, num_samples=3).value,
    "adaptive_average_case": lambda *p: (
        average_case(*p, rho=0.1, adaptive=True, num_samples=3).value
    ),
    "sam_gap": lambda *p: sam_gap(*p, rho=0.1, batch_size=5).value,
    "empirical_sam": lambda *p: empirical_sam(*p, batch_size=5, k=3, **SEARCH).value,
}


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_gives_the_same_plain_json_and_leaves_the_model_as_it_was(problem, name):
    model, inputs, labels = problem()
    model.branch.eval()
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    values, again = (measure(name, SETTINGS, model, inputs, labels) for _ in range(2))
    assert {**values, "seconds": 0} == {**again, "seconds": 0}
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert any(key in values for key in ("num_hvps", "num_gradients", "num_forwards"))
    assert values["seconds"] > 0
    # The study's is a mean over batches of 5, 5 and 1 examples.
    if name != "empirical_sam":
        loss = cross_entropy(model.eval()(inputs), labels).item()
        assert values["loss"] == pytest.approx(loss, rel=1e-9)
    headline = MEASURES[name].headline
    if headline is not None:
        assert values[headline] == pytest.approx(EXPECTED[name](*problem()), rel=1e-6)
        assert "standard_error" in values or len(values["error_estimates"]) > 0


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "empirical_sam"])
def test_micro_batches_change_nothing(problem, name):
    parts, whole = (
        measure(name, SETTINGS.model_copy(update={"physical_batch_size": n}), *problem())
        for n in (4, 11)
    )
    for key in {MEASURES[name].headline, "nodes", "losses"} & parts.keys():
        assert np.ravel(parts[key]) == pytest.approx(np.ravel(whole[key]), rel=1e-6)


@pytest.mark.parametrize(
    "name", ["trace", "ggn_trace", "fisher_trace", "average_case", "spectral_density"]
)
def test_a_seed_decides_the_draws(problem, name):
    one, other = (
        measure(name, SETTINGS.model_copy(update={"seed": seed}), *problem()) for seed in (0, 1)
    )
    key = MEASURES[name].headline or "nodes"
    assert one[key] != other[key]


@pytest.mark.parametrize(
    "function, wrong, message",
    [
        (hessian_trace, {"num_samples": 1}, "num_samples=1: choose at least 2"),
        (ggn_trace, {"num_samples": 1}, "num_samples=1: choose at least 2"),
        (average_case, {"num_samples": 1, "rho": 0.1}, "num_samples=1: choose at least 2"),
        (spectral_density, {"num_steps": 0}, "num_steps=0: choose at least 1"),
        (worst_case, {"rho": 0.1, "norm": "l1"}, "norm='l1': choose l2 or linf"),
        (sam_gap, {"rho": 0}, "rho=0: choose a number above 0"),
        (landscape, {"num_directions": 3}, "num_directions=3: choose 1 or 2"),
        (landscape, {"num_directions": 1, "num_points": 4}, "num_points=4: choose an odd number"),
        (landscape, {"num_directions": 1, "radius": 0.0}, "radius=0.0: choose a number above 0"),
    ],
)
def test_a_wrong_argument_is_refused(problem, function, wrong, message):
    with pytest.raises(ValueError, match=message):
        function(*problem(), **wrong)


def test_figures_have_their_data(problem):
    found = spectral_density(*problem(), num_vectors=2, num_steps=5)
    values = measure("spectral_density", SETTINGS, *problem())
    assert values["nodes"][1] == pytest.approx(found.nodes[1], rel=1e-6)
    assert [len(weights) for weights in values["weights"]] == [5, 5]
    assert values["dim"] == 143
    line, plane = (measure(f"landscape_{n}d", SETTINGS, *problem()) for n in (1, 2))
    assert line["alphas"] == [-1.0, -0.5, 0.0, 0.5, 1.0] and "betas" not in line
    assert plane["alphas"] == plane["betas"] == [-1.0, 0.0, 1.0]
    expected = landscape(*problem(), num_directions=2, num_points=3).losses
    assert plane["losses"] == [pytest.approx(row) for row in expected.tolist()]


def test_a_loss_that_overflows_is_none_in_a_slice(problem):
    settings = SETTINGS.model_copy(
        update={"landscape": SETTINGS.landscape.model_copy(update={"radius": 1e200})}
    )
    values = measure("landscape_1d", settings, *problem())
    assert values["losses"][0] is None and values["losses"][2] is not None


def test_top5_has_the_ratio_of_bulk_and_outlier(problem):
    values = measure("top5", SETTINGS, *problem())
    assert len(values["eigenvalues"]) == len(values["error_estimates"]) == 5
    assert values["bulk_outlier_ratio"] == values["eigenvalues"][0] / values["eigenvalues"][4]


def test_settings_are_used(problem):
    few = measure("top5", SETTINGS.model_copy(update={"max_hvps": 3}), *problem())
    assert few["num_hvps"] == 3 and not few["converged"]
    assert few["bulk_outlier_ratio"] is None
    one, other = (
        measure("lambda_max", SETTINGS.model_copy(update={"seed": seed}), *problem())
        for seed in (0, 1)
    )
    assert one["error_bounds"] != other["error_bounds"]


def test_weight_norm_is_over_trainable_parameters(problem):
    model, inputs, labels = problem()
    model.stem.requires_grad_(False)
    trainable = [p.flatten() for p in model.parameters() if p.requires_grad]
    values = measure("lambda_max", SETTINGS, model, inputs, labels)
    assert values["weight_norm"] == pytest.approx(torch.cat(trainable).norm().item())


def test_no_ratio_where_lambda_5_is_not_positive():
    """Two classes and two weights per class: the Hessian has rank two at most."""
    model = nn.Linear(2, 2).double()
    inputs, labels = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    values = measure("top5", SETTINGS, model, inputs, labels)
    assert values["eigenvalues"][4] == pytest.approx(0, abs=1e-9)
    ratio = values["bulk_outlier_ratio"]
    assert ratio is None or ratio > 1e9


def test_an_unknown_name_is_refused_with_the_valid_ones(problem):
    with pytest.raises(ConfigError, match="'lambda_min' is unknown: did you mean 'lambda_max'"):
        measure("lambda_min", SETTINGS, *problem())


@pytest.mark.parametrize("name", MEASURES)
def test_a_diverged_network_is_an_arithmetic_error(problem, name):
    model, inputs, labels = problem()
    nn.init.constant_(model.head.bias, float("nan"))
    with pytest.raises(ArithmeticError, match="the mean loss is nan"):
        measure(name, SETTINGS, model, inputs, labels)


class Checkpointed(nn.Module):
    """Recomputes its first layers in the backward pass."""

    def __init__(self, **keys):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.last = nn.Linear(6, 3)
        self.keys = keys

    def forward(self, x):
        x = x.clone().requires_grad_()
        return self.last(checkpoint(self.first, x, **self.keys) if self.keys else self.first(x))


@pytest.mark.parametrize("name", MEASURES)
def test_a_reentrant_checkpoint_would_hide_parameters(name):
    """Measured would be the Hessian of the others."""
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(32) % 3
    settings = SETTINGS
    plain, other = (
        measure(name, settings, net, inputs, labels)
        for net in (Checkpointed(), Checkpointed(use_reentrant=False))
    )
    key = "mean" if name == "spectral_density" else "losses" if "landscape" in name else name
    key = "lambda_max" if name == "top5" else key
    # By another method where the graph cannot be kept: the same but for rounding, which ascends.
    np.testing.assert_allclose(other[key], plain[key], rtol=5e-3)
    with pytest.raises(ValueError, match="checkpoints reentrantly, .* use_reentrant=False"):
        measure(name, settings, Checkpointed(use_reentrant=True), inputs, labels)
