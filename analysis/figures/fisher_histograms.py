"""Diagonal of the Fisher information over training: AdaFisher's beside Adam's second moment."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import describe, logarithmic, note, panels, spread_ticks
from analysis.results.load import Results
from analysis.results.studies import Arrays, load_study
from analysis.style import INK, LEAST_FONT, LEAST_LINE, RC, SOFT, style_of

COMMAND = "make study FIG=fisher_histograms"
BINS = 60
DECADES = 8.0  # that are shown at most, below the largest entry
NOTE = (
    "{model} on {task}, seed {seed}. Each line of hills: histogram of the entries of one layer's "
    "diagonal after the step at its left, on a logarithmic axis, scaled to the same height. Tick "
    "on a base line: median. adafisher: F with the damping, which its step divides by; the "
    "dashed line is the damping, where curvature adds nothing to it. adam: "
    "bias-corrected second moment, of whose root its step divides. In the corner: 99th over 1st "
    "percentile at the last step."
)


def build(results: Results) -> Figure | Missing:
    """Draw a panel for each layer and method, a row a layer."""
    study = load_study(results.runs_dir, "fisher_histograms")
    if study is None:
        return Missing(COMMAND)
    arrays, facts = study
    methods, layers = facts["methods"], facts["layers"]
    with mpl.rc_context({**RC, "axes.spines.left": False}):
        height = 0.5 + 0.13 * len(arrays["steps"])
        figure, axes = panels(len(methods) * len(layers), columns=len(methods), height=height)
        for index, ax in enumerate(axes):
            layer, method = layers[index // len(methods)], methods[index % len(methods)]
            draw_hills(ax, arrays, facts, layer, method)
        note(figure, NOTE.format(**facts))
    return figure


def draw_hills(ax: Axes, arrays: Arrays, facts: dict[str, Any], layer: str, method: str) -> Axes:
    """Draw one layer of one method on ``ax`` and return it."""
    values, steps = arrays[f"{method}/{layer}"].astype(np.float64), arrays["steps"]
    color, damping = style_of(method).color, facts["damping"][method]
    describe(ax, f"{method}, {layer} ({values.shape[1]:,} entries)", "diagonal entry", "step")
    positive = values[np.isfinite(values) & (values > 0)]
    high = float(positive.max()) if positive.size else 1.0
    low = max(float(positive.min()) if positive.size else 0.1, high * 10.0**-DECADES)
    edges = np.geomspace(low * 0.8, high * 1.25, BINS + 1)
    middles = np.sqrt(edges[1:] * edges[:-1])
    for position, (step, row) in enumerate(zip(steps, values, strict=True)):
        base = len(steps) - 1 - position
        counts, _ = np.histogram(np.clip(row, edges[0], edges[-1]), edges)
        hills = base + 0.92 * counts / max(1, counts.max())
        front = 2 + position  # a later step stands before an earlier one
        ax.fill_between(middles, base, hills, color=color, alpha=0.35, lw=0, zorder=front)
        ax.plot(middles, hills, color=color, lw=LEAST_LINE, zorder=front, label=f"step {step}")
        median = float(np.median(row))
        ax.plot([median, median], [base, base + 0.3], color=INK, lw=0.9, zorder=front + 0.5)
    if damping:
        ax.axvline(damping, color=SOFT, ls="--", lw=LEAST_LINE, zorder=1)
    least, most = np.percentile(values[-1], [1, 99])
    ratio = most / least if least > 0 else np.inf
    spread = f"{ratio:.3g}×" if np.isfinite(ratio) else "∞"
    corner: dict[str, Any] = {
        "transform": ax.transAxes,
        "ha": "right",
        "va": "top",
        "fontsize": LEAST_FONT,
    }
    ax.text(0.985, 1.0, spread, **corner)
    logarithmic(ax.xaxis)
    ax.set_xlim(edges[0], edges[-1])
    spread_ticks(ax.xaxis)
    ax.set_yticks(range(len(steps)), [f"{step:,}" for step in steps[::-1]])
    ax.set_ylim(-0.1, len(steps) + 0.35)
    return ax
