"""The test of paired differences over seeds, and the correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from analysis.statistics.equality import are_equal, subtract
from analysis.statistics.summary import Floats, moments


@dataclass(frozen=True)
class Pairs:
    """The results of two methods over the seeds that both have with a finite value.

    Attributes:
        seeds: The common seeds, ascending.
        ours: Result of each, ``[n]``.
        theirs: Likewise, of the method compared with.
    """

    seeds: list[int]
    ours: Floats
    theirs: Floats

    @property
    def differences(self) -> Floats:
        """``ours - theirs``, exactly 0 where both are equal, ``[n]``."""
        return subtract(self.ours, self.theirs)

    @property
    def spread(self) -> bool:
        """Whether the differences are not all equal, so that they tell how much they scatter."""
        return not are_equal(self.differences, of=(self.ours, self.theirs))


def pairs_of(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Pairs:
    """Pair the results of two methods by seed."""
    common = [
        seed
        for seed in sorted(set(ours) & set(theirs))
        if math.isfinite(ours[seed]) and math.isfinite(theirs[seed])
    ]
    x, y = ([float(of[seed]) for seed in common] for of in (ours, theirs))
    return Pairs(common, np.array(x, dtype=np.float64), np.array(y, dtype=np.float64))


def student(pairs: Pairs) -> float | None:
    """Test by the paired t-test, both sides, that the differences have mean zero.

    It takes the differences for normal.

    Returns:
        The p-value; ``None`` where all differences are equal, as they then tell no spread.

    Reference:
        Student (1908), The probable error of a mean, Biometrika 6.
    """
    if not pairs.spread:
        return None
    n, mean, std, _, _ = moments(pairs.differences)
    return float(2 * stdtr(n - 1, -np.abs(mean) / (std / np.sqrt(n))))


def holm(p_values: Sequence[float | None], *, tests: int | None = None) -> list[float | None]:
    """Correct p-values of one family of tests by Holm's step-down.

    The i-th smallest of m becomes ``max over j <= i of min(1, (m - j + 1) p_(j))``: the chance of
    any false finding is then at most the level, however the tests depend on each other.

    Args:
        p_values: One a test; ``None`` for what could not be tested.
        tests: m, where it is not the number of those that could be tested.

    Returns:
        The adjusted ones, in the same order.

    Reference:
        Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    family = len(tested) if tests is None else tests
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(tested):
        running = max(running, min(1.0, (family - rank) * p))
        adjusted[index] = running
    return adjusted
