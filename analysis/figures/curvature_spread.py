"""Is the curvature used? Spread of F/damping over the parameters, against epochs.

At F/damping = 1 the curvature of an entry is nothing beside the damping: were all entries there,
the method would be SGD with momentum and the learning rate lr/damping.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import (
    MOST_PANELS,
    describe,
    few,
    logarithmic,
    note,
    panels,
    plain,
    round_ticks,
    say,
    spread_ticks,
)
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, Method, methods_of
from analysis.statistics.summary import Floats, curve
from analysis.style import LEAST_FONT, LEAST_LINE, RC, SOFT

COMMAND = "make sweep OPT=adafisher,adafisher_v3,adafisher_released"
QUANTITIES = ("min", "percentile_1", "median", "percentile_99", "max")
NOTE = (
    "F: diagonal of the Fisher information with the damping added, of all parameters that have "
    "curvature. Line: median over the parameters. Band: the middle 98% of them (1st to 99th "
    "percentile). Thin lines: least and largest. Each is the mean over seeds. Dashed: F/damping = "
    "1, no curvature. Number: 99th over 1st percentile at the end; near 1, all parameters take the "
    "same step, whatever their curvature."
)


def build(results: Results) -> Figure | Missing:
    """Draw one subplot a task and method that tells of its curvature."""
    tell = {
        quantity: results.series_by_run(f"curvature_{quantity}", "epoch") for quantity in QUANTITIES
    }
    shown = [
        method
        for methods in methods_of(results).values()
        for method in methods
        if set(method.done["run_id"]) & set(tell["median"])
    ]
    if not shown:
        return Missing(COMMAND)
    with mpl.rc_context(RC):
        figure, axes = panels(len(shown[:MOST_PANELS]))
        for ax, method in zip(axes, shown, strict=False):
            draw_spread(ax, method, tell)
        drawn = [ax for ax in axes if ax.axison]
        low, high = (
            pick((ax.get_ylim()[i] for ax in drawn), default=i + 1.0)
            for i, pick in enumerate((min, max))
        )
        for ax in drawn:
            ax.set_ylim(low, high)  # panels are there to be compared
            spread_ticks(ax.yaxis)
        note(figure, f"{NOTE} {ONE_EACH}{few(shown)}")
    return figure


def draw_spread(
    ax: Axes, method: Method, tell: dict[str, dict[str, tuple[Floats, Floats]]]
) -> Axes:
    """Draw one method's spread on ``ax`` and return it."""
    run_ids = list(method.done["run_id"])
    mean = {
        quantity: curve([curves[run_id] for run_id in run_ids if run_id in curves])
        for quantity, curves in tell.items()
    }
    describe(ax, f"{method.title}: {method.name}")
    if mean["median"].empty:
        say(ax, "Never finite.")
        return ax
    n = int(mean["median"]["n"].max())
    color, x = method.style.color, mean["median"]["x"]
    logarithmic(ax.yaxis)
    ax.axhline(1, color=SOFT, lw=LEAST_LINE, ls="--")
    ax.plot(
        x,
        mean["median"]["mean"],
        label=plain(method.name),
        markevery=max(1, len(x) // 8),
        **method.style.plot(),
    )
    for quantity in ("min", "max"):
        ax.plot(mean[quantity]["x"], mean[quantity]["mean"], color=color, lw=LEAST_LINE)
    low, high = mean["percentile_1"], mean["percentile_99"]
    if len(low) == len(high):
        ax.fill_between(low["x"], low["mean"], high["mean"], color=color, alpha=0.18, lw=0)
        ratio = high["mean"].iloc[-1] / low["mean"].iloc[-1] if len(low) else np.nan
        ax.text(
            0.97,
            0.94,
            f"{ratio:.2f}×" if ratio < 10 else f"{ratio:.0f}×",
            transform=ax.transAxes,
            ha="right",
            va="top",
            fontsize=LEAST_FONT,
        )
    describe(ax, f"{method.title}: {method.name} (n={n})", "epoch", "F / damping")
    ax.set_xlim(0, 1.04 * float(x.max()))
    round_ticks(ax)
    return ax
