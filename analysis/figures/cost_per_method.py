"""Cost: seconds an epoch, peak memory and state of each method, and the ratio to one of them."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import describe, note, plain, say, short_names
from analysis.results.costs import COSTS, cost_of, seconds_per_epoch
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, Method, left_out, methods_of, reference_of
from analysis.statistics.bands import BAND, bootstrap
from analysis.style import INK, LEAST_FONT, MOST_HEIGHT, RC, TEXT_WIDTH

COMMAND = "make sweep OPT=all TASK=digits"
NOTE = (
    f"Bar: mean over the seeds that ended done. Line: {BAND}. {{numbers}} Seconds: "
    "training time over epochs, without evaluation and logging. Peak memory: what the accelerator "
    "allocated; on a CPU what the run added to its process. State: what the optimizer keeps "
    "between steps. "
    "Compare times of one machine."
)
RATIO = (
    "Number: ratio of the mean to that of {references} (AdamW where it was run, else Adam, else "
    "SGD)."
)
VALUE = "Number: the mean."
ROW = 0.14  # inches a method
AROUND = 0.62  # inches a task, for its title and the labels
LETTERS = 22  # of a method's name at the left


def build(results: Results) -> Figure | Missing:
    """Draw one row a task, one panel a cost."""
    every = methods_of(results)
    blocks = {
        title: [method for method in methods if len(method.done)]
        for title, methods in every.items()
    }
    blocks = {title: methods for title, methods in blocks.items() if methods}
    if not blocks:
        return Missing(COMMAND)
    seconds = seconds_per_epoch(results)
    heights = np.array([AROUND + ROW * len(methods) for methods in blocks.values()])
    fitting = max(1, int((np.cumsum(heights) <= MOST_HEIGHT).sum()))
    shown = dict(list(blocks.items())[:fitting])
    references = {each.name for methods in shown.values() if (each := reference_of(methods))}
    with mpl.rc_context(RC):
        height = min(MOST_HEIGHT, float(heights[:fitting].sum()))
        figure = Figure(figsize=(TEXT_WIDTH, height), layout="constrained")
        grid = figure.subplots(
            fitting, len(COSTS), squeeze=False, height_ratios=list(heights[:fitting]), sharey="row"
        )
        for row, (title, methods) in zip(grid, shown.items(), strict=True):
            for ax, cost in zip(row, COSTS, strict=True):
                ax.set_label(plain(title))
                draw_cost(ax, methods, cost, seconds)
            describe(row[0], title)
            row[0].title.set(ha="left", x=0.0)
        numbers = RATIO.format(references=" or ".join(sorted(references))) if references else VALUE
        more = f" The first {fitting} of {len(blocks)} tasks are drawn." * (fitting < len(blocks))
        lacking = left_out((one for title in shown for one in every[title]), costs=True)
        note(figure, f"{NOTE.format(numbers=numbers)}{lacking} {ONE_EACH}{more}")
    return figure


def draw_cost(ax: Axes, methods: list[Method], cost: str, seconds: pd.Series) -> Axes:
    """Draw one bar a method, the first on top, on ``ax`` and return it."""
    reference = reference_of(methods)
    name, scale = COSTS[cost]
    values = [cost_of(method.done, cost, seconds) / scale for method in methods]
    means, lows, highs = (np.full(len(methods), np.nan) for _ in range(3))
    for index, value in enumerate(values):
        if value.size:
            _, mean, _, low, high = bootstrap(value[:, None])
            means[index], lows[index], highs[index] = mean[0], low[0], high[0]
    by = means[methods.index(reference)] if reference else np.nan
    short = short_names((method.name for method in methods), LETTERS)
    ax.set_yticks(range(len(methods)), [plain(name) for name in short.values()])
    ax.set_ylim(len(methods) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    describe(ax, x=name)
    if not np.isfinite(means).any():
        say(ax, "Not recorded.")
        return ax
    colors = [method.style.color for method in methods]
    names = [plain(method.name) for method in methods]
    rows = range(len(methods))
    ax.barh(rows, np.nan_to_num(means), color=colors, height=0.7, alpha=0.75, label=names)
    ax.hlines(rows, lows, highs, color=INK, lw=0.9)
    top = np.nanmax(np.fmax(means, highs))
    for index, (mean, high) in enumerate(zip(means, np.fmax(means, highs), strict=True)):
        if np.isfinite(mean):
            text = f"{mean / by:.2f}×" if by > 0 else f"{mean:.3g}"
            ax.text(high + 0.02 * top, index, text, va="center", fontsize=LEAST_FONT)
    ax.set_xlim(0, 1.25 * top or 1)
    return ax
