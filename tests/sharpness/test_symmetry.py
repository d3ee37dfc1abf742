"""Operators that are no Hessian, and models of kinds that are hard to differentiate twice."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, parametrize, weight_norm
from torch.nn.utils.parametrizations import orthogonal

from samsweep.optim.sgdhess import SGDHess
from samsweep.sharpness import HessianOperator, ggn_trace, lambda_max, top_eigenvalues


def old_form(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return weight_norm(layer)


@pytest.mark.parametrize("form", [old_form, parametrizations.weight_norm])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_norm_is_named(form, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), form(nn.Linear(6, 3))).to(dtype)
    inputs, labels = torch.randn(20, 4, dtype=dtype), torch.randint(3, (20,))
    with pytest.raises(ArithmeticError, match=r"not symmetric .*u·Hv = .* weight_norm \(2"):
        lambda_max(model, inputs, labels)
    assert ggn_trace(model, inputs, labels).value > 0  # of first derivatives, which are right


@pytest.mark.parametrize("form", [old_form, parametrizations.weight_norm])
@pytest.mark.parametrize("size", [3, 40])
@pytest.mark.parametrize("counting", [slice(2, None), slice(38, None)], ids=["rest", "last"])
@pytest.mark.parametrize("by", ["label", "weight"])
def test_weight_norm_is_named_whichever_examples_count(form, size, counting, by):
    torch.manual_seed(0)
    model = nn.Sequential(form(nn.Linear(4, 6)), nn.Tanh(), form(nn.Linear(6, 3)))
    inputs, labels = torch.randn(40, 4), torch.zeros(40, dtype=torch.long)
    labels[counting] = torch.randint(1, 3, labels[counting].shape)
    weight = torch.tensor([0.0, 1.0, 1.0])
    if by == "label":
        weight, labels = None, torch.where(labels == 0, -100, labels)
    loss_fn = nn.CrossEntropyLoss(weight=weight)
    with pytest.raises(ArithmeticError, match="weight_norm"):
        lambda_max(model, inputs, labels, loss_fn=loss_fn, physical_batch_size=size)


class WrongSlope(torch.autograd.Function):
    """x², whose derivative has a wrong one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return WrongTwice.apply(slope, x)


class WrongTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, slope, x):
        ctx.save_for_backward(slope, x)
        return 2 * slope * x

    @staticmethod
    def backward(ctx, u):
        slope, x = ctx.saved_tensors
        return 2 * u * x, torch.zeros_like(x)[..., :1].expand_as(x) + u.roll(1, -1)


def test_a_wrong_second_derivative_is_an_error():
    class Squares(nn.Linear):
        def forward(self, x):
            return WrongSlope.apply(super().forward(x))

    torch.manual_seed(0)
    with pytest.raises(ArithmeticError, match="not symmetric"):
        lambda_max(Squares(4, 3), torch.randn(9, 4), torch.randint(3, (9,)))


def test_a_model_that_is_random_in_eval_mode_is_an_error():
    class Noisy(nn.Linear):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x).square(), training=True)

    torch.manual_seed(0)
    with pytest.raises(ArithmeticError, match="random"):
        lambda_max(Noisy(4, 30), torch.randn(9, 4), torch.randint(3, (9,)))


def test_parametrized_modules(problem):
    class Doubled(nn.Module):
        def forward(self, w):
            return 2 * w

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    model = copy.deepcopy(plain)
    with torch.no_grad():
        model[0].weight.div_(2)
    parametrize.register_parametrization(model[0], "weight", Doubled())
    orthogonal(model[2])
    inputs, labels = torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,))
    found = [lambda_max(model, inputs, labels, physical_batch_size=n) for n in (7, 20)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_compiled_modules(problem):
    model, inputs, labels = problem(dtype=torch.float32)
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        compiled.eval()(inputs)
    expected = top_eigenvalues(model, inputs, labels, k=2)
    assert top_eigenvalues(compiled, inputs, labels, k=2).values == expected.values


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


@pytest.mark.parametrize("size", [3, 7])
def test_transformers(size):
    torch.manual_seed(0)
    model = Transformer()
    inputs, labels = torch.randn(7, 5, 8), torch.randint(3, (7,))
    found = lambda_max(model, inputs, labels, physical_batch_size=size)
    expected = lambda_max(model.double(), inputs.double(), labels)
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("curvature", ["hutchinson", "exact"])
def test_sgdhess_trains_transformers(curvature):
    torch.manual_seed(0)
    model = Transformer()
    inputs, labels = torch.randn(7, 5, 8), torch.randint(3, (7,))
    optimizer = SGDHess(torch.optim.SGD(model.parameters(), lr=0.01), rho=0.01, curvature=curvature)
    losses = [
        optimizer.step(lambda: cross_entropy(model(inputs), labels)).loss.item() for _ in range(5)
    ]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("loss_fn", [cross_entropy, lambda o, y: cross_entropy(o.float(), y)])
def test_two_images_that_are_fitted_all_but_exactly_are_no_wrong_derivative(fitted, loss_fn):
    """Their curvature rounds, although that of all images does not."""
    model, inputs, labels = fitted(1e-5)
    outputs = model(inputs)
    order = torch.nn.functional.cross_entropy(outputs, labels, reduction="none").argsort()
    for size in (2, 11):
        HessianOperator(model, inputs[order][:size], labels[order][:size], loss_fn=loss_fn)
