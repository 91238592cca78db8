"""How sensitive is each method to its rate? The trials of its tuning, validation against the rate.

Each point is a trial, of as many seeds as the tuning had; a method that works over a wide range
of rates is one that is found without much tuning.
"""

from __future__ import annotations

from collections.abc import Collection

import matplotlib as mpl
import numpy as np
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
    spans_decades,
    spread_ticks,
)
from analysis.results.load import Results
from analysis.results.trials import Trials, panels_of, trials_of, without_blown_up
from analysis.style import RC, metric_label, style_of

COMMAND = "make tune OPT=adafisher,adamw,kfac,shampoo TASK=digits,tinyshakespeare"
NOTE = (
    "Point: a trial, by what it was judged by, or, while no run tells of its tuning, by its worst "
    "seed. A cross at the edge: it diverged, failed, has no finite result or, where low is good, "
    "one of more than ten times the median. A bar at the other edge: the pruner stopped it after a "
    "part of the budget. Trials of searches of more than the rate are left out."
)


def build(results: Results) -> Figure | Missing:
    """Draw one panel a task and budget of the trials, one line a method."""
    found = [one for one in trials_of(results) if np.isfinite(one.rates).sum() > 1]
    found = [one for one in found if np.isfinite(one.values).any()]
    blocks = panels_of(found)
    if not blocks:
        return Missing(COMMAND)
    shown = dict(list(blocks.items())[:MOST_PANELS])
    coloured = chosen(
        ({one.optimizer: _best(one) for one in block}, block[0].higher_is_better)
        for block in shown.values()
    )
    names = sorted({one.optimizer for one in found})
    with mpl.rc_context(RC):
        figure, axes = panels(len(shown))
        for ax, (title, block) in zip(axes, shown.items(), strict=True):
            describe(ax, title, "learning rate", metric_label(block[0].metric, block[0].units))
            draw_trials(ax, block, coloured)
        looks = {one.optimizer: style_of(one.optimizer, one.family) for one in found}
        grey = [name for name in names if name not in coloured]
        legend(
            figure,
            {name: Line2D([], [], **looks[name].plot()) for name in names if name in coloured}
            | {f"{len(grey)} others": Line2D([], [], **GREY) for _ in grey[:1]},
        )
        note(figure, NOTE + rule(names, coloured, what="best trial") + few(list(blocks)))
    return figure


def draw_trials(ax: Axes, block: list[Trials], coloured: Collection[str]) -> Axes:
    """Draw the trials of each method of one task on ``ax`` and return it."""
    logarithmic(ax.xaxis)
    known = without_blown_up(block)
    for one, values in zip(block, known, strict=True):
        look = style_of(one.optimizer, one.family).plot() if one.optimizer in coloured else GREY
        order = np.argsort(one.rates, kind="stable")
        order = order[~one.pruned[order]]  # of which no value is known: they break no line
        x, y = one.rates[order], values[order]
        ax.plot(x, y, label=plain(one.optimizer), **look)
        worst = 0.0 if one.higher_is_better else 1.0  # the edge where the worst results are
        lost, stopped = x[~np.isfinite(y)], np.sort(one.rates[one.pruned])
        for marker, rates, edge in (("x", lost, worst), ("|", stopped, 1 - worst)):
            if rates.size:
                ax.plot(
                    rates,
                    np.full(rates.size, edge),
                    marker,
                    color=look["color"],
                    transform=ax.get_xaxis_transform(),
                    clip_on=False,
                )
    if spans_decades(np.concatenate(known)):
        logarithmic(ax.yaxis)
        spread_ticks(ax.yaxis)
    columns = ax.get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    spread_ticks(ax.xaxis, most=5 if columns < 3 else 4)
    return ax


def _best(trials: Trials) -> float:
    return float((np.nanmax if trials.higher_is_better else np.nanmin)(trials.values))
