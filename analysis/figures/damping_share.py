"""How much of F is damping? The share of each layer, against epochs.

At a share of 1 the curvature of a layer changes nothing: its step is that of SGD with the learning
rate lr/damping, whose momentum is a running mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import (
    MOST_PANELS,
    describe,
    few,
    legend,
    note,
    panels,
    round_ticks,
    say,
)
from analysis.results.damping import COMMAND, DampingShares, damping_shares, layers_of
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, Method, methods_of
from analysis.statistics.summary import curve
from analysis.style import BLUE, FAINT, GREEN, INK, LEAST_LINE, LINE, RC

NOTE = (
    "Mean over the parameters of damping / F, where F has the damping in it; mean over seeds. "
    "Layers are in the order of the model."
)
WHOLE, FIRST, LAST, OTHER = "all layers", "first layer", "last layer", "a layer between"
LOOKS: dict[str, dict[str, Any]] = {
    WHOLE: {"color": INK, "linestyle": "-", "linewidth": 1.6 * LINE},
    FIRST: {"color": BLUE, "linestyle": "--", "linewidth": LINE},
    LAST: {"color": GREEN, "linestyle": "-.", "linewidth": LINE},
    OTHER: {"color": FAINT, "linestyle": "-", "linewidth": LEAST_LINE},
}


def build(results: Results) -> Figure | Missing:
    """Draw one subplot a task and method that tells of its layers."""
    shares = damping_shares(results, "epoch")
    shown = [
        (method, layers)
        for methods in methods_of(results).values()
        for method in methods
        if (layers := _layers(method, results))
    ]
    if not shown:
        return Missing(COMMAND)
    entries: dict[str, Artist] = {}
    with mpl.rc_context(RC):
        figure, axes = panels(len(shown[:MOST_PANELS]))
        for ax, (method, layers) in zip(axes, shown, strict=False):
            draw_shares(ax, method, layers, shares)
            handles, labels = ax.get_legend_handles_labels()
            entries |= dict(zip(labels, handles, strict=True))
        legend(figure, {name: entries[name] for name in LOOKS if name in entries})
        note(figure, f"{NOTE} {ONE_EACH}{few(shown)}")
    return figure


def draw_shares(ax: Axes, method: Method, layers: Sequence[str], shares: DampingShares) -> Axes:
    """Draw the shares of one method's layers on ``ax`` and return it."""
    roles = dict.fromkeys(layers, OTHER) | {layers[0]: FIRST, layers[-1]: LAST}
    lines = [(role, shares.layers[name]) for name, role in roles.items()]
    # Others tell of the whole alone, as they were not asked for their layers: n is one for all.
    told = [
        run_id for run_id in method.done["run_id"] if any(run_id in found for _, found in lines)
    ]
    end, count = 0.0, 0
    for role, found in [*lines, (WHOLE, shares.whole)]:
        mean = curve([found[run_id] for run_id in told if run_id in found])
        if mean.empty:
            continue
        label = "_nolegend_" if role in ax.get_legend_handles_labels()[1] else role
        ax.plot(mean["x"], mean["mean"], label=label, zorder=2 + (role != OTHER), **LOOKS[role])
        end = max(end, float(mean["x"].max()))
        count = max(count, int(mean["n"].max()))
    title = f"{method.title}: {method.name} (n={count})"
    if not np.isfinite(end) or end == 0:
        say(ax, "Never finite.")
        describe(ax, title)
        return ax
    describe(ax, title, "epoch", "damping / F")
    ax.set(xlim=(0, 1.04 * end), ylim=(0, 1.04))
    round_ticks(ax)
    return ax


def _layers(method: Method, results: Results) -> list[str]:
    """Name the layers that the runs of a method tell of, in the order of its model."""
    columns = (results.curves.get(run_id, {}) for run_id in method.done["run_id"])
    return list(dict.fromkeys(layer for of in columns for layer in layers_of(of)))
