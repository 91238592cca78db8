"""Bands over seeds: the percentile bootstrap of the mean, at each point of a curve.

Values are ``[seeds, points]``, NaN where a seed has no value.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement
from math import ceil, factorial, prod

import numpy as np
import numpy.typing as npt

from analysis.statistics.summary import LEVEL, Floats, moments

RESAMPLES = 1000
MOST_EXACT = 7  # seeds: 1,716 different resamples; of more seeds RESAMPLES random ones are taken
BAND = (
    f"pointwise {LEVEL:.0%} percentile bootstrap interval of the mean over seeds (the range of two "
    "or three seeds), none where n = 1"
)


def bootstrap(
    values: npt.ArrayLike, *, level: float = LEVEL, seed: int = 0
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Reduce over seeds: n, mean, std and a percentile bootstrap interval of the mean.

    The interval holds the ``(1 - level) / 2`` and ``(1 + level) / 2`` quantiles of the mean of n
    seeds drawn with replacement. Up to ``MOST_EXACT`` seeds it is taken over all resamples.

    Args:
        values: ``[seeds, points]``; a seed counts only at the points where it has a value.
        level: Confidence level, between 0 and 1.
        seed: Of the random resamples, where there are more than ``MOST_EXACT`` seeds.

    Returns:
        As ``summary.moments``, each ``[points]``; std and interval are NaN where n < 2.

    Reference:
        Efron (1979), Bootstrap methods: another look at the jackknife.
    """
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    n, mean, std, _, _ = moments(array, level=level)
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    present = ~np.isnan(array)
    patterns, pattern_of = np.unique(present, axis=1, return_inverse=True)
    for index, pattern in enumerate(patterns.T):  # few: curves end, they seldom have holes
        if pattern.sum() > 1:
            points = pattern_of.ravel() == index
            part = array[np.ix_(pattern, points)]
            low[points], high[points] = _interval(part, level=level, seed=seed)
    return n, mean, std, low, high


def _interval(values: Floats, *, level: float, seed: int) -> tuple[Floats, Floats]:
    """Quantiles of the resampled means: the least mean that so many resamples do not exceed."""
    shares, times = _resamples(len(values), seed)
    means = values.T @ shares.T
    wanted = [(1 - level) / 2 * times.sum() - 1e-9, (1 + level) / 2 * times.sum() - 1e-9]
    if times.max() == 1:  # then the place is the same at every point, and a partial sort will do
        places = [max(0, ceil(count) - 1) for count in wanted]
        low, high = np.partition(means, places, axis=1)[:, places].T
        return low, high
    order = np.argsort(means, axis=1)
    below = np.cumsum(times[order], axis=1)
    ordered = np.take_along_axis(means, order, axis=1)
    low, high = (
        np.take_along_axis(ordered, np.argmax(below >= count, axis=1)[:, None], axis=1)[:, 0]
        for count in wanted
    )
    return low, high


@cache
def _resamples(n: int, seed: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Each resample's share of every seed, ``[resamples, n]``, and how often it comes up."""
    if n > MOST_EXACT:
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        return drawn / n, np.ones(RESAMPLES, dtype=np.int64)
    chosen = combinations_with_replacement(range(n), n)
    counts = np.array([np.bincount(pick, minlength=n) for pick in chosen])
    times = [factorial(n) // prod(factorial(int(count)) for count in row) for row in counts]
    return counts / n, np.array(times, dtype=np.int64)
