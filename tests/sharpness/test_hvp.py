import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from samsweep.sharpness import HessianOperator, double_backward, forward_over_reverse

EXACT = {"rtol": 1e-9, "atol": 1e-12}


def random_vector(dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(dim, generator=generator, dtype=torch.float64)


def test_only_trainable_parameters_count(problem, dense_hessian):
    model, inputs, labels = problem()
    model.stem.requires_grad_(False)
    operator = HessianOperator(model, inputs, labels)
    assert operator.num_hvps == 0  # the check of symmetry is not counted
    v = random_vector(operator.dim, 0)
    torch.testing.assert_close(
        operator.matvec(v), dense_hessian(model, inputs, labels) @ v, **EXACT
    )
    assert operator.num_hvps == 1


def test_a_loss_linear_in_the_parameters_has_no_curvature():
    operator = HessianOperator(
        nn.Linear(3, 2), torch.ones(4, 3), torch.ones(4), loss_fn=lambda outputs, _: outputs.mean()
    )
    assert not operator.matvec(torch.ones(operator.dim)).any()


def test_an_unused_parameter_has_no_curvature(problem):
    model, inputs, labels = problem()
    model.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    operator = HessianOperator(model, inputs, labels)
    product = operator.matvec(torch.ones(operator.dim, dtype=torch.float64))
    assert product.any()
    position = [p is model.unused for p in operator.params].index(True)
    first = sum(p.numel() for p in operator.params[:position])
    assert not product[first : first + 2].any()


def test_attention_can_be_measured():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(scaled_dot_product_attention(*self.qkv(x).chunk(3, -1)).mean(1))

    torch.manual_seed(0)
    operator = HessianOperator(Attention(), torch.randn(5, 6, 4), torch.randint(3, (5,)))
    assert operator.matvec(torch.ones(operator.dim)).any()


def test_says_what_is_wrong(problem):
    model, inputs, labels = problem()
    with pytest.raises(ValueError, match="inputs has 0 examples: give at least one"):
        HessianOperator(model, inputs[:0], labels[:0])
    with pytest.raises(ValueError, match="inputs has 11 examples, labels has 3"):
        HessianOperator(model, inputs, labels[:3])
    with pytest.raises(ValueError, match="physical_batch_size=0: choose at least 1"):
        HessianOperator(model, inputs, labels, physical_batch_size=0)
    with pytest.raises(ValueError, match="elements"):
        HessianOperator(model, inputs, labels).matvec(torch.ones(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="torch.bfloat16 on cpu: they must all be float32"):
        HessianOperator(model.bfloat16(), inputs, labels)
    with pytest.raises(ValueError, match="no trainable parameter: set requires_grad=True"):
        HessianOperator(model.requires_grad_(False), inputs, labels)


WAYS = [
    {"hvp": double_backward, "physical_batch_size": 4},
    {"hvp": forward_over_reverse, "physical_batch_size": 4},
    {"physical_batch_size": 4},
    {"physical_batch_size": 11},
]


@pytest.mark.parametrize("batchnorm", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_dense_hessian(problem, dense_hessian, batchnorm, way):
    model, inputs, labels = problem(batchnorm=batchnorm)
    operator = HessianOperator(model, inputs, labels, **way)
    vectors = [random_vector(operator.dim, seed) for seed in range(9)]
    products = torch.stack([operator.matvec(v) for v in vectors])
    dense = dense_hessian(model, inputs, labels)
    torch.testing.assert_close(products, torch.stack(vectors) @ dense, **EXACT)


def test_what_is_chosen(problem):
    model, inputs, labels = problem()
    one = HessianOperator(model, inputs, labels, physical_batch_size=11)
    assert str(one.method) == "kept graph, 2 BatchNorms folded"
    several = HessianOperator(model, inputs, labels, physical_batch_size=10)
    assert str(several.method) == "double backward, 2 BatchNorms folded"
    assert not HessianOperator(problem(batchnorm=False)[0], inputs, labels).method.folding.pairs


class NoForwardMode(torch.autograd.Function):
    """x², without a forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


def test_a_model_without_a_forward_mode_takes_double_backward(problem, dense_hessian):
    model, inputs, labels = problem()

    class Squared(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return NoForwardMode.apply(self.model(x))

    squared = Squared()
    operator = HessianOperator(squared, inputs, labels, physical_batch_size=4)
    assert operator.method.hvp is double_backward and operator.method.folding.pairs
    plain = HessianOperator(squared, inputs, labels, hvp=double_backward)
    v = random_vector(operator.dim, 0)
    torch.testing.assert_close(operator.matvec(v), plain.matvec(v), **EXACT)


class Wrong(torch.autograd.Function):
    """The identity, with a forward mode that is wrong."""

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return grad

    @staticmethod
    def jvp(ctx, tangent):
        return 2 * tangent


def test_a_way_that_disagrees_with_the_plain_one_is_not_taken(problem):
    model, inputs, labels = problem()
    wrong = nn.Sequential(model, nn.Identity())
    wrong[1].forward = Wrong.apply
    operator = HessianOperator(wrong, inputs, labels, physical_batch_size=4)
    assert operator.method.hvp is double_backward


@pytest.mark.parametrize("size", [4, 11])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_penalty_counts_on_every_way(problem, size, dtype):
    """Too small for the comparison with the plain way to notice it missing in float32."""
    model, inputs, labels = problem(dtype=dtype)

    def decayed(outputs, labels):
        penalty = sum(p.square().sum() for p in model.parameters())
        return cross_entropy(outputs, labels) + 5e-4 / 2 * penalty

    v = torch.ones(sum(p.numel() for p in model.parameters()), dtype=dtype)
    plain, shifted = (
        HessianOperator(model, inputs, labels, physical_batch_size=size, loss_fn=loss_fn)
        for loss_fn in (cross_entropy, decayed)
    )
    difference = shifted.matvec(v) - plain.matvec(v)
    torch.testing.assert_close(difference, 5e-4 * v, rtol=0, atol=2e-5)


def test_agrees_with_curvlinops(problem):
    curvlinops = pytest.importorskip("curvlinops")
    model, inputs, labels = problem()
    operator = HessianOperator(model, inputs, labels, physical_batch_size=4)
    reference = curvlinops.HessianLinearOperator(
        model.eval(), nn.CrossEntropyLoss(), operator.params, [(inputs, labels)]
    )
    v = random_vector(operator.dim, 0)
    torch.testing.assert_close(operator.matvec(v), (reference @ v).detach(), **EXACT)
