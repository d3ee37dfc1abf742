import json

import pytest
import torch
from torch import nn

from samsweep.config import MEASURES, ConfigError, SharpnessConfig
from samsweep.sharpness import measure, top_eigenvalues

SETTINGS = SharpnessConfig(
    measures=("lambda_max",),
    num_examples=11,
    weights="last",
    tolerance=1e-4,
    max_hvps=100,
    seed=0,
    physical_batch_size=4,
)
KEYS = {
    *("lambda_max", "eigenvalues", "errors", "residuals", "num_hvps", "converged"),
    *("loss", "weight_norm", "seconds"),
}


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_gives_plain_json(problem, name):
    values = measure(name, SETTINGS, *problem())
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert KEYS <= values.keys()
    assert len(values["eigenvalues"]) == len(values["errors"]) == MEASURES[name]
    assert values["lambda_max"] == values["eigenvalues"][0]


def test_values_are_those_of_top_eigenvalues(problem):
    model, inputs, labels = problem()
    values = measure("top5", SETTINGS, model, inputs, labels)
    found = top_eigenvalues(
        model, inputs, labels, k=5, tolerance=1e-4, max_hvps=100, physical_batch_size=4
    )
    assert values["eigenvalues"] == list(found.values)
    assert values["bulk_outlier_ratio"] == found.values[0] / found.values[4]
    assert values["loss"] == found.loss


def test_settings_are_used(problem):
    few = measure("top5", SETTINGS.model_copy(update={"max_hvps": 3}), *problem())
    assert few["num_hvps"] == 3 and not few["converged"]
    assert few["bulk_outlier_ratio"] is None
    one, other = (
        measure("lambda_max", SETTINGS.model_copy(update={"seed": seed}), *problem())
        for seed in (0, 1)
    )
    assert one["residuals"] != other["residuals"]


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


def test_a_diverged_network_is_an_arithmetic_error(problem):
    model, inputs, labels = problem()
    nn.init.constant_(model.head.bias, float("nan"))
    with pytest.raises(ArithmeticError, match="the mean loss is nan"):
        measure("lambda_max", SETTINGS, model, inputs, labels)
