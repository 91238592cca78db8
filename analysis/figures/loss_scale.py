"""What a loss scale changes that no method knows of: each method with it and without it.

Above the training loss of both, below how far apart their weights are.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import RC, legend_below, note, panels, plain, round_ticks, say
from analysis.results.load import Results
from analysis.results.studies import Arrays, load_study
from analysis.style import style_of

COMMAND = "make study FIG=loss_scale"
NOTE = (
    "{model} on {task}, {count}: a thin line each, the thick one their mean. With: the loss is "
    "multiplied by {loss_scale:g} and the gradients of the parameters are divided by it before "
    "the step, as the AdaFisher authors' trainer does on a GPU; the method knows nothing of it. "
    "Without: the loss as it is. Both from the same weights, on the same batches. First step: norm "
    "of the first update, mean over seeds. Distance: between the weights of the two runs, over "
    "that of the run without from the start."
)
GREY = "#555555"


def build(results: Results) -> Figure | Missing:
    """Draw a column for each method."""
    study = load_study(results.runs_dir, "loss_scale")
    if study is None:
        return Missing(COMMAND)
    arrays, facts = study
    methods = facts["methods"]
    with mpl.rc_context(RC):
        figure, axes = panels(2 * len(methods), columns=len(methods), width=4.4, height=3.9)
        for column, method in enumerate(methods):
            draw_losses(axes[column], arrays, facts, method)
            draw_distance(axes[len(methods) + column], arrays, method)
        seeds = len(facts["seeds"])
        count = f"{seeds} seeds" if seeds > 1 else f"seed {facts['seeds'][0]}"
        note(figure, plain(NOTE.format(**facts, count=count)))
    return figure


def draw_losses(ax: Axes, arrays: Arrays, facts: dict[str, Any], method: str) -> Axes:
    """Draw the training loss of each epoch on ``ax``, with the scale and without it."""
    losses, first = arrays[f"{method}/train_loss"], arrays[f"{method}/first_step"].mean(1)
    epochs = np.arange(1, losses.shape[2] + 1)
    color = style_of(method).color
    looks = (("with", color, "-"), ("without", GREY, (0, (4, 2))))
    for (name, shade, dash), runs, norm in zip(looks, losses, first, strict=True):
        label = f"{name} the scale (first step: {norm:.3g})"
        ax.plot(epochs, runs.T, color=shade, ls=dash, lw=0.7, alpha=0.5, label="_seed")
        ax.plot(epochs, runs.mean(0), color=shade, ls=dash, lw=2.2, label=label)
    ax.set_title(plain(f"{method} (lr {facts['learning_rates'][method]:g})"), fontsize=12)
    ax.set(yscale="log", xlabel="epoch", ylabel="training loss (nats)")
    legend_below(ax, [str(line.get_label()) for line in ax.lines])
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
    ax.plot(epochs, distance.T, color=color, lw=0.7, alpha=0.5, label="_seed")
    ax.plot(epochs, distance.mean(0), color=color, lw=2.2, label="distance")
    ax.set(xlabel="epoch", ylabel="distance, over that from the start")
    ax.set_ylim(0, 1.05 * distance.max())
    round_ticks(ax)
    return ax
