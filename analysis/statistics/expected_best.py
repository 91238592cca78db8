"""Expected best result against the number of tuning trials."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.statistics.estimates import finite
from analysis.statistics.summary import Floats


def trial_results(
    runs: pd.DataFrame, curves: Mapping[str, tuple[Floats, Floats]], *, higher_is_better: bool
) -> Floats:
    """Best validation result of each trial of one method on one task, of the worst of its seeds.

    Args:
        runs: The trials' rows of the run-level frame; a trial is a ``group_id``.
        curves: By run id, ``y`` the validation metric.
        higher_is_better: Direction of the metric.

    Returns:
        ``[trials]``, NaN for a trial of which a run did not end ``done`` or has no finite result.
    """
    results = []
    for _, trial in runs.groupby("group_id", sort=False):
        best = [
            _best(curves.get(run_id), higher_is_better) if status == "done" else np.nan
            for run_id, status in zip(trial["run_id"], trial["status"], strict=True)
        ]
        results.append(float(np.min(best) if higher_is_better else np.max(best)))
    return np.array(results, dtype=np.float64)


def _best(curve: tuple[Floats, Floats] | None, higher_is_better: bool) -> float:
    values = finite(curve[1]) if curve else np.empty(0)
    if not values.size:
        return float("nan")
    return float(values.max() if higher_is_better else values.min())


def expected_best(
    trials: npt.ArrayLike,
    *,
    higher_is_better: bool,
    most: int | None = None,
    failed_value: float | None = None,
) -> pd.DataFrame:
    r"""Best validation result to be expected of k trials drawn from a ledger, with replacement.

    With the N values sorted from worst to best, ``v_(1)`` to ``v_(N)``:

    .. math:: E[v^*_k] = \sum_i v_{(i)} \left[(i/N)^k - ((i-1)/N)^k\right]

    and the standard deviation of the best follows from the same weights. It describes the ledger's
    own distribution of settings and says nothing beyond N trials.

    Args:
        trials: Validation result of every trial, ``[N]``; not finite where it diverged or failed.
        higher_is_better: Direction of the result.
        most: Largest k; by default N.
        failed_value: What a trial without a finite result is worth, as chance accuracy; needed if
            there is one, since leaving them out would make a fragile method look robust.

    Returns:
        A row a k: ``trials``, ``n`` (N), ``value``, ``std``; ``attrs`` names the ``statistic``.

    Raises:
        ValueError: If a trial failed and ``failed_value`` is not given, or ``most`` is not in 1..N.

    Reference:
        Dodge et al. (2019), Show your work, arXiv 1909.03004, equations 6 and 7.
    """
    values = np.asarray(trials, dtype=np.float64).ravel()
    results = finite(values)
    failed = values.size - results.size
    if failed and (failed_value is None or not math.isfinite(failed_value)):
        raise ValueError(f"{failed} of {values.size} trials failed: failed_value must be given.")
    results = np.concatenate([results, np.full(failed, failed_value or 0.0)])
    most = results.size if most is None else most
    if not 0 <= most <= results.size or (results.size and most < 1):
        raise ValueError(f"Invalid most: {most}. Must be >= 1 and <= {results.size}.")
    ascending = np.sort(results) if higher_is_better else np.sort(results)[::-1]
    k = np.arange(1, most + 1)
    below = (np.arange(results.size + 1) / max(results.size, 1))[None, :] ** k[:, None]
    weights = np.diff(below, axis=1)
    mean = weights @ ascending
    spread = np.sqrt(np.maximum((weights * (ascending - mean[:, None]) ** 2).sum(axis=1), 0.0))
    frame = pd.DataFrame({"trials": k, "n": results.size, "value": mean, "std": spread})
    frame.attrs = {"statistic": "expected best of k trials"}
    return frame
