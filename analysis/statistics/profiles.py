"""Performance profiles: in which share of the workloads a method is within a factor of the best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.statistics.equality import RELATIVE
from analysis.statistics.summary import Floats


def performance_profile(costs: npt.ArrayLike, factors: npt.ArrayLike) -> Floats:
    """Share of workloads in which each method is within a factor of the cheapest.

    ``rho_m(tau) = |{w : c_mw / min_k c_kw <= tau}| / |{w : c_mw is known}|``

    Args:
        costs: ``[methods, workloads]``; inf where a method does not reach the target, NaN where
            it was not run: such a workload does not count for it.
        factors: ``tau``, at least 1, ``[factors]``.

    Returns:
        ``[methods, factors]``, NaN for a method without a workload.

    Raises:
        ValueError: If a cost is not positive.

    Reference:
        Dolan and Moré (2002), Benchmarking optimization software with performance profiles,
        equation 1; cost to a target as in Dahl et al. (2023), Benchmarking neural network training
        algorithms.
    """
    array = np.asarray(costs, dtype=np.float64)
    if (array <= 0).any():
        raise ValueError(f"Invalid cost: {np.nanmin(array)}. Must be > 0.")
    tau = np.asarray(factors, dtype=np.float64)
    known = ~np.isnan(array)
    reached = np.where(np.isfinite(array), array, np.inf)
    least = reached.min(axis=0, initial=np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(np.isfinite(reached), reached / least, np.inf)
        within = (ratio[:, :, None] <= tau * (1 + RELATIVE)).sum(axis=1)
        return within / known.sum(axis=1)[:, None]
