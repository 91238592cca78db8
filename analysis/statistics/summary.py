"""Statistics over seeds: pure functions of arrays and of the frames that ``load`` makes.

Every result states its statistic, its n and its level. Runs that did not end ``done`` are never
part of a mean; they are counted beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from analysis.statistics.equality import RELATIVE

LEVEL = 0.95
GRID_POINTS = 101
CURVE_COLUMNS = ("x", "n", "mean", "std", "low", "high")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """One number over seeds, and what became of the runs that are not in it.

    Attributes:
        n: Runs in the mean: those that ended ``done`` with a finite value.
        mean: Arithmetic mean.
        std: Sample standard deviation (divisor n - 1); ``None`` for n < 2.
        low: Lower end of the two-sided Student-t interval of the mean; ``None`` for n < 2.
        high: Its upper end.
        not_finite: Runs that ended ``done`` without a finite value.
        collapsed: Runs in the mean that are no better than a constant prediction.
        expected: Seeds that any method of the same block has.
        level: Confidence level of the interval.
        strong: Whether it is the best of its column and the others are significantly worse.
        source: Where the number comes from (run ids, command, ...); for the CSV.
    """

    n: int
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    expected: int = 0
    diverged: int = 0
    failed: int = 0
    out_of_memory: int = 0
    incomplete: int = 0
    not_finite: int = 0
    collapsed: int = 0
    level: float = LEVEL
    strong: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Say n, and what became of the other runs: ``n=2/3, diverged 1/3``."""
        counts = {
            "diverged": self.diverged,
            "not finite": self.not_finite,
            "failed": self.failed,
            "out of memory": self.out_of_memory,
            "incomplete": self.incomplete,
        }
        total = max(self.expected, self.n + sum(counts.values()))
        ended = [f"{name} {count}/{total}" for name, count in counts.items() if count]
        if self.collapsed:
            ended.append(f"collapsed {self.collapsed}/{total}")
        if self.n == 0 and ended:
            return ", ".join(ended)
        return ", ".join([f"n={self.n}" if self.n == total else f"n={self.n}/{total}", *ended])


def moments(
    values: npt.ArrayLike, *, level: float = LEVEL
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Reduce over the first axis, ignoring NaN: n, mean, std and a Student-t interval.

    ``mean +- t(n - 1) * std / sqrt(n)``, with ``std`` the sample standard deviation (divisor
    n - 1) and ``t`` the ``(1 + level) / 2`` quantile of Student's distribution (Student, 1908).
    The std of values that are equal (``statistics.equality``) is exactly 0.

    Args:
        values: ``[seeds, ...]``; NaN where a seed has no value.
        level: Confidence level, between 0 and 1.

    Returns:
        n, mean, std, low and high, each ``[...]``; std and interval are NaN where n < 2, the mean
        where n = 0.
    """
    if not 0 < level < 1:
        raise ValueError(f"Invalid level: {level}. Must be > 0 and < 1.")
    array = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(array)
    n = present.sum(axis=0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(present, array, 0.0).sum(axis=0) / n
        squares = np.where(present, (array - mean) ** 2, 0.0).sum(axis=0)
        most = np.where(present, array, -np.inf).max(axis=0, initial=-np.inf)
        least = np.where(present, array, np.inf).min(axis=0, initial=np.inf)
        equal = most - least <= RELATIVE * np.maximum(np.abs(most), np.abs(least))
        std = np.where(n > 1, np.sqrt(np.where(equal, 0.0, squares) / (n - 1)), np.nan)
        half = stdtrit(n - 1, (1 + level) / 2) * std / np.sqrt(n)
    return n, mean, std, mean - half, mean + half


def summarize(
    runs: pd.DataFrame,
    result: str,
    *,
    expected: int,
    source: Mapping[str, Any] | None = None,
    level: float = LEVEL,
) -> Summary:
    """Summarize one group of runs.

    Args:
        runs: The group's rows of the run-level frame.
        result: ``final`` or ``best_test``.
        expected: Seeds that any method of the same block has.
        source: Passed on to the summary.
        level: Confidence level of the interval.
    """
    if result == "best_test" and "evaluate_test" in runs:  # looked at now and then, it is not known
        runs = runs[runs["evaluate_test"] != "best"]
    status = runs["status"]
    done = pd.to_numeric(runs.loc[status == "done", result]).to_numpy(dtype=np.float64)
    values = done[np.isfinite(done)]
    n, mean, std, low, high = (float(value) for value in moments(values, level=level))
    return Summary(
        n=int(n),
        mean=_or_none(mean),
        std=_or_none(std),
        low=_or_none(low),
        high=_or_none(high),
        expected=expected,
        diverged=int((status == "diverged").sum()),
        failed=int((status == "failed").sum()),
        out_of_memory=int((status == "out_of_memory").sum()),
        incomplete=int(status.isin(["interrupted", "running"]).sum()),
        not_finite=done.size - values.size,
        collapsed=int(runs["collapsed"].sum()) if result == "final" and "collapsed" in runs else 0,
        level=level,
        source=source or {},
    )


def curve(
    series: Sequence[tuple[Floats, Floats]],
    *,
    to_shortest: bool = False,
    reduce: Callable[[Floats], tuple[Floats, ...]] = moments,
) -> pd.DataFrame:
    """Average curves over seeds, pointwise on a common grid.

    Each curve is interpolated linearly, and only between neighbours of its own that are finite:
    beyond its ends, and between a value that is not finite and the points beside it, it has no
    value. A mean is over all seeds: over those that are left it would jump where one ends, though
    no seed does. So there is none where curves of unequal length end, and where one has a gap.

    Args:
        series: For each seed its ``x`` (ascending) and ``y``, both ``[points]``; ``y`` is not
            finite where a measurement was not.
        to_shortest: Take an even grid of ``GRID_POINTS`` over the range that all seeds cover, as
            for time, where no two seeds share a point; otherwise every x that any seed has.
        reduce: From ``[seeds, points]`` to n, mean, std, low and high; ``moments`` or its like.

    Returns:
        One row a grid point (``CURVE_COLUMNS``), from the first to the last that every seed with a
        finite value has; none where they share no point. See ``reduce`` for the statistics. In a
        gap of any seed n is 0 and the mean NaN, so that no line is drawn across.
    """
    series = [(x, np.where(np.isfinite(y), y, np.nan)) for x, y in series if np.isfinite(y).any()]
    if not series:
        return pd.DataFrame(columns=list(CURVE_COLUMNS), dtype=np.float64)
    if to_shortest:
        covered = [x[np.isfinite(y)] for x, y in series]
        start, end = max(x[0] for x in covered), min(x[-1] for x in covered)
        grid = np.linspace(start, end, GRID_POINTS) if start < end else np.array([end])
    else:
        grid = np.unique(np.concatenate([x for x, _ in series]))
    # numpy carries a NaN to the points between it and its neighbours, and no further.
    values = np.array([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in series])
    values[:, np.isnan(values).any(axis=0)] = np.nan
    columns = (grid, *reduce(values))
    rows = pd.DataFrame(dict(zip(CURVE_COLUMNS, columns, strict=True)))
    there = np.flatnonzero(rows["mean"].notna())
    return rows.iloc[there[0] : there[-1] + 1] if there.size else rows.iloc[:0]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
