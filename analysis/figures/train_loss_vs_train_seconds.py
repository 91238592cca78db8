"""Train loss against training time, without evaluation and logging."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.plots.curves import draw_curves
from analysis.plots.missing import Missing
from analysis.results.load import Results


def build(results: Results) -> Figure | Missing:
    """Draw one subplot a task."""
    return draw_curves(results, metric="train_loss", axis="train_seconds")
