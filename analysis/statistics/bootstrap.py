"""Percentile bootstrap of a sample, and of several tasks' samples; of curves it is in ``bands``.

With few seeds it is too narrow: n values have few distinct resamples, and their spread is by
``sqrt((n - 1) / n)`` too small. Decisions over few seeds are better left to ``paired``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analysis.statistics.equality import are_equal
from analysis.statistics.estimates import STATISTICS, Estimate, Statistic, check_level, finite
from analysis.statistics.summary import LEVEL, Floats

RESAMPLES = 9999
BATCH = 500
METHOD = "percentile bootstrap"
STRATIFIED = f"{METHOD}, stratified over tasks"


def bootstrap(
    values: npt.ArrayLike,
    statistic: str = "mean",
    *,
    generator: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate a statistic of one sample with a percentile interval.

    ``[q((1 - level) / 2), q((1 + level) / 2)]`` of the statistic over resamples with replacement.

    Args:
        values: ``[n]``; what is not finite is left out.
        statistic: One of ``STATISTICS``.
        generator: Source of the resamples.
        level: Confidence level.
        resamples: How many.

    Returns:
        The estimate; without an interval for n < 2, and where its ends would be equal.

    Raises:
        ValueError: If ``level`` or ``statistic`` is invalid.

    Reference:
        Efron (1979), Bootstrap methods: another look at the jackknife, Annals of Statistics 7.
    """
    function = _statistic(statistic)
    sample = finite(values)
    value = float(function(sample)) if sample.size else None
    low, high = interval([sample], function, generator=generator, level=level, resamples=resamples)
    return Estimate(statistic, sample.size, value, low, high, level, METHOD)


def stratified(
    tasks: Sequence[npt.ArrayLike],
    statistic: str = "interquartile mean",
    *,
    generator: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate an aggregate of normalised scores over all runs of all tasks.

    Runs are resampled within each task, so that every resample has each task as often as the data.

    Args:
        tasks: For each task its runs' scores, ``[runs]``; what is not finite is left out.
        statistic: One of ``STATISTICS``, taken over the runs of all tasks together.
        generator: Source of the resamples.
        level: Confidence level.
        resamples: How many.

    Returns:
        The estimate, n the number of runs; without an interval where a task has fewer than two,
        and where its ends would be equal.

    Raises:
        ValueError: If ``level`` or ``statistic`` is invalid.

    Reference:
        Agarwal et al. (2021), arXiv 2108.13264, section 4.1.
    """
    function = _statistic(statistic)
    strata = [finite(scores) for scores in tasks]
    pooled = np.concatenate(strata) if strata else np.empty(0)
    value = float(function(pooled)) if pooled.size else None

    def of_all(*parts: Floats, axis: int = -1) -> Floats:
        return function(np.concatenate(parts, axis=axis), axis=axis)

    low, high = interval(strata, of_all, generator=generator, level=level, resamples=resamples)
    return Estimate(statistic, pooled.size, value, low, high, level, STRATIFIED)


def interval(
    strata: Sequence[Floats],
    statistic: Statistic,
    *,
    generator: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> tuple[float | None, float | None]:
    """Percentile interval of a function of independent samples, each resampled by itself.

    Args:
        strata: Samples, ``[n]`` each.
        statistic: Of as many arrays ``[..., n]``, and the axis to reduce.
        generator: Source of the resamples.
        level: Confidence level.
        resamples: How many.

    Returns:
        Both ends; ``None`` where a sample has fewer than two values, as it cannot vary, where none
        does vary, and where the statistic does not, as for runs that are all ahead of all others:
        an interval without width would be certainty.
    """
    check_level(level)
    if not strata or min(sample.size for sample in strata) < 2 or all(map(are_equal, strata)):
        return None, None
    low, high = _percentiles(tuple(strata), statistic, generator, level, resamples)
    return (None, None) if are_equal([low, high]) else (float(low), float(high))


def _percentiles(
    samples: tuple[Floats, ...],
    statistic: Statistic,
    generator: np.random.Generator,
    level: float,
    resamples: int,
) -> tuple[Floats, Floats]:
    """Interval of a statistic of samples ``[..., n]``, each resampled by itself."""
    from scipy.stats import bootstrap as resampled  # as in estimates

    result = resampled(
        samples,
        statistic,
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        axis=-1,
        confidence_level=level,
        method="percentile",
        rng=generator,
    )
    return result.confidence_interval.low, result.confidence_interval.high


def _statistic(name: str) -> Statistic:
    if name not in STATISTICS:
        raise ValueError(f"Invalid statistic: {name}. Must be one of: {', '.join(STATISTICS)}.")
    return STATISTICS[name]
