"""Methods over workloads: relative improvement, and performance profiles of the cost to a target.

A workload is one block of comparable runs: task, model, setting and budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analysis.aggregate import Floats


def performance_profile(costs: npt.ArrayLike, factors: npt.ArrayLike) -> Floats:
    """Share of workloads in which each method is within a factor of the cheapest.

    ``rho_m(tau) = |{w : c_mw / min_k c_kw <= tau}| / |{w : c_mw is known}|``

    Args:
        costs: ``[methods, workloads]``; inf where a method does not reach the target, NaN where
            it was not run: such a workload does not count for it.
        factors: ``tau``, at least 1, ``[factors]``.

    Returns:
        ``[methods, factors]``, NaN for a method without a workload.

    Reference:
        Dolan and More (2002), Benchmarking optimization software with performance profiles;
        cost to a target as in Dahl et al. (2023), Benchmarking neural network training algorithms.
    """
    array = np.asarray(costs, dtype=np.float64)
    tau = np.asarray(factors, dtype=np.float64)
    known = ~np.isnan(array)
    reached = np.where(np.isfinite(array), array, np.inf)
    least = reached.min(axis=0, initial=np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(np.isfinite(reached), reached / least, np.inf)
        within = (ratio[:, :, None] <= tau * (1 + 1e-12)).sum(axis=1)
        return within / known.sum(axis=1)[:, None]


def cost_to_target(
    curves: Sequence[tuple[Floats, Floats]], target: float, *, runs: int, higher_is_better: bool
) -> float:
    """Median over runs of the x at which the curve first is at least as good as ``target``.

    Args:
        curves: ``x`` (ascending) and ``y`` of each run that has a curve, both ``[points]``.
        target: What is to be reached.
        runs: Number of runs; those without a curve do not reach it.
        higher_is_better: Whether larger y are better.

    Returns:
        The upper median; inf where it is that of a run that does not reach the target, NaN
        where there are no runs.
    """
    if not runs:
        return float("nan")
    costs = np.full(max(runs, len(curves)), np.inf)
    for index, (x, y) in enumerate(curves):
        good = np.flatnonzero(y >= target if higher_is_better else y <= target)
        if good.size:
            costs[index] = x[good[0]]
    return float(np.sort(costs)[len(costs) // 2])


def improvement_percent(
    result: float, reference: float, *, metric: str, higher_is_better: bool
) -> float:
    """Relative improvement on a reference, in percent of the reference; NaN where that is 0.

    ``100 (e_ref - e) / e_ref``, in which e is the error ``100 - result`` of a metric in percent
    that is to be high, and the result itself of one that is to be low; of any other metric
    ``100 (result - reference) / |reference|``.
    """
    if higher_is_better and metric.endswith("_percent"):
        result, reference = 100 - result, 100 - reference
    elif higher_is_better:
        result, reference = -result, -reference
    return 100 * (reference - result) / abs(reference) if reference else float("nan")
