"""What training costs: seconds an epoch and bytes, from the records."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.results.load import Results
from analysis.statistics.summary import Floats

COSTS = {  # column: what it is with its unit, and what to divide by
    "seconds_per_epoch": ("training time an epoch (s)", 1.0),
    "peak_memory_bytes": ("peak memory (MiB)", 2.0**20),
    "state_bytes": ("optimizer state (MiB)", 2.0**20),
}


def seconds_per_epoch(results: Results) -> pd.Series:
    """Divide each run's training seconds by its epochs, both at its last row.

    Returns:
        Seconds an epoch, by run id; without the runs that have no row with both.
    """
    times = results.series_by_run("train_seconds", "epoch")
    # Both only ever grow.
    seconds = {run: y.max() / x.max() for run, (x, y) in times.items() if x.max() > 0}
    return pd.Series(seconds, dtype=np.float64)


def seconds_per_run(results: Results) -> pd.Series:
    """Take each run's training seconds at its last row, by run id; without those that lack them."""
    times = results.series_by_run("train_seconds", "step")
    return pd.Series({run: y.max() for run, (_, y) in times.items()}, dtype=np.float64)


def cost_of(runs: pd.DataFrame, cost: str, seconds: pd.Series) -> Floats:
    """Pick one cost of each run, ``[runs]``, without those that do not tell.

    Args:
        runs: Rows of the run-level frame.
        cost: A key of ``COSTS``.
        seconds: What ``seconds_per_epoch`` returns.
    """
    values = runs["run_id"].map(seconds) if cost == "seconds_per_epoch" else runs[cost]
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    return numbers[np.isfinite(numbers)]
