"""How many seeds a difference asks for: the power of Student's t-tests."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import nctdtr, stdtrit

from analysis.statistics.estimates import check_level
from analysis.statistics.summary import LEVEL

POWER = 0.8
MOST = 10_000
"""Beyond so many seeds the answer is that no affordable number tells the difference."""


def power(
    difference: float, std: float, n: int, *, paired: bool = True, level: float = LEVEL
) -> float:
    r"""Chance that a two-sided t-test of ``n`` seeds finds a true difference.

    .. math:: P(|T| > t_{(1 + level)/2, \nu}), \quad T \sim t_\nu(\delta)

    with ``nu = n - 1`` and ``delta = difference / std * sqrt(n)`` for pairs; ``nu = 2 n - 2`` and
    ``delta = difference / std * sqrt(n / 2)`` for two samples of ``n`` each.

    Args:
        difference: Between the true means.
        std: Of the paired differences; of either sample, if not paired.
        n: Seeds of each method.
        paired: Whether both methods have the same seeds.
        level: One minus the size of the test.

    Returns:
        The power; 0 for n < 2.

    Raises:
        ValueError: If ``std`` is not positive.

    Reference:
        Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, chapter 2.
    """
    check_level(level)
    if not std > 0:
        raise ValueError(f"Invalid std: {std}. Must be > 0.")
    if n < 2:
        return 0.0
    freedom = n - 1 if paired else 2 * n - 2
    shift = abs(difference) / std * math.sqrt(n if paired else n / 2)
    critical = float(stdtrit(freedom, (1 + level) / 2))
    above = 1.0 - nctdtr(freedom, shift, critical)
    below = nctdtr(freedom, shift, -critical)
    # scipy gives NaN where a tail of a far shifted distribution falls out of floating point.
    return float(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below, nan=0.0))


def seeds_needed(
    difference: float,
    std: float,
    *,
    paired: bool = True,
    level: float = LEVEL,
    target: float = POWER,
) -> int | None:
    """Fewest seeds of each method with which a t-test finds a difference with ``target`` power.

    Args:
        difference: Between the true means.
        std: As for ``power``.
        paired: Whether both methods have the same seeds.
        level: One minus the size of the test.
        target: Power asked for.

    Returns:
        The number, at least 2; ``None`` if it is beyond ``MOST``.
    """
    if power(difference, std, MOST, paired=paired, level=level) < target:
        return None
    low, high = 1, MOST
    while high - low > 1:  # power grows with n
        middle = (low + high) // 2
        if power(difference, std, middle, paired=paired, level=level) < target:
            low = middle
        else:
            high = middle
    return high
