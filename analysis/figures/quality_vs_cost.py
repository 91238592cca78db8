"""Quality against cost: the final test metric of each method over the training time of a run."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import (
    RC,
    legend_below,
    legend_height,
    note,
    panels,
    plain,
    say,
    spans_decades,
)
from analysis.results.costs import seconds_per_run
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, Method, methods_of
from analysis.statistics.summary import moments
from analysis.style import metric_label

COMMAND = "make sweep OPT=adafisher,adamw TASK=digits"
NOTE = (
    "Point: mean of the metric and median of the training time over the seeds that ended done. "
    "Line: 95 % Student-t interval of the mean, where there are two seeds or more, as far as the "
    "panel goes. Training time is that of whole runs, without set-up, evaluation and logging; "
    "compare times of one machine."
)
ROOM = 0.4  # beyond the outermost points, in parts of their range


def build(results: Results) -> Figure | Missing:
    """Draw one panel a block of comparable runs, one point a method."""
    blocks = {
        title: [method for method in methods if len(method.done)]
        for title, methods in methods_of(results).items()
    }
    blocks = {title: methods for title, methods in blocks.items() if methods}
    if not blocks:
        return Missing(COMMAND)
    seconds = seconds_per_run(results)
    with mpl.rc_context(RC):
        longest = max(map(len, blocks.values()))
        figure, axes = panels(len(blocks), height=4.3 + legend_height(longest))
        for ax, (title, methods) in zip(axes, blocks.items(), strict=True):
            ax.set_title(plain(title), pad=10)
            draw_points(ax, methods, seconds)
        note(figure, f"{NOTE} {ONE_EACH}")
    return figure


def draw_points(ax: Axes, methods: list[Method], seconds: pd.Series) -> Axes:
    """Draw one point a method, with its intervals, on ``ax`` and return it."""
    labels: list[str] = []
    costs: list[float] = []
    means: list[float] = []
    for method in methods:
        done = method.done
        cost = float(pd.to_numeric(done["run_id"].map(seconds)).median())
        finals = pd.to_numeric(done["final"]).to_numpy(dtype=np.float64)
        _, mean, _, low, high = moments(np.where(np.isfinite(finals), finals, np.nan))
        if not (math.isfinite(cost) and np.isfinite(mean)):
            continue
        labels.append(plain(method.name))
        costs.append(cost)
        means.append(float(mean))
        color, marker = method.style.color, method.style.marker
        ax.plot(cost, mean, label=labels[-1], color=color, marker=marker, ls="none", ms=8)
        if np.isfinite(low):
            ax.vlines(cost, low, high, color=color, lw=1.0, alpha=0.5)
    if not labels:
        say(ax, "No training time is recorded.")
        return ax
    runs = methods[0].runs.iloc[0]
    better = "up" if runs["higher_is_better"] else "down"
    metric = plain(metric_label(f"test_{runs['metric']}", dict(runs["units"])))
    ax.set(xlabel="training time of a run (s); cheaper: left", ylabel=f"{metric}; better: {better}")
    spread = max(means) - min(means)
    if spread > 0:
        ax.set_ylim(min(means) - ROOM * spread, max(means) + ROOM * spread)
    if spans_decades(costs):
        ax.set_xscale("log")
    legend_below(ax, labels)
    return ax
