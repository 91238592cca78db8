"""Speed-up to a target: how much sooner a method reaches a value than a baseline does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.statistics.bootstrap import METHOD, RESAMPLES
from analysis.statistics.equality import are_equal, subtract
from analysis.statistics.estimates import check_level
from analysis.statistics.summary import LEVEL, Floats

EXACT, AT_LEAST, AT_MOST, UNKNOWN = "exact", "at least", "at most", "unknown"
AT_ONCE = "at once"


@dataclass(frozen=True)
class Reach:
    """When one run reached a target.

    Attributes:
        amount: Steps, epochs or seconds at the first evaluation that did; if none did, at the last.
        reached: Whether one did. If not, the amount is censored: the true one is larger.
    """

    amount: float
    reached: bool


@dataclass(frozen=True)
class SpeedUp:
    """Baseline's median amount over the method's, so that 2 is half the way.

    Attributes:
        bound: ``exact``, or ``at least`` (the baseline's median run did not reach the target),
            ``at most`` (the method's did not), ``unknown`` (neither did), ``at once`` (the method's
            was there before its first step).
        value: The ratio, or its bound; ``None`` where neither or at once, and where the method's
            median run was not evaluated.
        low: Lower end of its interval, 0 where it has none; ``None`` unless exact, two runs of
            each, and not all of each there at once, as these tell no spread.
        high: Its upper end, infinite where it has none.
        n: Runs of the method.
        baseline_n: Runs of the baseline.
        reached: How many of the method's runs reached the target.
        baseline_reached: Likewise of the baseline.
        level: Confidence level of the interval.
        statistic: What ``value`` is.
        method: How the interval was made.
    """

    bound: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    baseline_n: int
    reached: int
    baseline_reached: int
    level: float = LEVEL
    statistic: str = "ratio of the medians over runs, baseline / method"
    method: str = METHOD


def first_reach(
    x: npt.ArrayLike, y: npt.ArrayLike, target: float, *, higher_is_better: bool
) -> Reach:
    """Find when a curve is at least as good as ``target``, or equal to it, for the first time.

    That is the x of an evaluation: nothing is interpolated, as nothing was measured between. A run
    ends with the first value that is not finite: what it measured after that does not count.

    Args:
        x: Steps, epochs or seconds, ascending, ``[points]``; at least one.
        y: What was measured there.
        target: Value to reach.
        higher_is_better: Direction of y.
    """
    amounts, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    lost = np.flatnonzero(~np.isfinite(values))
    end = lost[0] + 1 if lost.size else values.size
    amounts, values = amounts[:end], np.where(np.isfinite(values), values, np.nan)[:end]
    ahead = subtract(values, target) if higher_is_better else subtract(target, values)
    good = np.flatnonzero(ahead >= 0)
    return Reach(float(amounts[good[0] if good.size else -1]), bool(good.size))


def reaches(
    run_ids: Iterable[str],
    curves: Mapping[str, tuple[Floats, Floats]],
    *,
    target: float,
    higher_is_better: bool,
) -> list[Reach]:
    """Find when each run first reached ``target``; one without a curve did not, from the start.

    Args:
        run_ids: Runs, in whatever state they ended.
        curves: By run id, as ``first_reach`` takes them.
        target: Value to reach.
        higher_is_better: Direction of the metric.
    """
    return [
        first_reach(*curves[run_id], target, higher_is_better=higher_is_better)
        if run_id in curves
        else Reach(0.0, False)
        for run_id in run_ids
    ]


def median_reach(runs: Sequence[Reach]) -> Reach | None:
    """Find when the upper median run reached the target, so that at least half have by then.

    Returns:
        ``None`` for no runs. If the median run did not reach it, the median of what all took at
        least, which is a lower bound.
    """
    if not runs:
        return None
    amount = float(_upper_median(_amounts(runs)))
    if math.isfinite(amount):
        return Reach(amount, True)
    return Reach(float(_upper_median(np.array([run.amount for run in runs]))), False)


def speed_up(
    ours: Sequence[Reach],
    baseline: Sequence[Reach],
    *,
    generator: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> SpeedUp:
    """Compare when the median runs of two methods reached a target.

    The interval is taken over resamples of the runs of each method by itself. A resample in which
    the median run of neither gets there counts at both ends, so that it makes the interval wider.

    Args:
        ours: Of ``reaches``.
        baseline: Likewise.
        generator: Source of the resamples.
        level: Confidence level.
        resamples: How many.
    """
    check_level(level)
    own, base = median_reach(ours), median_reach(baseline)
    value, bound = None, UNKNOWN
    if own and own.reached and not own.amount:
        bound = AT_ONCE  # no time to be divided by
    elif own and base and (own.reached or base.reached):
        value = base.amount / own.amount if own.amount else None
        bound = EXACT if base.reached else AT_LEAST
        bound = bound if own.reached else AT_MOST
    low = high = None
    amounts = [_amounts(runs) for runs in (baseline, ours)]
    if bound == EXACT and min(map(len, amounts)) > 1 and not all(map(_at_once, amounts)):
        drawn = [_resampled(one, generator, resamples) for one in amounts]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = drawn[0] / drawn[1]
        ends = (np.nan_to_num(ratios, nan=end, posinf=np.inf) for end in (0.0, np.inf))
        low, high = (
            float(np.quantile(end, share, method="inverted_cdf"))
            for end, share in zip(ends, ((1 - level) / 2, (1 + level) / 2), strict=True)
        )
    return SpeedUp(
        bound=bound,
        value=value,
        low=low,
        high=high,
        n=len(ours),
        baseline_n=len(baseline),
        reached=sum(run.reached for run in ours),
        baseline_reached=sum(run.reached for run in baseline),
        level=level,
    )


def _amounts(runs: Sequence[Reach]) -> Floats:
    """Amounts, infinite for a run that did not reach the target, ``[runs]``."""
    return np.array([run.amount if run.reached else math.inf for run in runs])


def _at_once(amounts: Floats) -> bool:
    return bool(np.isfinite(amounts).all()) and are_equal(amounts)


def _resampled(amounts: Floats, generator: np.random.Generator, resamples: int) -> Floats:
    return _upper_median(generator.choice(amounts, size=(resamples, amounts.size)))


def _upper_median(values: Floats) -> Floats:
    """Along the last axis."""
    return np.asarray(np.sort(values, axis=-1)[..., values.shape[-1] // 2])
