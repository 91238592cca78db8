"""Probability of improvement: how often a run of one method beats a run of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analysis.aggregate import LEVEL, Floats
from analysis.statistics.bootstrap import RESAMPLES, STRATIFIED, interval
from analysis.statistics.estimates import Estimate, finite


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

    with ``S`` 1 where x is better, 1/2 where they are equal, 0 otherwise: for each task the
    Mann-Whitney statistic divided by the number of pairs. It says how often, not by how much.

    Args:
        ours: For each task the results of its runs, ``[runs]``; what is not finite is left out.
        theirs: Likewise, in the same order of tasks; runs need not be as many.
        higher_is_better: Direction of each task.
        generator: Source of the resamples, drawn for each method within each task.
        level: Confidence level.
        resamples: How many.

    Returns:
        The estimate, n the runs of both methods; without a value where a task lacks a method, and
        without an interval where one has fewer than two runs.

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


def _task(x: Floats, y: Floats, sign: float) -> Floats:
    ahead = sign * (x[..., :, None] - y[..., None, :])
    return np.asarray(((ahead > 0) + 0.5 * (ahead == 0)).mean(axis=(-2, -1)))
