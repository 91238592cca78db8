"""Performance profiles: which share of runs, or of problems, is at least so good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.aggregate import LEVEL, Floats
from analysis.statistics.bootstrap import CURVE_RESAMPLES, STRATIFIED
from analysis.statistics.estimates import check_level, finite


def score_profile(
    tasks: Sequence[npt.ArrayLike],
    thresholds: npt.ArrayLike,
    *,
    higher_is_better: bool,
    generator: np.random.Generator,
    level: float = LEVEL,
    resamples: int = CURVE_RESAMPLES,
) -> pd.DataFrame:
    r"""Share of runs whose normalised score is better than a threshold, averaged over tasks.

    .. math:: F(\tau) = \frac{1}{M} \sum_m \frac{1}{N_m} \sum_n [x_{m,n} > \tau]

    Args:
        tasks: For each task its runs' scores, ``[runs]``; a run without a finite score (diverged)
            passes no threshold and stays in the denominator.
        thresholds: ``[points]``.
        higher_is_better: Direction of the scores; otherwise ``x < tau`` is counted.
        generator: Source of the resamples, drawn within each task.
        level: Confidence level of the pointwise band.
        resamples: How many.

    Returns:
        A row a threshold: ``x``, ``n`` (runs), ``value``, and ``low`` and ``high``, NaN where a
        task has fewer than two runs. ``attrs`` names ``statistic``, ``level`` and ``method``.

    Raises:
        ValueError: If ``level`` is invalid, or a task has no run.

    Reference:
        Agarwal et al. (2021), arXiv 2108.13264, section 4.2.
    """
    check_level(level)
    axis = np.asarray(thresholds, dtype=np.float64)
    passed = []
    for scores in tasks:
        values = np.asarray(scores, dtype=np.float64).ravel()
        if not values.size:
            raise ValueError("A task has no run: its scores must be at least one.")
        with np.errstate(invalid="ignore"):
            better = values[:, None] > axis if higher_is_better else values[:, None] < axis
        passed.append((better & np.isfinite(values)[:, None]).astype(np.float64))
    share = np.mean([part.mean(axis=0) for part in passed], axis=0) if passed else axis * np.nan
    low = high = np.full(axis.size, np.nan)
    if passed and min(len(part) for part in passed) > 1:
        drawn = np.mean([_resampled(part, generator, resamples) for part in passed], axis=0)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    profile = pd.DataFrame(
        {"x": axis, "n": sum(map(len, passed)), "value": share, "low": low, "high": high}
    )
    profile.attrs = {"statistic": "share of runs", "level": level, "method": STRATIFIED}
    return profile


def ratio_profile(costs: Mapping[str, npt.ArrayLike], ratios: npt.ArrayLike) -> pd.DataFrame:
    """Share of problems that a method solves within a factor of the best method's cost.

    ``rho(tau) = |{p : cost_p <= tau min over methods cost_p}| / P``

    Args:
        costs: For each method its cost on each problem (seconds to a target, say), ``[problems]``;
            NaN or infinite where it does not solve the problem, which stays in the denominator.
        ratios: Factors ``tau``, ``[points]``, at least 1.

    Returns:
        A row a factor; a column a method, and ``x``.

    Raises:
        ValueError: If a cost is not positive.

    Reference:
        Dolan and Moré (2002), Benchmarking optimization software with performance profiles,
        equation 1.
    """
    axis = np.asarray(ratios, dtype=np.float64)
    table = np.array([np.asarray(values, dtype=np.float64) for values in costs.values()])
    table = np.where(np.isfinite(table), table, np.inf)
    if (table <= 0).any():
        raise ValueError(f"Invalid cost: {table.min()}. Must be > 0.")
    columns: dict[str, Floats] = {"x": axis}
    if table.size:
        best = table.min(axis=0)
        for name, row in zip(costs, table, strict=True):
            solved = np.isfinite(row)
            ratio = np.where(solved, row / np.where(np.isfinite(best), best, 1.0), np.inf)
            columns[name] = (ratio[None, :] <= axis[:, None]).mean(axis=1)
    return pd.DataFrame(columns)


def optimality_gap(
    tasks: Sequence[npt.ArrayLike], *, target: float, higher_is_better: bool
) -> float | None:
    """Mean amount by which runs miss a target, over the runs of all tasks; none for no run.

    Reference:
        Agarwal et al. (2021), arXiv 2108.13264, section 4.3.
    """
    pooled = np.concatenate([finite(scores) for scores in tasks]) if len(tasks) else np.empty(0)
    if not pooled.size:
        return None
    missed = target - pooled if higher_is_better else pooled - target
    return float(np.maximum(missed, 0.0).mean())


def _resampled(passed: Floats, generator: np.random.Generator, resamples: int) -> Floats:
    """Shares of ``[runs, points]`` in resamples of its runs, ``[resamples, points]``."""
    runs = len(passed)
    counts = generator.multinomial(runs, [1 / runs] * runs, size=resamples)
    return np.asarray(counts @ passed / runs)
