"""Paired statistics of small samples: intervals, the exact sign-flip test, Holm's correction.

A sample is the values of one contrast, one per seed. Samples come in batches of equal size,
of shape (groups, seeds), since a study has thousands of them and every function works on a batch
at once. All of it is deterministic: what is drawn at random is drawn from a fixed seed, the same
for every sample of a size, so that no sample's numbers depend on the others beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

Array = npt.NDArray[np.float64]

#: Level of the tests.
ALPHA = 0.05
#: Of both kinds of intervals, each on its own: they are not adjusted for their number.
CONFIDENCE = 0.95
#: The least seeds of a BCa interval; with fewer it is too short (SCIENCE 6).
MIN_BCA = 8
#: Bootstrap samples of a BCa interval (Efron & Tibshirani 1993, section 14.3, use 2000).
RESAMPLES = 2_000
#: The most seeds of which all sign patterns are gone through.
MAX_EXACT = 16
#: Sign patterns drawn beyond that.
DRAWN_PATTERNS = 2**16 - 1
#: Two sums of signed values that differ by less than this share of the sum of absolute values
#: differ by rounding, and count as equal.
_ROUNDING = 1e-10
#: Groups treated at a time, times patterns or resamples: 64 MB of sums.
_BATCH = 8_000_000

#: Columns of :func:`describe`.
STATISTICS = ("estimate", "median", "t_low", "t_high", "bca_low", "bca_high", "p")


def describe(samples: Array, *, bootstrap: bool = True) -> dict[str, Array]:
    """All of a batch's statistics.

    Args:
        samples: Of shape (groups, seeds), finite.
        bootstrap: Whether to take BCa intervals, which take most of the time; else they are NaN.

    Returns:
        :data:`STATISTICS`, each of shape (groups,); NaN where there are too few seeds.
    """
    t_low, t_high = t_interval(samples)
    nothing = np.full((2, len(samples)), np.nan)
    bca_low, bca_high = bca_interval(samples) if bootstrap else nothing
    return {
        "estimate": samples.mean(axis=1),
        "median": np.median(samples, axis=1),
        "t_low": t_low,
        "t_high": t_high,
        "bca_low": bca_low,
        "bca_high": bca_high,
        "p": sign_flip_p(samples),
    }


def describe_groups(
    values: Array, groups: npt.NDArray[Any], num_groups: int, *, bootstrap: bool = True
) -> pd.DataFrame:
    """Statistics of samples of different sizes.

    Args:
        values: Of shape (values,), finite.
        groups: The sample of each value, 0 to ``num_groups - 1``.
        num_groups: Number of samples; one without values has n = 0.
        bootstrap: As :func:`describe` takes it.

    Returns:
        ``n`` and :data:`STATISTICS`, a row per sample.
    """
    sizes = np.bincount(groups, minlength=num_groups)
    ordered = values[np.argsort(groups, kind="stable")]
    starts = np.cumsum(sizes) - sizes
    found = {name: np.full(num_groups, np.nan) for name in STATISTICS}
    for size in np.unique(sizes[sizes > 0]):
        members = np.flatnonzero(sizes == size)
        samples = ordered[starts[members, None] + np.arange(size)]
        for name, numbers in describe(samples, bootstrap=bootstrap).items():
            found[name][members] = numbers
    return pd.DataFrame({"n": sizes, **found})


# --------------------------------------------------------------------------- intervals


def t_interval(samples: Array) -> tuple[Array, Array]:
    """Student's interval of the mean of samples of shape (groups, seeds).

    Returns:
        Lower and upper ends, each of shape (groups,); NaN for a single seed, and where all values
        are equal, whose spread says nothing of the next one.
    """
    count = samples.shape[1]
    mean = samples.mean(axis=1)
    if count < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    error = samples.std(axis=1, ddof=1) / math.sqrt(count)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * error
    half = np.where(_all_equal(samples), np.nan, half)
    return mean - half, mean + half


def bca_interval(samples: Array) -> tuple[Array, Array]:
    """The bias-corrected and accelerated bootstrap interval of the mean over whole seeds.

    Efron & Tibshirani 1993, section 14.3, by :func:`scipy.stats.bootstrap`. What is resampled are
    the seeds' numbers; the means of all samples, of shape (groups, seeds), follow by one matrix
    product.

    Returns:
        Lower and upper ends, each of shape (groups,); NaN for fewer than :data:`MIN_BCA` seeds, and
        where all values are equal.
    """
    groups, count = samples.shape
    low, high = np.full(groups, np.nan), np.full(groups, np.nan)
    spread = np.flatnonzero(~_all_equal(samples))
    if count >= MIN_BCA:
        for part in _parts(spread, RESAMPLES):
            low[part], high[part] = _bootstrap(samples[part])
    return low, high


def _bootstrap(samples: Array) -> tuple[Array, Array]:
    count = samples.shape[1]
    centre = samples.mean(axis=1)
    scale = np.abs(samples - centre[:, None]).max(axis=1)
    scaled = (samples - centre[:, None]) / scale[:, None]

    def means(seeds: npt.NDArray[np.intp], axis: int = -1) -> Array:
        """Mean over chosen seeds, of shape (groups, choices)."""
        shares = (np.moveaxis(seeds, axis, -1)[..., None] == np.arange(count)).mean(axis=-2)
        # The interval's bias correction counts ties with the mean, which rounding would break.
        found: Array = np.round(scaled @ shares.T, 12)
        return found

    result = stats.bootstrap(
        (np.arange(count),),
        means,
        vectorized=True,
        method="BCa",
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        rng=np.random.default_rng(0),
    )
    interval = result.confidence_interval
    return centre + scale * interval.low, centre + scale * interval.high


# --------------------------------------------------------------------------- the test


def sign_flip_p(samples: Array) -> Array:
    """The two-sided sign-flip test of a mean of zero.

    The share of the 2^n sign patterns s for which ``abs(sum(s * x)) >= abs(sum(x))``, equal sums
    included; the smallest possible is 2^(1-n). Exact up to :data:`MAX_EXACT` seeds. Beyond,
    :data:`DRAWN_PATTERNS` are drawn, and p = (1 + hits) / (1 + patterns) is that of a Monte Carlo
    test (Phipson & Smyth 2010), as in :func:`scipy.stats.permutation_test`. Samples are of shape
    (groups, seeds), and p of shape (groups,).
    """
    groups, count = samples.shape
    patterns = _sign_patterns(count)
    drawn = count > MAX_EXACT
    p = np.empty(groups)
    for part in _parts(np.arange(groups), len(patterns)):
        some = samples[part]
        least = np.abs(some.sum(axis=1)) - _ROUNDING * np.abs(some).sum(axis=1)
        hits = (np.abs(some @ patterns.T) >= least[:, None]).sum(axis=1)
        p[part] = (hits + drawn) / (len(patterns) + drawn)
    return p


def _sign_patterns(count: int) -> Array:
    """Signs of shape (patterns, count): one of each pair s and -s, whose sums are equal in size."""
    if count > MAX_EXACT:
        bits = np.random.default_rng(0).integers(0, 2, (DRAWN_PATTERNS, count))
    else:
        bits = np.arange(2 ** (count - 1))[:, None] >> np.arange(count) & 1
    signs: Array = (1 - 2 * bits).astype(np.float64)
    return signs


def holm(p: Array) -> Array:
    """Adjust the p of a family of tests, of shape (tests,) (Holm 1979).

    NaN is a test of the family that could not be made: it counts as one that found nothing.
    """
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.fmax.accumulate(factors * p[order]))
    return np.where(np.isnan(p), np.nan, adjusted)


def benjamini_hochberg(p: Array) -> Array:
    """Adjust p so that calling those up to q significant has a false discovery rate of at most q.

    Benjamini & Hochberg 1995, for tests that are independent or positively dependent; by
    :func:`scipy.stats.false_discovery_control`. NaN counts as in :func:`holm`.
    """
    known = np.where(np.isnan(p), 1.0, p)
    adjusted: Array = stats.false_discovery_control(known) if len(p) else known
    return np.where(np.isnan(p), np.nan, adjusted)


def seeds_needed(tests: int) -> int:
    """The least n for which a family of tests can find anything: 1 + log2(tests / 0.05).

    The smallest p of n seeds is 2^(1-n), and the first of Holm's thresholds 0.05 / tests.

    >>> seeds_needed(1), seeds_needed(6)
    (6, 8)
    """
    return math.ceil(1 + math.log2(tests / ALPHA))


# --------------------------------------------------------------------------- batches


def _all_equal(samples: Array) -> npt.NDArray[np.bool_]:
    """Whether a sample's values are equal but for rounding."""
    equal: npt.NDArray[np.bool_] = np.ptp(samples, axis=1) <= _ROUNDING * np.abs(samples).max(
        axis=1
    )
    return equal


def _parts(members: npt.NDArray[np.intp], sums: int) -> Iterator[npt.NDArray[Any]]:
    """The members in parts that are treated at a time, each with so many sums."""
    size = max(1, _BATCH // sums)
    for start in range(0, len(members), size):
        yield members[start : start + size]
