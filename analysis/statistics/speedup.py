"""Speed-up to a target: how much sooner a method reaches a value than a baseline does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.aggregate import LEVEL, moments

EXACT, AT_LEAST, AT_MOST, UNKNOWN = "exact", "at least", "at most", "unknown"
AXES = ("step", "epoch", "train_seconds")


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
    """Baseline's amount over the method's, so that 2 is half the way.

    Attributes:
        bound: ``exact``, or ``at least`` (a baseline run did not reach the target), ``at most``
            (one of the method's did not), ``unknown`` (both happened).
        value: The ratio, or its bound; ``None`` where it is unknown or n = 0.
        low: Lower end of its interval, Student's t on the logarithms; ``None`` unless exact, n > 1.
        high: Its upper end.
        n: Seeds that both have.
        reached: How many of the method's runs reached the target.
        baseline_reached: Likewise of the baseline.
        axis: What was counted.
        target: Value to reach.
        level: Confidence level of the interval.
        statistic: What ``value`` is.
    """

    bound: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    reached: int
    baseline_reached: int
    axis: str
    target: float
    level: float = LEVEL
    statistic: str = "geometric mean over common seeds of baseline / method"


def reaches(
    runs: pd.DataFrame,
    measurements: pd.DataFrame,
    *,
    metric: str,
    target: float,
    higher_is_better: bool,
    axis: str = "step",
) -> dict[int, Reach]:
    """When each run of a group first reached ``target``.

    Time is that of the first evaluation at or beyond the target: nothing is interpolated, as
    nothing was measured between. A run that has no evaluation is left out.

    Args:
        runs: The group's rows of the run-level frame, one a seed, in whatever state they ended.
        measurements: Frame of measurements.
        metric: As it stands there: ``test_accuracy_percent``.
        target: Value to reach.
        higher_is_better: Direction of the metric.
        axis: One of ``AXES``.

    Raises:
        ValueError: If ``axis`` is unknown.
    """
    if axis not in AXES:
        raise ValueError(f"Invalid axis: {axis}. Must be one of: {', '.join(AXES)}.")
    rows = measurements[measurements["run_id"].isin(runs["run_id"])].dropna(subset=[axis])
    seeds = dict(zip(runs["run_id"], runs["seed"], strict=True))
    found: dict[int, Reach] = {}
    for run_id, part in rows.groupby("run_id"):
        of_metric = part[part["metric"] == metric]
        if of_metric.empty:
            continue
        good = of_metric["value"] >= target if higher_is_better else of_metric["value"] <= target
        hit = of_metric.loc[good, axis]
        amount = hit.min() if len(hit) else part[axis].max()
        found[int(seeds[run_id])] = Reach(float(amount), bool(len(hit)))
    return found


def speed_up(
    ours: Mapping[int, Reach],
    baseline: Mapping[int, Reach],
    *,
    target: float,
    axis: str = "step",
    level: float = LEVEL,
) -> SpeedUp:
    """Compare when the runs of two methods reached a target, seed by seed.

    Args:
        ours: Each seed's, of ``reaches``.
        baseline: Likewise.
        target: Value to reach, for the record.
        axis: What was counted, for the record.
        level: Confidence level.
    """
    common = sorted(set(ours) & set(baseline))
    pairs = [(ours[seed], baseline[seed]) for seed in common]
    # Who is there before the first step has no time to be divided by.
    pairs = [(own, base) for own, base in pairs if own.amount > 0 and base.amount > 0]
    late = [not own.reached for own, _ in pairs]
    baseline_late = [not base.reached for _, base in pairs]
    bound = {
        (False, False): EXACT,
        (False, True): AT_LEAST,
        (True, False): AT_MOST,
        (True, True): UNKNOWN,
    }[any(late), any(baseline_late)]
    logs = np.array([math.log(base.amount / own.amount) for own, base in pairs])
    n, mean, _, low, high = (float(value) for value in moments(logs, level=level))
    known = n > 0 and bound != UNKNOWN
    spread = known and n > 1 and bound == EXACT
    return SpeedUp(
        bound=bound if n else UNKNOWN,
        value=math.exp(mean) if known else None,
        low=math.exp(low) if spread else None,
        high=math.exp(high) if spread else None,
        n=int(n),
        reached=late.count(False),
        baseline_reached=baseline_late.count(False),
        axis=axis,
        target=target,
        level=level,
    )
