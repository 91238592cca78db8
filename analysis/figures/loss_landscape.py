"""Loss landscape of the iris network over its first two weights, with every method's path.

Left: only the two weights are trained, so every path lies on the surface, which is computed
exactly. Right: all parameters are trained, and the surface is interpolated through the points that
the methods logged, as in the paper: it is no function of two weights, as each method moves the
others to places of its own.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from analysis.plots.figure_data import name_of
from analysis.plots.missing import Missing
from analysis.plots.panels import describe, legend, narrow, note, panels, plain
from analysis.results.load import Results
from analysis.results.studies import Arrays, load_study
from analysis.statistics.summary import Floats
from analysis.style import INK, PAPER, RC, style_of

COMMAND = "make study FIG=landscape"
TITLES = {
    "slice": "exact loss, two weights trained",
    "projection": "interpolated loss, all parameters trained",
}
LEVELS = 17
FINE = 70  # points a side of the surface that are drawn
FINEST = 0.004  # of the width of a panel; what is nearer is not seen
# Light: the paths are to be told from it in grey too.
GREYS = LinearSegmentedColormap.from_list("greys", ["#FFFFFF", "#A8A8A8"])
DECADES = 3.0  # from the largest loss above the least that is shown, downwards
NOTE = (
    "Network 2-1-3 on two standardised principal components of the iris data. Every method starts "
    "at the ring, from the same parameters, and takes the same {steps} batches; its last point has "
    "its marker, and the numbers are its learning rate, which is not tuned, and the loss of all "
    "data at its end, left and right. Shading: loss above the least of the panel, logarithmic. "
    "Left: the other parameters are held where {held}; there the paths can be compared. Right: "
    "cubic interpolation of the logged losses, cut to their range, which it leaves by up to "
    "{overshoot:.1f} nats; hatched where none were logged."
)
HELD = {
    "trained": "full-batch training of all of them ended",
    "initial": "all methods started on the right",
}


def build(results: Results) -> Figure | Missing:
    """Draw both surfaces."""
    study = load_study(results.runs_dir, "landscape")
    if study is None:
        return Missing(COMMAND)
    arrays, facts = study
    with mpl.rc_context({**RC, "axes.grid": False}):
        figure, (left, right) = panels(2, columns=2, height=2.3)
        for ax, kind in ((left, "slice"), (right, "projection")):
            draw_surface(ax, arrays, facts, kind)
        lines, labels = left.get_legend_handles_labels()
        legend(figure, {name_of(name): line for name, line in zip(labels, lines, strict=True)})
        text = NOTE.format(
            steps=facts["steps"], held=HELD[facts["held_at"]], overshoot=overshoot(arrays, facts)
        )
        note(figure, text)
    return figure


def overshoot(arrays: Arrays, facts: dict[str, Any]) -> float:
    """Measure how far the interpolated surface leaves the range of the losses it goes through."""
    logged = np.concatenate([arrays[f"projection_loss_{method}"] for method in facts["methods"]])
    surface = arrays["projection_surface"]
    beyond = np.nanmax(surface) - logged.max(), logged.min() - np.nanmin(surface)
    return float(max(0.0, *beyond))


def thinned(path: Floats, least: float) -> Floats:
    """Leave out points of a path, ``[points, 2]``, that are nearer than ``least`` to the last."""
    kept = [0]
    for index in range(1, len(path)):
        if np.hypot(*(path[index] - path[kept[-1]])) >= least or index == len(path) - 1:
            kept.append(index)
    return path[kept]


def draw_surface(ax: Axes, arrays: Arrays, facts: dict[str, Any], kind: str) -> Axes:
    """Draw one surface and the paths of all methods on ``ax`` and return it."""
    w1, w2 = arrays[f"{kind}_w1"], arrays[f"{kind}_w2"]
    surface = arrays[f"{kind}_surface"]
    if kind == "projection":  # the cubic overshoots by more than the losses differ
        logged = np.concatenate([arrays[f"{kind}_loss_{method}"] for method in facts["methods"]])
        surface = np.clip(surface, logged.min(), logged.max())
        ax.patch.set(hatch="////", edgecolor="#CCCCCC")
    above = surface - np.nanmin(surface)
    high = float(np.nanmax(above)) or 1.0
    low = high * 10.0**-DECADES
    levels = np.geomspace(low, high * 1.0001, LEVELS)
    every = max(1, len(w1) // FINE)
    filled = ax.contourf(
        w1[::every],
        w2[::every],
        np.ma.masked_invalid(np.maximum(above, low))[::every, ::every],
        levels=levels,
        norm=LogNorm(low, high),
        cmap=GREYS,
    )
    filled.set_edgecolor("face")  # else a PDF shows hairlines between the levels
    figure = ax.get_figure()
    assert figure is not None
    bar = figure.colorbar(filled, ax=ax, pad=0.02)
    bar.set_ticks([10.0**power for power in range(-6, 4) if low <= 10.0**power <= high])
    bar.set_label("loss above the least (nats)")
    narrow(bar)
    for method in facts["methods"]:
        path = thinned(arrays[f"{kind}_path_{method}"], (w1[-1] - w1[0]) * FINEST)
        style = style_of(method)
        ends = [arrays[f"{each}_loss_{method}"][-1] for each in TITLES]
        rate = facts["learning_rates"][method]
        label = f"{method} (lr {rate:g}: {ends[0]:.3f}, {ends[1]:.3f})"
        ax.plot(
            *path.T,
            label=plain(label),
            color=style.color,
            linestyle=style.dash,
            marker=style.marker,
            markevery=[len(path) - 1],
            lw=1.1,
            ms=5,
            mew=1.2 if style.marker in ("x", "+") else 0.6,
            markeredgecolor=style.color if style.marker in ("x", "+") else PAPER,
            zorder=3,
            path_effects=[withStroke(linewidth=2.2, foreground=PAPER)],
        )
    ax.plot(*facts["start"], "o", ms=7, mfc="none", mec=INK, mew=0.9, zorder=4, label="_start")
    ax.set(xlim=(w1[0], w1[-1]), ylim=(w2[0], w2[-1]))
    describe(ax, TITLES[kind], "first weight", "second weight")
    return ax
