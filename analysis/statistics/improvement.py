"""Probability of improvement: how often a run of one method beats a run of another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import RESAMPLES, STRATIFIED, interval
from analysis.statistics.equality import are_equal, subtract
from analysis.statistics.estimates import Estimate, finite
from analysis.statistics.summary import LEVEL, Floats


def probability_of_improvement(
    ours: Sequence[npt.ArrayLike],
    theirs: Sequence[npt.ArrayLike],
    *,
    higher_is_better: Sequence[bool],
    generator: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    r"""Mean over tasks of the chance that a run of ours is better than one of theirs.

    .. math:: P(X > Y) = \frac{1}{M} \sum_m \frac{1}{N_m K_m} \sum_{i, j} S(x_{m,i}, y_{m,j})

    with ``S`` 1 where x is better, 1/2 where they are equal (``equality``), 0 otherwise: for each
    task the Mann-Whitney statistic divided by the number of pairs. It says how often, not by how
    much.

    Args:
        ours: For each task the results of its runs, ``[runs]``; what is not finite is left out.
        theirs: Likewise, in the same order of tasks; runs need not be as many.
        higher_is_better: Direction of each task.
        generator: Source of the resamples, drawn for each method within each task.
        level: Confidence level.
        resamples: How many.

    Returns:
        The estimate, n the runs of both methods; without a value where a task lacks a method, and
        without an interval where one has fewer than two runs, and where its ends would be equal.

    Raises:
        ValueError: If the numbers of tasks differ.

    Reference:
        Agarwal et al. (2021), arXiv 2108.13264, section 4.3 and appendix A.
    """
    xs, ys = [finite(values) for values in ours], [finite(values) for values in theirs]
    signs = [1.0 if higher else -1.0 for higher in higher_is_better]
    if not len(xs) == len(ys) == len(signs):
        raise ValueError(f"Invalid tasks: {len(xs)}, {len(ys)}, {len(signs)}. Must be as many.")
    strata = [*xs, *ys]
    n = sum(sample.size for sample in strata)
    if not strata or min(sample.size for sample in strata) == 0:
        return Estimate("P(X > Y)", n, None, level=level, method=STRATIFIED)

    def mean_over_tasks(*samples: Floats, axis: int = -1) -> Floats:
        pairs = zip(samples[: len(xs)], samples[len(xs) :], signs, strict=True)
        return np.asarray(np.mean([_task(x, y, sign) for x, y, sign in pairs], axis=0))

    low, high = interval(
        strata, mean_over_tasks, generator=generator, level=level, resamples=resamples
    )
    value = float(mean_over_tasks(*strata))
    return Estimate("P(X > Y)", n, value, low, high, level, STRATIFIED)


def permutation_p(
    ours: Sequence[npt.ArrayLike],
    theirs: Sequence[npt.ArrayLike],
    *,
    higher_is_better: Sequence[bool],
    generator: np.random.Generator,
    resamples: int = RESAMPLES,
) -> float | None:
    """Two-sided p-value that runs of both methods are dealt to them by chance, task by task.

    The statistic is the probability of improvement; its null distribution is that of all ways to
    deal the runs of each task anew, so that of one task without ties it is the exact test of Mann
    and Whitney.

    Args:
        ours: As for ``probability_of_improvement``.
        theirs: Likewise.
        higher_is_better: Direction of each task; over tasks of both a method is not to lose on
            one what it wins on another by its metric alone.
        generator: Source of the deals of a task that has more than ``resamples`` of them.
        resamples: How many are drawn then.

    Returns:
        ``None`` where a task lacks a method, and where no two runs of one method differ
        (``equality``), as these tell no spread.

    Reference:
        Mann and Whitney (1947), On a test of whether one of two random variables is stochastically
        larger than the other; van Elteren (1960) for several tasks.
    """
    pairs = [(finite(x), finite(y)) for x, y in zip(ours, theirs, strict=True)]
    signs = [1.0 if higher else -1.0 for higher in higher_is_better]
    if not pairs or any(not x.size or not y.size for x, y in pairs):
        return None
    if all(are_equal(sample) for pair in pairs for sample in pair):
        return None
    sums: Floats = np.zeros(1)
    shares: Floats = np.ones(1)
    observed = 0.0
    for (x, y), sign in zip(pairs, signs, strict=True):
        from scipy.stats import permutation_test  # as in estimates

        made = permutation_test(
            (x, y),
            partial(_ahead, sign=sign),
            permutation_type="independent",
            n_resamples=resamples,
            vectorized=True,
            axis=-1,
            rng=generator,
        )
        values, counts = np.unique(np.round(made.null_distribution, 12), return_counts=True)
        # Tasks are dealt independently of each other: the distribution of the sum of both.
        both = np.round(np.add.outer(sums, values), 10).ravel()
        weights = np.multiply.outer(shares, counts / counts.sum()).ravel()
        sums, place = np.unique(both, return_inverse=True)
        shares = np.asarray(np.bincount(place.ravel(), weights=weights), dtype=np.float64)
        observed += float(made.statistic)
    half = len(pairs) / 2
    extreme = np.abs(sums - half) >= abs(observed - half) - 1e-8
    return min(1.0, max(float(shares[extreme].sum()), 1 / (resamples + 1)))


def _ahead(x: Floats, y: Floats, axis: int = -1, *, sign: float) -> Floats:
    return _task(np.moveaxis(x, axis, -1), np.moveaxis(y, axis, -1), sign)


def _task(x: Floats, y: Floats, sign: float) -> Floats:
    ahead = sign * subtract(x[..., :, None], y[..., None, :])
    return np.asarray(((ahead > 0) + 0.5 * (ahead == 0)).mean(axis=(-2, -1)))
