"""Cost: seconds an epoch, peak memory and state of each method, and the ratio to one of them."""

from __future__ import annotations

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import RC, note, plain, say
from analysis.results.costs import COSTS, cost_of, seconds_per_epoch
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, Method, methods_of, reference_of
from analysis.statistics.bands import BAND, bootstrap

COMMAND = "make sweep OPT=all TASK=digits"
NOTE = (
    f"Bar: mean over the seeds that ended done. Line: {BAND}. Number: ratio of the mean to that of "
    "the reference below the panel (AdamW where it was run, else Adam, else SGD). Seconds: "
    "training time over epochs, without evaluation and logging. Peak memory: what the accelerator "
    "allocated; on a CPU that of the whole process. State: what the optimizer keeps between steps. "
    "Compare times of one machine."
)


def build(results: Results) -> Figure | Missing:
    """Draw one row a task, one panel a cost."""
    blocks = {
        title: [method for method in methods if len(method.done)]
        for title, methods in methods_of(results).items()
    }
    blocks = {title: methods for title, methods in blocks.items() if methods}
    if not blocks:
        return Missing(COMMAND)
    seconds = seconds_per_epoch(results)
    with mpl.rc_context(RC):
        heights = [1.35 + 0.27 * len(methods) for methods in blocks.values()]
        figure = Figure(figsize=(15, sum(heights) + 0.6), layout="constrained")
        grid = figure.subplots(
            len(blocks), len(COSTS), squeeze=False, height_ratios=heights, sharey="row"
        )
        for row, (title, methods) in zip(grid, blocks.items(), strict=True):
            for ax, cost in zip(row, COSTS, strict=True):
                draw_cost(ax, methods, cost, seconds)
                ax.set_title(plain(title), fontsize=11)
        note(figure, f"{NOTE} {ONE_EACH}")
    return figure


def draw_cost(ax: Axes, methods: list[Method], cost: str, seconds: pd.Series) -> Axes:
    """Draw one bar a method, the first on top, on ``ax`` and return it."""
    reference = reference_of(methods)
    label, scale = COSTS[cost]
    values = [cost_of(method.done, cost, seconds) / scale for method in methods]
    means, lows, highs = (np.full(len(methods), np.nan) for _ in range(3))
    for index, value in enumerate(values):
        if value.size:
            _, mean, _, low, high = bootstrap(value[:, None])
            means[index], lows[index], highs[index] = mean[0], low[0], high[0]
    by = means[methods.index(reference)] if reference else np.nan
    ax.set_yticks(range(len(methods)), [plain(method.name) for method in methods])
    ax.set_ylim(len(methods) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ratio = f"number: ratio to {reference.name}" if reference and by > 0 else ""
    ax.set_xlabel("\n".join([label, *textwrap.wrap(plain(ratio), 48)]), fontsize=10)
    if not np.isfinite(means).any():
        say(ax, "Not recorded.")
        return ax
    colors = [method.style.color for method in methods]
    ax.barh(range(len(methods)), np.nan_to_num(means), color=colors, height=0.7, alpha=0.75)
    ax.hlines(range(len(methods)), lows, highs, color="black", lw=1.6)
    top = np.nanmax(np.fmax(means, highs))
    for index, (mean, high) in enumerate(zip(means, np.fmax(means, highs), strict=True)):
        if np.isfinite(mean):
            text = f"{mean / by:.2f}×" if by > 0 else f"{mean:.3g}"
            ax.text(high + 0.015 * top, index, text, va="center", fontsize=9)
    ax.set_xlim(0, 1.14 * top or 1)
    return ax
