"""Stability: test metric against learning rate, of runs that agree in all but rate and seed."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.sensitivity import draw_dependence
from analysis.results.load import Results

COMMAND = (
    "make sweep OPT=adafisher,adam,kfac,sgd TASK=digits ARGS='optimizer.lr=1e-4,1e-3,1e-2,1e-1'"
)


def build(results: Results) -> Figure | Missing:
    """Draw lines and a heat map a task."""
    return draw_dependence(results, "lr", COMMAND)
