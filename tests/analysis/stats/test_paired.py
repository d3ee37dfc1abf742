"""Intervals, the sign-flip test and Holm's correction: by hand, by scipy, and by simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from multirun_analysis.stats.paired import (
    ALPHA,
    MAX_EXACT,
    MIN_BCA,
    RESAMPLES,
    bca_interval,
    describe,
    describe_groups,
    holm,
    seeds_needed,
    sign_flip_p,
    t_interval,
)


def _samples(groups: int, seeds: int, *, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, (groups, seeds))


# --------------------------------------------------------------------------- sign flips


def test_sign_flips_counted_by_hand() -> None:
    # Sums of the 8 patterns of (1, 2, 4): ±7, ±5, ±3, ±1. Only ±7 reach 7: 2/8.
    # (1, 2, -4) sums to -1: all 8 reach 1. (1, -1, 1): 1 is reached by 8 of 8 (±3, ±1).
    p = sign_flip_p(np.array([[1.0, 2.0, 4.0], [1.0, 2.0, -4.0], [1.0, -1.0, 1.0]]))
    assert p.tolist() == [2 / 8, 1.0, 1.0]


def test_the_smallest_p_is_two_patterns_of_all() -> None:
    for seeds in range(1, 11):
        assert sign_flip_p(np.ones((1, seeds))) == [2.0 ** (1 - seeds)]


def test_sign_flips_equal_a_count_in_rational_numbers() -> None:
    # Tenths, whose sums tie exactly in rationals and only nearly in floating point.
    rng = np.random.default_rng(1)
    tenths = rng.integers(-4, 8, (40, 7))
    for row, p in zip(tenths, sign_flip_p(tenths / 10), strict=True):
        values = [Fraction(int(value), 10) for value in row]
        sums = [
            sum(sign * value for sign, value in zip(signs, values, strict=True))
            for signs in itertools.product((1, -1), repeat=7)
        ]
        hits = sum(abs(total) >= abs(sum(values)) for total in sums)
        assert p == hits / 2**7


def test_sign_flips_equal_scipys_permutation_test() -> None:
    samples = _samples(20, 9, mean=0.5)
    for row, p in zip(samples, sign_flip_p(samples), strict=True):
        theirs = stats.permutation_test(
            (row,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert p == pytest.approx(theirs.pvalue, rel=1e-12)


def test_rounding_breaks_no_tie() -> None:
    # 0.1 + 0.2 - 0.3 is 5.6e-17 in floating point and zero in truth: every pattern reaches it.
    assert sign_flip_p(np.array([[0.1, 0.2, -0.3]])) == [1.0]
    assert sign_flip_p(np.zeros((1, 8))) == [1.0]


def test_many_seeds_draw_patterns_and_come_near_the_exact_p() -> None:
    seeds = MAX_EXACT + 1
    # The sum of n signs is at least k in size with a binomial probability.
    values = np.ones((2, seeds))
    values[0, : seeds // 2] = -1
    values[1, :3] = -1
    for row, p in zip(values, sign_flip_p(values), strict=True):
        least = abs(row.sum())
        ups = np.arange(seeds + 1)
        exact = stats.binom.pmf(ups, seeds, 0.5)[np.abs(2 * ups - seeds) >= least].sum()
        # Four standard errors of 65,535 draws.
        assert abs(p - exact) < 4 * math.sqrt(exact * (1 - exact) / 2**16) + 2**-16
    assert 0 < sign_flip_p(np.ones((1, 60)))[0] < 2**-15, "never zero"


# --------------------------------------------------------------------------- intervals


def test_the_t_interval_by_hand() -> None:
    # Mean 2, sd 1, n = 3: 2 ± t(0.975, 2) / sqrt(3), t = 4.302653.
    low, high = t_interval(np.array([[1.0, 2.0, 3.0]]))
    assert (low[0], high[0]) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_an_interval_needs_two_seeds_that_differ() -> None:
    one, equal = np.array([[0.3]]), np.full((1, 9), 0.1)
    for interval in (t_interval, bca_interval):
        for samples in (one, equal):
            assert np.isnan(interval(samples)).all()


def test_bca_intervals_are_scipys_one_sample_at_a_time() -> None:
    assert np.isnan(bca_interval(_samples(3, MIN_BCA - 1))).all()
    samples = _samples(5, MIN_BCA)
    low, high = bca_interval(samples)
    for row, ends in zip(samples, zip(low, high, strict=True), strict=True):
        found = stats.bootstrap(
            (row,),
            # Rounded, so that resamples of all seeds in another order tie with the mean.
            lambda values, axis: np.round(values.mean(axis=axis), 12),
            method="BCa",
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert ends == pytest.approx((found.low, found.high), abs=1e-11)


def test_a_samples_numbers_do_not_depend_on_the_others() -> None:
    samples = _samples(6, 10)
    samples[2] = 0.25
    together = describe(samples)
    alone = describe(samples[4:5])
    for name, numbers in together.items():
        assert numbers[4] == pytest.approx(alone[name][0], rel=1e-12)
    assert np.isnan(together["bca_low"][2]) and together["p"][2] == 2**-9


def test_groups_of_different_sizes() -> None:
    values = np.array([1.0, 5.0, 3.0, 2.0, 9.0, 7.0])
    groups = np.array([0, 3, 0, 0, 3, 1])
    found = describe_groups(values, groups, 4)
    assert found["n"].tolist() == [3, 1, 0, 2]
    assert found["estimate"].fillna(-1).tolist() == [2.0, 7.0, -1, 7.0]
    assert found["median"].fillna(-1).tolist() == [2.0, 7.0, -1, 7.0]
    assert found["p"].fillna(-1).tolist() == [0.25, 1.0, -1, 0.5]
    assert describe_groups(np.empty(0), np.empty(0, dtype=int), 0).empty


# --------------------------------------------------------------------------- families


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.6 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.6.
    assert holm(np.array([0.03, 0.01, 0.6, 0.02])) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    # Never above 1, and never below a smaller p's.
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]


def test_a_test_that_could_not_be_made_counts() -> None:
    adjusted = holm(np.array([np.nan, 0.01, 0.02]))
    assert np.isnan(adjusted[0]) and adjusted[1:] == pytest.approx([0.03, 0.04])


def test_the_seeds_that_a_family_needs() -> None:
    # 1 + log2(m / 0.05): 5.3 for one test, 7.9 for six, 9.9 for 24.
    assert [seeds_needed(m) for m in (1, 2, 3, 6, 12, 24)] == [6, 7, 7, 8, 9, 10]
    for m in range(1, 200):
        assert m * 2.0 ** (1 - seeds_needed(m)) <= ALPHA < m * 2.0 ** (2 - seeds_needed(m))


# --------------------------------------------------------------------------- simulation


def _within(hits: int, studies: int, rate: float, sds: float = 4.0) -> bool:
    """Whether a count is within so many binomial standard deviations of what a rate gives."""
    return abs(hits - studies * rate) <= sds * math.sqrt(studies * rate * (1 - rate))


def _level_and_coverage(studies: int, seeds: int) -> None:
    samples = _samples(studies, seeds, mean=0.0, seed=2)
    low, high = t_interval(samples)
    assert _within(int(((low < 0) & (high > 0)).sum()), studies, 0.95)
    # Of the 2^(n-1) equally likely p-values, the share at or below 0.05 is known exactly.
    level = math.floor(ALPHA * 2 ** (seeds - 1)) / 2 ** (seeds - 1)
    assert level <= ALPHA
    assert _within(int((sign_flip_p(samples) <= ALPHA).sum()), studies, level)


def test_t_intervals_cover_and_the_test_holds_its_level() -> None:
    _level_and_coverage(4_000, 8)


def test_bca_intervals_cover_a_skewed_mean_less_than_asked_for_but_not_far() -> None:
    # With few seeds a bootstrap is too short, which is why it stands beside t and not in its place.
    samples = np.random.default_rng(3).exponential(1.0, (1_500, 10))
    low, high = bca_interval(samples)
    coverage = ((low < 1) & (high > 1)).mean()
    assert 0.84 < coverage < 0.95


def test_a_family_under_the_null_rejects_at_most_as_often_as_asked_for() -> None:
    families = 1_500
    p = sign_flip_p(_samples(families * 6, 10, seed=4)).reshape(families, 6)
    rejecting = sum(bool((holm(row) <= ALPHA).any()) for row in p)
    assert rejecting <= families * ALPHA + 4 * math.sqrt(families * ALPHA * (1 - ALPHA))
    assert rejecting > families * ALPHA / 2, "and is not silent"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [6, 8, 10, 13])
def test_level_and_coverage_in_a_large_simulation(seeds: int) -> None:
    _level_and_coverage(200_000, seeds)
