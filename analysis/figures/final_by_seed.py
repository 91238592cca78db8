"""The final test metric of every seed of each method, with the mean and its interval.

A mean with its deviation hides what a few seeds do; heavy tails and runs that learned nothing are
seen here.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.missing import Missing
from analysis.plots.panels import (
    ABOVE,
    describe,
    legend,
    logarithmic,
    note,
    panels,
    plain,
    shortened,
    spans_decades,
    spread_ticks,
    width_of,
)
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, Method, methods_of
from analysis.statistics.summary import moments
from analysis.style import FAINT, LEAST_FONT, LEAST_LINE, MOST_HEIGHT, RC, SOFT, metric_label

COMMAND = "make sweep OPT=adafisher,adamw TASK=digits SEEDS=0,1,2"
NOTE = (
    "Ring: the final test metric of a seed. Line: its mean over the seeds, with the 95 % Student-t "
    "interval where there are two seeds or more. A cross at the edge: so many of the method's runs "
    "are in no mean, as they diverged, failed, ran out of memory, did not end or have no finite "
    "result. The best mean is on top, whatever it leaves out."
)
ROW = 0.14  # inches of a method
LETTERS = 22  # of a method's name at the left


def build(results: Results) -> Figure | Missing:
    """Draw one panel a block of comparable runs of more than one seed, one row a method."""
    blocks = {
        title: methods
        for title, methods in methods_of(results).items()
        if any(len(method.finals) > 1 for method in methods)
    }
    if not blocks:
        return Missing(COMMAND)
    columns = min(2, len(blocks))
    height = ABOVE + ROW * max(len(methods) for methods in blocks.values())
    shown = dict(list(blocks.items())[: columns * max(1, int(MOST_HEIGHT / height))])
    with mpl.rc_context(RC):
        figure, axes = panels(len(shown), columns=columns, height=height)
        for ax, (title, methods) in zip(axes, shown.items(), strict=True):
            of = metric_label(f"test_{methods[0].metric}", methods[0].units)
            better = "right" if methods[0].higher_is_better else "left"
            longest = max(len(shortened(method.name, LETTERS)) for method in methods)
            describe(ax, title, f"{of}; better: {better}", beside=width_of(longest + 1))
            draw_seeds(ax, methods)
        ring = Line2D([], [], ls="none", marker="o", ms=3, mfc="none", color=SOFT)
        mean = Line2D([], [], ls="-", marker="|", ms=6, color=SOFT)
        legend(figure, {"a seed": ring, "mean and interval": mean})
        left = len(blocks) - len(shown)
        note(figure, f"{NOTE} {ONE_EACH}" + (f" {left} blocks are left out." if left else ""))
    return figure


def draw_seeds(ax: Axes, methods: list[Method]) -> Axes:
    """Draw every seed of each method on ``ax``, a row each, the best mean on top, and return it."""
    higher = methods[0].higher_is_better

    def rank(method: Method) -> float:
        finals = method.finals
        return (-1 if higher else 1) * float(finals.mean()) if finals.size else np.inf

    rows = sorted(methods, key=rank)
    found = [method.finals for method in rows]
    if any(finals.size for finals in found) and spans_decades(np.concatenate(found)):
        logarithmic(ax.xaxis)
    for row, (method, finals) in enumerate(zip(rows, found, strict=True)):
        color = method.style.color
        ax.axhline(row, color=FAINT, lw=LEAST_LINE, alpha=0.5, zorder=0.5)
        ax.plot(
            finals,
            np.full(finals.size, row),
            "o",
            ms=3,
            mfc="none",
            mew=0.7,
            color=color,
            label=plain(method.name),
        )
        if finals.size:
            _, mean, _, low, high = (float(number) for number in moments(finals))
            ax.plot([mean], [row], "|", ms=8, mew=1.4, color=color)
            if np.isfinite(low):
                ax.plot([low, high], [row, row], "-", lw=1.4, color=color)
        if lost := len(method.runs) - finals.size:
            edge, beside = (0.0, "left") if higher else (1.0, "right")  # where the worst are
            place = ax.get_yaxis_transform()
            ax.plot([edge], [row], "x", color=color, transform=place, clip_on=False)
            ax.annotate(
                f"{lost} of {len(method.runs)}",
                (edge, row),
                xycoords=place,
                xytext=(5 if higher else -5, 0),
                textcoords="offset points",
                ha=beside,
                va="center",
                fontsize=LEAST_FONT,
                color=color,
            )
    ax.set_yticks(range(len(rows)), [plain(shortened(one.name, LETTERS)) for one in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    if ax.get_xscale() == "log":
        spread_ticks(ax.xaxis)
    return ax
