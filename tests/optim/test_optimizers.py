"""All optimizers: the invariants of one contract, closed forms, and the reference SAM."""

import contextlib
import copy
import itertools
import weakref
from functools import partial

import pytest
import pytorch_optimizer
import torch
from optim_tools import (
    F64,
    assert_equal,
    batches,
    distance,
    float64_norm,
    loss_of,
    make_sam,
    network,
    sgd,
    step,
    train,
    weights,
)
from torch import nn

from samsweep.optim import (
    SAM,
    AtRandom,
    AverageDirection,
    Epochs,
    Every,
    FriendlyDirection,
    GradientDescent,
    LargeGradient,
    LastGradient,
    Length,
    MomentumDirection,
    OutputOf,
    RandomDirection,
    SGDHess,
    adaptive,
    frozen_statistics,
    gsam,
    named_weights,
    per_tensor,
    plain,
    saner,
    select,
    sgdhess,
    unified,
    unnormalized,
    wsam,
)
from samsweep.optim.radius import cosine, linear, with_lr

CORNERS = list(itertools.product(["sgd", "sam"], repeat=2))
GRANULARITIES = ["element", "tensor", "global"]

#: For what depends on the training's length: 8 steps of 4 epochs.
LENGTH = Length(steps_per_epoch=2, epochs=4)


def momentum_sam(model, base=None, *, rho=0.3, sign=1):
    base = base or sgd(model)
    direction = MomentumDirection(base, sign)
    return make_sam(model, base, rho=rho, ascent_direction=direction)


def fresh(**make):
    """SAM with parts that are made anew, since some remember their steps."""

    def build(model, base=None, rho=0.3):
        parts = {name: part(model) if callable(part) else part for name, part in make.items()}
        return make_sam(model, base, rho=rho, length=LENGTH, **parts)

    return build


#: One value at least of each factor of the family.
FAMILY = {
    "random": fresh(ascent_direction=lambda _: RandomDirection()),
    "last": fresh(ascent_direction=lambda _: LastGradient()),
    "momentum": momentum_sam,
    "msam": partial(momentum_sam, sign=-1),
    "fsam": fresh(ascent_direction=lambda _: FriendlyDirection()),
    "vasso": fresh(ascent_direction=lambda _: AverageDirection()),
    "usam": fresh(ascent=lambda _: unnormalized),
    "unified": fresh(ascent=lambda _: partial(unified, share="1/t")),
    "per_tensor": fresh(ascent=lambda _: per_tensor),
    "sam_on": fresh(perturbs=lambda model: select(model, "norm_layers")),
    "late": fresh(when=lambda _: Epochs(first=1)),
    "early": fresh(when=lambda _: Epochs(last=1)),
    "every": fresh(when=lambda _: Every(2)),
    "looksam": fresh(when=lambda _: Every(2, reuse=0.5)),
    "ss_sam": fresh(when=lambda _: AtRandom()),
    "ae_sam": fresh(when=lambda _: LargeGradient()),
    "with_lr": fresh(radius=lambda _: with_lr),
    "cosine": fresh(radius=lambda _: cosine),
    "linear": fresh(radius=lambda _: linear),
    "steps": fresh(ascent_steps=3),
    "gsam": fresh(combination=lambda _: gsam),
    "wsam": fresh(combination=lambda _: wsam),
    "saner": fresh(combination=lambda _: saner),
    "random-hybrid": fresh(ascent_direction=lambda _: RandomDirection(), magnitude="sgd"),
    "last-looksam": fresh(
        ascent_direction=lambda _: LastGradient(), when=lambda _: Every(2, reuse=0.5)
    ),
}

#: Every optimizer that there is, for the contract below.
MAKERS = {
    "descent": lambda model, base, **_: GradientDescent(base),
    **{
        f"sam-{d}-{m}-{granularity}": partial(
            make_sam, direction=d, magnitude=m, granularity=granularity
        )
        for (d, m), granularity in itertools.product(CORNERS, GRANULARITIES)
    },
    "asam": partial(make_sam, ascent=adaptive(0.01)),
    **{f"family-{name}": make for name, make in FAMILY.items()},
    **{
        f"sgdhess-{curvature}": lambda model, base, curvature=curvature, rho=0.3: SGDHess(
            base, rho=rho, curvature=curvature, output=OutputOf(model)
        )
        for curvature in ("hutchinson", "exact", "gauss_newton")
    },
}

every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)

#: Its first step already ascends in its only pass, so that loss and statistics are of w + epsilon.
CLIMBS_AT_ONCE = ("family-random",)
at_w = pytest.mark.parametrize(
    "make",
    [make for name, make in MAKERS.items() if name not in CLIMBS_AT_ONCE],
    ids=[name for name in MAKERS if name not in CLIMBS_AT_ONCE],
)


# ------------------------------------------------------------------ the contract of every optimizer


@every_optimizer
def test_lr_zero_leaves_weights_bit_identical(make):
    model = network(torch.float32)
    before = weights(model)
    train(model, make(model, sgd(model, lr=0.0)), dtype=torch.float32)
    assert_equal(weights(model), before)


@at_w
def test_a_step_moves_weights_and_returns_the_loss_at_w(make):
    model = network()
    batch = next(batches(1))
    expected = loss_of(network(), *batch)
    before = weights(model)
    result = step(model, make(model, sgd(model)), batch)
    assert result.loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert not result.loss.requires_grad
    assert not any(torch.equal(x, y) for x, y in zip(weights(model), before, strict=True))


@every_optimizer
def test_batchnorm_statistics_are_counted_once_per_step(make):
    model = network()
    train(model, make(model, sgd(model)), 3)
    assert model[1].num_batches_tracked == 3


@at_w
def test_batchnorm_statistics_move_once_per_step(make):
    model, reference = network(), network()
    batch = next(batches(1))
    step(model, make(model, sgd(model)), batch)
    reference(batch[0])
    assert_equal(list(model.buffers()), list(reference.buffers()))
    assert model[1].num_batches_tracked == 1


@every_optimizer
def test_zero_gradient_gives_no_nan(make):
    model = network()
    optimizer = make(model, sgd(model))
    images = next(batches(1))[0]
    optimizer.step(lambda: (model(images) * 0).square().sum())
    assert all(w.isfinite().all() for w in weights(model))


@every_optimizer
def test_state_continues_bit_identically(make):
    """Two steps, a state, two more: as four in one go."""
    straight = network(torch.float32)
    train(straight, make(straight, sgd(straight)), 4, torch.float32)

    model = network(torch.float32)
    optimizer = make(model, sgd(model))
    data = list(batches(4, torch.float32))
    for batch in data[:2]:
        step(model, optimizer, batch)
    resumed = network(torch.float32)
    resumed.load_state_dict(model.state_dict())
    other = make(resumed, sgd(resumed))
    other.load_state_dict(optimizer.state_dict())
    for batch in data[2:]:
        step(resumed, other, batch)
    assert_equal(weights(resumed), weights(straight))


@every_optimizer
def test_an_unused_parameter_is_left_alone(make):
    model = network()
    unused = nn.Parameter(torch.ones(3, dtype=F64))
    base = torch.optim.SGD([*model.parameters(), unused], lr=0.1, momentum=0.9, weight_decay=0.1)
    train(model, make(model, base), 1)
    assert torch.equal(unused, torch.ones(3, dtype=F64))


# ------------------------------------------------------------------ reductions


def test_descent_equals_torch_sgd():
    model, reference = network(torch.float32), network(torch.float32)
    train(model, GradientDescent(sgd(model)), dtype=torch.float32)
    optimizer = sgd(reference)
    for batch in batches(4, torch.float32):
        optimizer.zero_grad()
        loss_of(reference, *batch).backward()
        optimizer.step()
    assert_equal(weights(model), weights(reference))


@every_optimizer
def test_rho_zero_equals_sgd_bit_for_bit(make):
    model, reference = network(torch.float32), network(torch.float32)
    train(model, make(model, sgd(model), rho=0.0), dtype=torch.float32)
    train(reference, GradientDescent(sgd(reference)), dtype=torch.float32)
    assert_equal(weights(model), weights(reference))
    assert_equal(list(model.buffers()), list(reference.buffers()))


# ------------------------------------------------------------------ the reference implementation


@pytest.mark.parametrize("adaptive_ascent", [False, True])
@pytest.mark.parametrize("rounding", [1e-12, 1e-5], ids=["norm in float64", "as released"])
def test_sam_equals_pytorch_optimizer_step_for_step(adaptive_ascent, rounding, monkeypatch):
    """Without biases, since pytorch_optimizer's ASAM scales those by abs(w) too."""
    if rounding < 1e-6:
        monkeypatch.setattr(
            "pytorch_optimizer.optimizer.sam.get_global_gradient_norm", float64_norm
        )

    def build():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(36, 16, bias=False), nn.Tanh(), nn.Linear(16, 5, bias=False)
        ).double()

    model, reference = build(), build()
    optimizer = SAM(sgd(model), rho=0.3, ascent=adaptive(0.0) if adaptive_ascent else plain)
    other = pytorch_optimizer.SAM(
        reference.parameters(),
        torch.optim.SGD,
        rho=0.3,
        adaptive=adaptive_ascent,
        lr=0.1,
        momentum=0.9,
        weight_decay=0.01,
    )
    for batch in batches(6):
        step(model, optimizer, batch)
        loss_of(reference, *batch).backward()
        other.first_step(zero_grad=True)
        loss_of(reference, *batch).backward()
        other.second_step(zero_grad=True)
        for mine, theirs in zip(weights(model), weights(reference), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=rounding, atol=rounding * 1e-2)


class ReferenceASAM:
    """The two steps of SamsungLabs/ASAM's ``asam.py`` (Kwon et al. 2021), written anew.

    davda54/sam and pytorch_optimizer, as ``adaptive=True``, are another rule: they scale biases as
    well, and add no eta.
    """

    def __init__(self, base, model, rho, eta):
        self.base, self.named, self.rho, self.eta = base, list(model.named_parameters()), rho, eta

    def scale(self, name, param):
        return param.abs() + self.eta if "weight" in name else torch.ones_like(param)

    @torch.no_grad()
    def ascent_step(self):
        self.kept = [p.clone() for _, p in self.named]
        scales = [self.scale(name, p) for name, p in self.named]
        scaled = [t * p.grad for t, (_, p) in zip(scales, self.named, strict=True)]
        length = sum(s.square().sum() for s in scaled).sqrt() + 1e-16
        for (_, p), t, s in zip(self.named, scales, scaled, strict=True):
            p.add_(self.rho * t * s / length)
        self.base.zero_grad()

    @torch.no_grad()
    def descent_step(self):
        for (_, p), kept in zip(self.named, self.kept, strict=True):
            p.copy_(kept)
        self.base.step()
        self.base.zero_grad()


def test_asam_equals_the_authors_code_step_for_step():
    """Batch norm's scale is a weight to that code."""
    model, reference, matrices = network(), network(), network()
    optimizer = make_sam(model, ascent=adaptive(0.01, named_weights(model)))
    other = make_sam(matrices, ascent=adaptive(0.01))
    theirs = ReferenceASAM(sgd(reference), reference, rho=0.3, eta=0.01)
    for batch in batches(20):
        step(model, optimizer, batch)
        step(matrices, other, batch)
        loss_of(reference, *batch).backward()
        theirs.ascent_step()
        loss_of(reference, *batch).backward()
        theirs.descent_step()
        assert distance(model, reference) < 1e-12
    assert distance(matrices, reference) > 1e-3


# ------------------------------------------------------------------ closed forms on a quadratic


@pytest.fixture
def quadratic():
    """½ wᵀA w with an indefinite symmetric A, in float64."""
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(6, 6, generator=generator, dtype=F64)
    return (a + a.T) / 2, torch.randn(6, generator=generator, dtype=F64)


def one_step(start, make, a, lr=0.1):
    w = nn.Parameter(start.clone())
    optimizer = make(torch.optim.SGD([w], lr=lr))
    result = optimizer.step(lambda: 0.5 * w @ a @ w)
    return w.detach(), result


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("direction", "magnitude"), CORNERS)
def test_quadratic_step(quadratic, direction, magnitude, granularity):
    a, start = quadratic
    g = a @ start
    h = a @ (start + 0.3 * g / (g.norm() + 1e-12))
    x, y = (g if direction == "sgd" else h), (g if magnitude == "sgd" else h)
    d = x.sign() * y.abs() if granularity == "element" else x * (y.norm() / x.norm())
    w, result = one_step(
        start,
        lambda base: SAM(
            base, rho=0.3, direction=direction, magnitude=magnitude, granularity=granularity
        ),
        a,
    )
    torch.testing.assert_close(w, start - 0.1 * d, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(result.grad_clean[0], g, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(result.grad_perturbed[0], h, rtol=1e-13, atol=1e-15)


def test_quadratic_exact_curvature_step(quadratic):
    a, start = quadratic
    w, _ = one_step(start, lambda base: SGDHess(base, rho=0.7, curvature="exact"), a)
    g = a @ start
    torch.testing.assert_close(w, start - 0.1 * (g + 0.7 * a @ g), rtol=1e-13, atol=1e-15)


def test_quadratic_hutchinson_is_exact_for_a_diagonal_hessian(quadratic):
    """For a diagonal H, abs(H z) is abs(diag H) whatever the signs z."""
    _, start = quadratic
    diagonal = torch.tensor([3.0, -2.0, 1.0, 0.5, 0.0, 4.0], dtype=F64)
    w, _ = one_step(start, lambda base: SGDHess(base, rho=0.7), torch.diag(diagonal))
    g = diagonal * start
    expected = start - 0.1 * (g + 0.7 * diagonal.abs() * g)
    torch.testing.assert_close(w, expected, rtol=1e-13, atol=1e-15)


# ------------------------------------------------------------------ SGDHESS


def test_rademacher_draws_take_both_signs_and_depend_on_seed_and_step():
    w = nn.Parameter(torch.ones(1000))
    optimizer = SGDHess(torch.optim.SGD([w], lr=0.1), rho=1.0, seed=5)
    (z,) = optimizer._rademacher([w])
    assert set(z.tolist()) == {-1.0, 1.0}
    assert abs(z.mean().item()) < 0.15
    optimizer.num_steps = 1
    assert not torch.equal(optimizer._rademacher([w])[0], z)
    other = SGDHess(torch.optim.SGD([w], lr=0.1), rho=1.0, seed=6)
    assert not torch.equal(other._rademacher([w])[0], z)


@pytest.mark.parametrize("curvature", ["hutchinson", "gauss_newton"])
def test_curvature_equals_its_dense_matrix(curvature):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, y = torch.randn(10, 4, dtype=F64), torch.randint(0, 3, (10,))
    params = list(model.parameters())
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in params]

    def logits_of(flat):
        parts = [f.view_as(p) for f, p in zip(flat.split(sizes), params, strict=True)]
        return torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (x,))

    flat = torch.cat([p.detach().flatten() for p in params])
    if curvature == "hutchinson":
        matrix = torch.func.hessian(lambda f: nn.functional.cross_entropy(logits_of(f), y))(flat)
    else:
        jacobian = torch.func.jacrev(logits_of)(flat).flatten(0, 1)
        outer = torch.func.hessian(lambda z: nn.functional.cross_entropy(z.view(10, 3), y))(
            logits_of(flat).flatten()
        )
        matrix = jacobian.T @ outer @ jacobian

    optimizer = SGDHess(
        torch.optim.SGD(params, lr=0.1), rho=0.7, curvature=curvature, output=OutputOf(model)
    )
    z = torch.cat([v.flatten() for v in optimizer._rademacher(params)])
    result = optimizer.step(lambda: nn.functional.cross_entropy(model(x), y))
    g = torch.cat([v.flatten() for v in result.grad_clean])
    update = torch.cat([v.flatten() for v in result.update])
    torch.testing.assert_close(update, g + 0.7 * (matrix @ z).abs() * g, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("curvature", ["hutchinson", "gauss_newton", "exact"])
def test_quick_derivatives_give_torchs_curvature(curvature, monkeypatch):
    updates = []
    for quick in (True, False):
        if not quick:
            monkeypatch.setattr(sgdhess, "quick_convolutions", contextlib.nullcontext)
            monkeypatch.setattr(sgdhess, "quick_batch_norms", contextlib.nullcontext)
        model = network()
        optimizer = SGDHess(sgd(model), rho=0.7, curvature=curvature, output=OutputOf(model))
        updates.append(train(model, optimizer, 1)[0].update)
    for quickly, plainly in zip(*updates, strict=True):
        torch.testing.assert_close(quickly, plainly, rtol=1e-9, atol=1e-12)


def test_kernels_are_averaged():
    model = network()
    result = train(model, SGDHess(sgd(model), rho=1.0), 1)[0]
    factor = result.update[0] / result.grad_clean[0] - 1
    torch.testing.assert_close(factor, factor[:, :, :1, :1].expand_as(factor))
    assert factor.std() > 0


def test_gauss_newton_needs_the_output():
    model = network()
    with pytest.raises(ValueError, match="needs output=OutputOf"):
        SGDHess(sgd(model), rho=0.1, curvature="gauss_newton")


def test_output_that_was_not_computed_is_told():
    model, other = network(), network()
    optimizer = SGDHess(sgd(model), rho=0.1, curvature="gauss_newton", output=OutputOf(other))
    with pytest.raises(RuntimeError, match="did not run the module"):
        train(model, optimizer, 1)


# ------------------------------------------------------------------ odds and ends


@pytest.mark.parametrize("rho", [-0.1, float("inf"), float("nan")])
def test_an_impossible_rho_is_told(rho):
    model = network()
    for make in (SAM, SGDHess):
        with pytest.raises(ValueError, match=f"rho={rho}: must be at least 0 and finite"):
            make(sgd(model), rho=rho)


def test_weights_and_statistics_return_when_the_second_pass_fails():
    model, reference = network(), network()
    images = next(batches(1))[0]
    before, calls = weights(model), []
    optimizer = make_sam(model)

    def closure():
        calls.append(1)
        loss = model(images).square().mean()
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return loss

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(closure)
    assert_equal(weights(model), before)
    reference(images)
    assert_equal(list(model.buffers()), list(reference.buffers()))


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_a_fused_base_is_right_whatever_the_gradients_memory_order(base):
    """torch's fused optimizers on a CPU take strides that differ for the same, and are wrong."""
    trained = []
    for fused in (False, True):
        model = network(torch.float32).to(memory_format=torch.channels_last)
        optimizer = GradientDescent(base(model.parameters(), lr=0.1, fused=fused))
        for images, labels in batches(3, torch.float32):
            optimizer.step(partial(_contiguous_gradient_loss, model, images, labels))
        trained.append(weights(model))
    for plainly, fused in zip(*trained, strict=True):
        torch.testing.assert_close(plainly, fused, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("fused", [None, False, True])
def test_a_state_of_a_fused_base_is_taken_up_by_another(base, fused):
    """And the other way round: each stays what it was built as, and takes the same step."""

    def make(*, fused):
        model = network(torch.float32).to(memory_format=torch.channels_last)
        keys = {"momentum": 0.9} if base is torch.optim.SGD else {}
        return model, GradientDescent(base(model.parameters(), lr=0.1, fused=fused, **keys))

    (model, optimizer), (other, resumed) = make(fused=not fused), make(fused=fused)
    first, second = batches(2, torch.float32)
    optimizer.step(partial(_contiguous_gradient_loss, model, *first))
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for network_, taken in ((model, optimizer), (other, resumed)):
        taken.step(partial(_contiguous_gradient_loss, network_, *second))
    assert [group["fused"] for group in resumed.base.param_groups] == [fused]
    for value, expected in zip(weights(other), weights(model), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def _contiguous_gradient_loss(model, images, labels):
    """Its gradient has the contiguous order, for a weight in another."""
    features = nn.functional.conv2d(images, model[0].weight.contiguous(), padding=1)
    return nn.functional.cross_entropy(model[1:](features), labels)


def test_the_perturbation_is_gone_when_the_second_pass_begins():
    """It would be one more copy of all weights beside the activations."""
    model, (images, labels) = network(), next(batches(1))
    ascends, alive = [], []

    def remembered(params, grads, rho):
        epsilon = plain(params, grads, rho)
        ascends.extend(weakref.ref(x) for x in epsilon)
        return epsilon

    def closure():
        alive.append([ref() is not None for ref in ascends])
        return nn.functional.cross_entropy(model(images), labels)

    make_sam(model, ascent=remembered).step(closure)
    assert len(ascends) == len(list(model.parameters()))
    assert not any(alive[1])


def test_frozen_statistics_normalises_with_batch_statistics():
    model, images = network(), next(batches(1))[0]
    expected = model(images)
    before = [b.clone() for b in model.buffers()]
    with frozen_statistics(model):
        torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    assert_equal(list(model.buffers()), before)


def test_frozen_statistics_leaves_eval_mode_to_running_statistics():
    model, images = network(), next(batches(1))[0]
    model(images)
    model.eval()
    expected = model(images)
    with frozen_statistics(model):
        assert torch.equal(model(images), expected)


def test_parameter_groups_keep_their_own_settings():
    model = network()
    base = torch.optim.SGD(
        [
            {"params": model[0].parameters(), "lr": 0.0},
            {"params": [*model[1].parameters(), *model[4].parameters()]},
        ],
        lr=0.1,
    )
    before = weights(model)
    train(model, make_sam(model, base), 1)
    after = weights(model)
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[3], before[3])
