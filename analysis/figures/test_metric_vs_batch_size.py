"""Stability: test metric against batch size, of runs that agree in all but batch and seed."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.sensitivity import draw_dependence
from analysis.results.load import Results

COMMAND = "make sweep OPT=adafisher,adam,kfac,sgd TASK=digits ARGS='task.batch_size=16,64,256,1024'"


def build(results: Results) -> Figure | Missing:
    """Draw lines and a heat map a task."""
    return draw_dependence(results, "batch_size", COMMAND)
