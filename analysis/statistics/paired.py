"""Tests of paired differences over seeds, and the correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.stats

from analysis.aggregate import Floats
from analysis.statistics.estimates import finite, mean

EXACT_SEEDS = 16
"""Up to so many seeds all sign flips are enumerated, beyond they are drawn."""

FLIPS = 99_999
SIGN_FLIP = "sign-flip permutation test"


@dataclass(frozen=True)
class PairedTest:
    """A two-sided test that paired differences have mean zero.

    Attributes:
        test: Its name, with how the null distribution was had.
        n: Pairs.
        p: Its p-value; ``None`` where it cannot be had, as for n < 2.
        smallest_p: Smallest that any differences of this number can reach.
    """

    test: str
    n: int
    p: float | None
    smallest_p: float


def paired_differences(
    ours: Mapping[int, float], theirs: Mapping[int, float]
) -> tuple[list[int], Floats]:
    """Subtract over the seeds that both have with a finite value.

    Returns:
        The common seeds, ascending, and ``ours - theirs`` of each, ``[n]``.
    """
    common = [
        seed
        for seed in sorted(set(ours) & set(theirs))
        if math.isfinite(ours[seed]) and math.isfinite(theirs[seed])
    ]
    return common, np.array([ours[seed] - theirs[seed] for seed in common], dtype=np.float64)


def sign_flip(
    differences: npt.ArrayLike, *, generator: np.random.Generator | None = None
) -> PairedTest:
    """Test by flipping signs: if methods are exchangeable, each difference may have either sign.

    ``p`` is the share of the ``2^n`` sign patterns whose mean is as far from zero as the observed
    one, both sides. It needs no normal distribution, but with n seeds cannot fall below
    ``2 / 2^n``: 6 seeds are the fewest that reach 5 %.

    Args:
        differences: ``[n]``; what is not finite is left out.
        generator: Source of the patterns beyond ``EXACT_SEEDS`` seeds.

    Raises:
        ValueError: If a generator is needed and not given.

    Reference:
        Fisher (1935), The Design of Experiments, section 21.
    """
    sample = finite(differences)
    exact = sample.size <= EXACT_SEEDS
    name = f"{SIGN_FLIP}, " + ("exact" if exact else f"{FLIPS} patterns drawn")
    smallest = min(1.0, 2.0 / 2**sample.size if exact else 2.0 / (FLIPS + 1))
    if sample.size < 2:
        return PairedTest(name, sample.size, None, smallest)
    if not exact and generator is None:
        raise ValueError(f"A generator is needed beyond {EXACT_SEEDS} seeds: {sample.size} given.")
    result = scipy.stats.permutation_test(
        (sample,),
        mean,
        permutation_type="samples",
        n_resamples=np.inf if exact else FLIPS,
        batch=4096,
        vectorized=True,
        axis=-1,
        rng=generator,
    )
    return PairedTest(name, sample.size, float(result.pvalue), smallest)


def student(differences: npt.ArrayLike) -> PairedTest:
    """Test by Student's t, which takes the differences for normal.

    Args:
        differences: ``[n]``; what is not finite is left out.

    Returns:
        The test; without a p-value where all differences are equal, as they then tell no spread.

    Reference:
        Student (1908), The probable error of a mean, Biometrika 6.
    """
    sample = finite(differences)
    if sample.size < 2 or np.ptp(sample) == 0:
        return PairedTest("paired t-test", sample.size, None, 0.0)
    p = float(scipy.stats.ttest_1samp(sample, 0.0).pvalue)
    return PairedTest("paired t-test", sample.size, p, 0.0)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values of one family of tests by Holm's step-down.

    The i-th smallest of m becomes ``max over j <= i of min(1, (m - j + 1) p_(j))``: the chance of
    any false finding is then at most the level, however the tests depend on each other.

    Args:
        p_values: One a test; ``None`` for what could not be tested, which is no part of m.

    Returns:
        The adjusted ones, in the same order.

    Reference:
        Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, index) in enumerate(tested):
        running = max(running, min(1.0, (len(tested) - rank) * p))
        adjusted[index] = running
    return adjusted
