"""A comparison that is looked at several times: paired t-tests at looks that were fixed before.

At each look the t of the paired differences is turned into the z of the same p-value, and that is
held against a bound of O'Brien and Fleming's form. Held against it directly, t errs three times as
often as it may; even the z of t meet the bounds of normal ones a little too often, as the t of
several looks hang together less than normal z do: ``EXCESS`` makes up for it. How often the rule
errs is seen in ``sequential_simulation``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from analysis.statistics.equality import RELATIVE, are_equal
from analysis.statistics.summary import LEVEL, Floats
from experiments.records.verdict import LOOKS

SIZE = (1 - LEVEL) / 2
"""Chance of a false claim in one direction, over all looks together."""

EXCESS = 1.08
"""How many times as often as normal z those of paired t meet a bound at ``LOOKS``, at most.

By simulation, 8 million comparisons, for any chance from 0.001 to 0.1.
"""

_NODES, _WIDTH = 192, 8.5


def crossing(constant: float, looks: Sequence[int] = LOOKS) -> float:
    r"""Chance that a normal z meets the bounds of a constant at any look, where nothing differs.

    .. math:: P(\exists k: Z_k \ge C \sqrt{n_K / n_k}),
        \quad \mathrm{corr}(Z_j, Z_k) = \sqrt{n_j / n_k}

    by integrating the density of those that have not met one, look by look.

    Args:
        constant: C, the bound of the last look.
        looks: Seeds at each, ascending.

    Returns:
        The chance, to 1e-12; 0 for less.

    Reference:
        Armitage, McPherson & Rowe (1969), Repeated significance tests on accumulating data, JRSS A
        132; O'Brien & Fleming (1979), A multiple testing procedure for clinical trials,
        Biometrics 35.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    bound = constant * math.sqrt(looks[-1])  # of the sum of the differences: at every look the same
    before, mass = np.zeros(1), np.ones(1)
    for added, n in zip(np.diff([0, *looks]), looks, strict=True):
        low = min(-_WIDTH * math.sqrt(n), bound - 1.0)
        half = (bound - low) / 2
        at = low + half * (nodes + 1)
        step = (at[:, None] - before) / math.sqrt(added)
        density = np.exp(-(step**2) / 2) @ mass / math.sqrt(2 * math.pi * added)
        before, mass = at, density * weights * half
    return max(0.0, float(1 - mass.sum()))


@cache
def bounds(looks: tuple[int, ...] = LOOKS, size: float = SIZE / EXCESS) -> tuple[float, ...]:
    """Give the bound of z at each look, met in one direction with the chance ``size``.

    Args:
        looks: Seeds at each, ascending.
        size: Of normal z; between 0 and 1/2.
    """
    last = brentq(lambda constant: crossing(constant, looks) - size, 0.0, 10.0, xtol=1e-10)
    return tuple(float(last * math.sqrt(looks[-1] / n)) for n in looks)


def z_scores(differences: npt.ArrayLike) -> Floats:
    """Turn the paired t of the first n differences, for each look, into z of the same p-value.

    Args:
        differences: ``[..., seeds]``, in the order in which they were made; finite.

    Returns:
        ``[..., looks]``, without the looks that have not come; 0 where all differences so far are
        equal, as these tell no spread.
    """
    array = np.asarray(differences, dtype=np.float64)
    found = []
    for n in (n for n in LOOKS if n <= array.shape[-1]):
        t = student_t(array[..., :n])
        # By the nearer tail: the other one ends at one.
        found.append(-np.sign(t) * ndtri(stdtr(n - 1, -np.abs(t))))
    return np.stack(found, axis=-1) if found else np.empty((*array.shape[:-1], 0))


def student_t(differences: Floats) -> Floats:
    """Student's t along the last axis; 0 where all differences are equal."""
    n = differences.shape[-1]
    mean, spread = differences.mean(axis=-1), differences.std(axis=-1, ddof=1)
    equal = spread <= RELATIVE * np.abs(differences).max(axis=-1)
    return np.asarray(np.where(equal, 0.0, mean / np.where(equal, 1.0, spread) * math.sqrt(n)))


def p_value(z: Sequence[float] | Floats) -> float:
    """Give the smallest size at which the bounds have been met so far, in the direction of plus.

    Over the looks it only falls, and where nothing differs it is below any size with that chance at
    most; so it can be corrected for several tasks at any look.

    Args:
        z: At the looks so far.

    Returns:
        The p-value; 1 where no z is above 0.
    """
    met = max(
        (float(one) * math.sqrt(n / LOOKS[-1]) for one, n in zip(z, LOOKS, strict=False)),
        default=0.0,
    )
    return min(1.0, EXCESS * crossing(met)) if met > 0 else 1.0


@dataclass(frozen=True)
class Look:
    """What one look saw.

    Attributes:
        n: Seeds.
        difference: Mean paired difference; what is better is positive.
        std: Their sample standard deviation.
        z: Of the paired t.
        bound: That z is held against, in either direction.
        low: Lower end of the repeated interval, which at all looks together holds the true
            difference with the chance ``LEVEL``; None where all differences are equal.
        high: Its upper end.

    Reference:
        Jennison & Turnbull (1989), Interim analyses: the repeated confidence interval approach,
        JRSS B 51.
    """

    n: int
    difference: float
    std: float
    z: float
    bound: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Looked:
    """The looks at one comparison so far, and its p-values.

    Attributes:
        looks: So far.
        p: Of a difference in either direction: the smaller of the two one-sided ones, doubled.
        is_better: Whether it is that of a positive difference.
        p_within: That the true difference is as large as the margin; None without one.
    """

    looks: tuple[Look, ...]
    p: float
    is_better: bool
    p_within: float | None


def look(differences: npt.ArrayLike, *, margin: float | None = None) -> Looked:
    """Look at the paired differences so far.

    Args:
        differences: ``[seeds]``, in the order of the seeds, better is positive.
        margin: A difference of which, typed before, it is asked whether the true one is smaller.

    Reference:
        Of the margin: Schuirmann (1987), two one-sided tests, J. Pharmacokinetics and
        Biopharmaceutics 15.
    """
    array = np.asarray(differences, dtype=np.float64)
    scores = z_scores(array)
    found = []
    for n, bound, z in zip(LOOKS, bounds(), scores, strict=False):
        mean, spread = float(array[:n].mean()), float(array[:n].std(ddof=1))
        half = float(stdtrit(n - 1, ndtr(bound))) * spread / math.sqrt(n)
        low, high = (None, None) if are_equal(array[:n]) else (mean - half, mean + half)
        found.append(Look(n, mean, spread, float(z), bound, low, high))
    better, worse = p_value(scores), p_value(-scores)
    within = None
    if margin is not None:
        within = max(p_value(z_scores(margin + sign * array)) for sign in (1, -1))
    both = min(1.0, 2 * min(better, worse))
    return Looked(tuple(found), both, better < worse, within and min(1.0, 2 * within))
