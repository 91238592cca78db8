"""What a loss scale changes that no method knows of: each method with it and without it.

Above the training loss of both, below how far apart their weights are.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.missing import Missing
from analysis.plots.panels import (
    describe,
    legend,
    logarithmic,
    note,
    panels,
    round_ticks,
    say,
    spread_ticks,
)
from analysis.results.load import Results
from analysis.results.studies import Arrays, load_study
from analysis.style import INK, LEAST_LINE, RC, SOFT, style_of

COMMAND = "make study FIG=loss_scale"
NOTE = (
    "{model} on {task}, {count}: a thin line each, the thick one their mean. With: the loss is "
    "multiplied by {loss_scale:g} and the gradients of the parameters are divided by it before "
    "the step, as the AdaFisher authors' trainer does on a GPU; the method knows nothing of it. "
    "Without: the loss as it is. Both from the same weights, on the same batches. Norm of the "
    "first update with and without, mean over seeds: {first_steps}. Distance: between the weights "
    "of the two runs, over that of the run without from the start."
)
WITH, WITHOUT = "-", (0, (4, 2))


def build(results: Results) -> Figure | Missing:
    """Draw a column for each method."""
    study = load_study(results.runs_dir, "loss_scale")
    if study is None:
        return Missing(COMMAND)
    arrays, facts = study
    methods = facts["methods"]
    with mpl.rc_context(RC):
        figure, axes = panels(2 * len(methods), columns=len(methods))
        for column, method in enumerate(methods):
            draw_losses(axes[column], arrays, facts, method)
            draw_distance(axes[len(methods) + column], arrays, method)
        seeds = len(facts["seeds"])
        count = f"{seeds} seeds" if seeds > 1 else f"seed {facts['seeds'][0]}"
        entries = {
            "with the scale (in the method's colour)": Line2D([], [], color=INK, ls=WITH),
            "without it": Line2D([], [], color=SOFT, ls=WITHOUT),
        }
        legend(figure, entries)
        steps = "; ".join(
            f"{method} {norms[0]:.3g} and {norms[1]:.3g}"
            for method in methods
            for norms in [arrays[f"{method}/first_step"].mean(1)]
        )
        note(figure, NOTE.format(**facts, count=count, first_steps=steps))
    return figure


def draw_losses(ax: Axes, arrays: Arrays, facts: dict[str, Any], method: str) -> Axes:
    """Draw the training loss of each epoch on ``ax``, with the scale and without it."""
    losses = arrays[f"{method}/train_loss"]
    epochs = np.arange(1, losses.shape[2] + 1)
    color = style_of(method).color
    looks = (("with the scale", color, WITH), ("without it", SOFT, WITHOUT))
    for (name, shade, dash), runs in zip(looks, losses, strict=True):
        ax.plot(epochs, runs.T, color=shade, ls=dash, lw=LEAST_LINE, alpha=0.5, label="_seed")
        ax.plot(epochs, runs.mean(0), color=shade, ls=dash, lw=1.5, label=name)
    rate = facts["learning_rates"][method]
    describe(ax, f"{method} (lr {rate:g})", "epoch", "training loss (nats)")
    logarithmic(ax.yaxis)
    spread_ticks(ax.yaxis)
    round_ticks(ax)
    return ax


def draw_distance(ax: Axes, arrays: Arrays, method: str) -> Axes:
    """Draw how far the two runs are apart after each epoch on ``ax``."""
    distance = arrays[f"{method}/distance"]
    if not distance.any():
        say(ax, "the same weights, bit for bit")
        return ax
    epochs = np.arange(1, distance.shape[1] + 1)
    color = style_of(method).color
    ax.plot(epochs, distance.T, color=color, lw=LEAST_LINE, alpha=0.5, label="_seed")
    ax.plot(epochs, distance.mean(0), color=color, lw=1.5, label="distance")
    describe(ax, x="epoch", y="distance, over that from the start")
    ax.set_ylim(0, 1.05 * distance.max())
    round_ticks(ax)
    return ax
