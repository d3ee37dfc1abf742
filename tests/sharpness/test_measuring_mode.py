import pytest
import torch

from samsweep.sharpness import HessianOperator, double_backward, lambda_max, measuring

MATMUL, CONV = torch.backends.cuda.matmul, torch.backends.cudnn.conv


def state_of(model):
    return (
        [module.training for module in model.modules()],
        [(p.requires_grad, p.grad) for p in model.parameters()],
        [b.clone() for b in model.buffers()],
    )


def assert_same_state(before, after):
    assert before[0] == after[0]
    for (required, grad), (requires, now) in zip(before[1], after[1], strict=True):
        assert required == requires and now is grad
    for old, new in zip(before[2], after[2], strict=True):
        assert torch.equal(old, new)


@pytest.fixture
def mixed(problem):
    """A model whose modules are in different modes, partly frozen, with gradients on some."""
    model, inputs, labels = problem()
    model.norms[0].eval()
    model.head.eval()
    model.branch.weight.requires_grad_(False)
    model.stem.weight.grad = torch.ones_like(model.stem.weight)
    return model, inputs, labels


@pytest.fixture
def tf32():
    """TF32 as a user would allow it by the older settings."""
    before = MATMUL.allow_tf32, torch.backends.cudnn.allow_tf32
    MATMUL.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    MATMUL.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_everything_returns_also_after_an_exception(mixed, tf32):
    model, _, _ = mixed
    before = state_of(model)
    with pytest.raises(KeyError), measuring(model):
        assert not any(module.training for module in model.modules())
        assert MATMUL.fp32_precision == CONV.fp32_precision == "ieee"
        raise KeyError
    assert_same_state(before, state_of(model))
    assert MATMUL.allow_tf32 and torch.backends.cudnn.allow_tf32


def test_a_product_leaves_the_model_as_it_was_also_if_it_fails(mixed):
    model, inputs, labels = mixed
    before = state_of(model)
    operator = HessianOperator(model, inputs, labels)
    operator.matvec(torch.ones(operator.dim, dtype=torch.float64))
    operator.loss_and_gradient()
    assert_same_state(before, state_of(model))
    failing = HessianOperator(model, inputs[..., 0], labels, hvp=double_backward)
    for fail in (
        lambda: failing.matvec(torch.ones(operator.dim, dtype=torch.float64)),
        lambda: HessianOperator(model, inputs[..., 0], labels),
    ):
        with pytest.raises(RuntimeError):
            fail()
        assert_same_state(before, state_of(model))


def test_an_overridden_train_is_not_called(problem, monkeypatch):
    model, _, _ = problem()
    monkeypatch.setattr(type(model), "train", lambda self, mode=True: pytest.fail("called"))
    with measuring(model):
        assert not model.training
    assert model.training


def test_reduced_precision_on_the_cpu_is_off(problem):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with measuring(problem()[0]):
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision(before)


def test_autocast_is_off(problem):
    model, inputs, _ = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with measuring(model):
            assert model(inputs).dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode])
def test_what_records_no_gradients_outside_does_not_matter(problem, outside):
    expected = lambda_max(*problem())
    model, inputs, labels = problem()
    with outside():
        assert lambda_max(model, inputs, labels) == expected
