"""Quality against cost: the final test metric of each method over the training time of a run."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.emphasis import GREY, chosen, rule
from analysis.plots.missing import Missing
from analysis.plots.panels import (
    MOST_PANELS,
    describe,
    few,
    legend,
    logarithmic,
    note,
    panels,
    plain,
    say,
    spans_decades,
    spread_ticks,
)
from analysis.results.costs import seconds_per_run
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, Method, final_means, left_out, methods_of
from analysis.statistics.summary import moments
from analysis.style import RC, metric_label

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
    every = methods_of(results)
    blocks = {
        title: [method for method in methods if len(method.done)]
        for title, methods in every.items()
    }
    blocks = {title: methods for title, methods in blocks.items() if methods}
    if not blocks:
        return Missing(COMMAND)
    seconds = seconds_per_run(results)
    shown = dict(list(blocks.items())[:MOST_PANELS])
    coloured = chosen(
        ({one.name: means.get(one.name, math.nan) for one in methods}, higher)
        for methods in shown.values()
        for means in [final_means(methods)]
        for higher in [methods[0].higher_is_better]
    )
    with mpl.rc_context(RC):
        figure, axes = panels(len(shown))
        entries: dict[str, Line2D] = {}
        for ax, (title, methods) in zip(axes, shown.items(), strict=True):
            describe(ax, title)
            draw_points(ax, methods, seconds, coloured)
            entries |= {one.name: _mark(one, coloured) for one in methods}
        names = sorted(entries)
        grey = [name for name in names if name not in coloured]
        entries = {name: entries[name] for name in names if name in coloured} | {
            f"{len(grey)} others": entries[name] for name in grey[:1]
        }
        legend(figure, entries)
        lacking = left_out(method for title in shown for method in every[title])
        note(figure, f"{NOTE}{lacking}{rule(names, coloured)} {ONE_EACH}{few(list(blocks))}")
    return figure


def _mark(method: Method, coloured: Collection[str]) -> Line2D:
    """Draw a method in the legend: its marker alone."""
    look: dict[str, Any] = {"marker": method.style.marker, "color": method.style.color}
    if method.name not in coloured:
        look |= {"marker": ".", "color": GREY["color"]}
    return Line2D([], [], ls="none", **look)


def draw_points(
    ax: Axes, methods: list[Method], seconds: pd.Series, coloured: Collection[str]
) -> Axes:
    """Draw one point a method, with its intervals, on ``ax`` and return it."""
    labels: list[str] = []
    costs: list[float] = []
    means: list[float] = []
    for method in methods:
        cost = float(pd.to_numeric(method.done["run_id"].map(seconds)).median())
        _, mean, _, low, high = moments(method.finals)
        if not (math.isfinite(cost) and np.isfinite(mean)):
            continue
        labels.append(plain(method.name))
        costs.append(cost)
        means.append(float(mean))
        mark = _mark(method, coloured)
        color = mark.get_color()
        look: dict[str, Any] = {"color": color, "marker": mark.get_marker(), "ls": "none"}
        ax.plot(cost, mean, label=labels[-1], ms=4.5, mew=0.9, **look)
        if np.isfinite(low):
            ax.vlines(cost, low, high, color=color, lw=0.8, alpha=0.6)
    if not labels:
        say(ax, "No training time is recorded.")
        return ax
    better = "up" if methods[0].higher_is_better else "down"
    metric = metric_label(f"test_{methods[0].metric}", methods[0].units)
    describe(ax, x="training time of a run (s); cheaper: left", y=f"{metric}; better: {better}")
    spread = max(means) - min(means)
    if spread > 0:
        ax.set_ylim(min(means) - ROOM * spread, max(means) + ROOM * spread)
    if spans_decades(costs):
        logarithmic(ax.xaxis)
        spread_ticks(ax.xaxis)
    return ax
