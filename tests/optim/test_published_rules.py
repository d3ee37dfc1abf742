"""Published combinations of g and h: their formulas, and what they are at their ends."""

from functools import partial

import pytest
import torch
from optim_tools import (
    F64,
    Quadratic,
    assert_close,
    assert_equal,
    flat,
    make_sam,
    network,
    sgd,
    train,
    unit,
    weights,
)

from samsweep.optim import SAM, GradientDescent, combine, gsam, saner, wsam

RHO, LR = 0.3, 0.1


def trained(optimizer=make_sam, **keys):
    model = network(torch.float32)
    train(model, optimizer(model, **keys), 4, torch.float32)
    return weights(model)


def stablesam(g, h):
    """h · ‖g‖ / ‖h‖ (arXiv 2401.07250), written anew."""
    return h * (g.norm() / h.norm())


BY_HAND = {
    "gsam": (gsam, lambda g, h: h - 0.4 * (g - (g @ h) / (h @ h) * h)),
    "gsam-1": (partial(gsam, alpha=1.0), lambda g, h: h - g + (g @ h) / (h @ h) * h),
    "wsam": (wsam, lambda g, h: g + 9 * (h - g)),
    "wsam-half": (partial(wsam, gamma=0.5), lambda g, h: h),
    "saner": (saner, lambda g, h: torch.where((h / g > 0) & (h / g < 1), h / 2, h)),
    "saner-0": (
        partial(saner, alpha=0.0),
        lambda g, h: torch.where((h / g > 0) & (h / g < 1), 0 * h, h),
    ),
    "stablesam": (
        partial(combine, direction="sam", magnitude="sgd", granularity="global"),
        stablesam,
    ),
}


@pytest.mark.parametrize(("rule", "by_hand"), BY_HAND.values(), ids=BY_HAND)
def test_a_step_is_its_closed_form(rule, by_hand):
    problem = Quadratic()
    optimizer = SAM(torch.optim.SGD(problem.params, lr=LR), rho=RHO, combination=rule)
    w = problem.start
    for t in range(4):
        b = problem.bs[t]
        g = problem.gradient(w, b)
        h = problem.gradient(w + RHO * unit(g), b)
        update = by_hand(g, h)
        result = problem.step(optimizer, t)
        assert_close(flat(result.update), update)
        w = w - LR * update
        assert_close(problem.w, w)


@pytest.mark.parametrize(
    "rule", [partial(gsam, alpha=0.0), partial(saner, alpha=1.0)], ids=["gsam", "saner"]
)
def test_at_one_end_it_is_sam_bit_for_bit(rule):
    assert_equal(trained(combination=rule), trained())


def test_wsam_at_a_half_is_the_gradient_and_its_change_bit_for_bit():
    def summed(g, h):
        return [x + (y - x) for x, y in zip(g, h, strict=True)]

    assert_equal(trained(combination=partial(wsam, gamma=0.5)), trained(combination=summed))


def test_wsam_is_sam_at_a_half_to_rounding_and_sgd_at_0_bit_for_bit():
    for mine, expected in zip(
        trained(combination=partial(wsam, gamma=0.5)), trained(), strict=True
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
    descended = trained(lambda model: GradientDescent(sgd(model)))
    assert_equal(trained(combination=partial(wsam, gamma=0.0)), descended)


@pytest.mark.parametrize("gamma", [-0.1, 1.0, 2.0])
def test_an_impossible_gamma_is_told(gamma):
    with pytest.raises(ValueError, match=f"gamma={gamma}: choose at least 0 and less than 1"):
        wsam([], [], gamma=gamma)


def test_stablesam_is_the_global_hybrid_bit_for_bit():
    rule = partial(combine, direction="sam", magnitude="sgd", granularity="global")
    keys = {"direction": "sam", "magnitude": "sgd", "granularity": "global"}
    assert_equal(trained(combination=rule), trained(**keys))


@pytest.mark.parametrize("rule", [gsam, saner, wsam])
@pytest.mark.parametrize("zero", ["g", "h", "both"])
def test_zero_gradients_give_no_nan(rule, zero):
    g, h = [torch.ones(3, dtype=F64)], [torch.full((3,), 2.0, dtype=F64)]
    if zero != "h":
        g = [torch.zeros(3, dtype=F64)]
    if zero != "g":
        h = [torch.zeros(3, dtype=F64)]
    update = rule(g, h)
    assert all(x.isfinite().all() for x in update)


def test_elements_that_sam_makes_smaller_are_those_between():
    """0 < h / g < 1; at the borders, and where the signs differ or g is 0, it is h."""
    g = [torch.tensor([2.0, 2.0, 2.0, 2.0, 0.0, -2.0, -2.0, 2.0])]
    h = [torch.tensor([1.0, 2.0, 3.0, -1.0, 1.0, -1.0, -3.0, 0.0])]
    (update,) = saner(g, h, alpha=0.25)
    assert torch.equal(update, torch.tensor([0.25, 2.0, 3.0, -1.0, 1.0, -0.25, -3.0, 0.0]))


def test_gsams_orthogonal_part_is_over_all_tensors_together():
    generator = torch.Generator().manual_seed(0)
    g, h = (
        [torch.randn(s, generator=generator, dtype=F64) for s in [(3, 2), (4,)]] for _ in range(2)
    )
    removed = flat(h) - flat(gsam(g, h, alpha=1.0))
    assert float(removed @ flat(h)) == pytest.approx(0, abs=1e-13)
    # h loses a part of g that is orthogonal to h, not a part of h.
    along = flat(g) - removed
    torch.testing.assert_close(unit(along).abs(), unit(flat(h)).abs(), rtol=1e-12, atol=0)
