"""Curves over seeds on the axes of a figure: mean, band, and what did not finish."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.aggregate import LEVEL, Floats, Summary, curve, summarize
from analysis.groups import group_runs
from analysis.load import NO_RUNS, Results
from analysis.style import Style, metric_label, style_of

AXIS_LABELS = {"epoch": "epoch", "train_seconds": "training time (s)"}
RC: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.labelsize": 12,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
NOTE = (
    f"Line: mean over seeds. Band: pointwise {LEVEL:.0%} Student-t interval over seeds, none where "
    "n = 1. Thin line ending in a cross: a run that diverged, not in the mean."
)
ON_TIME = (
    " Seeds are interpolated linearly on a common time grid, up to the shortest run of the method."
)


@dataclass(frozen=True)
class Line:
    """What one method shows in one subplot.

    Attributes:
        label: Text in the legend.
        style: Colour, dash and marker.
        mean: The averaged curve (``aggregate.CURVE_COLUMNS``); empty where no run is done.
        diverged: ``(x, y)`` of each run that diverged.
    """

    label: str
    style: Style
    mean: pd.DataFrame
    diverged: list[tuple[Floats, Floats]]


def draw_curves(results: Results, *, metric: str | None, axis: str) -> Figure:
    """Draw one subplot a block of comparable runs, one line a method.

    Args:
        results: What to draw.
        metric: Metric of the curves; ``None`` for the test metric of each task.
        axis: ``epoch`` or ``train_seconds``.
    """
    groups = group_runs(results.runs)
    blocks = list(groups.groupby("title", sort=True))
    columns = min(2, max(1, len(blocks)))
    rows = max(1, -(-len(blocks) // columns))
    with mpl.rc_context(RC):
        longest = max((len(block) for _, block in blocks), default=0)
        # Room for the legend below: two columns while there are few methods, maybe one for many.
        height = 4.3 + 0.12 * longest + 0.1 * max(0, longest - 12)
        figure = Figure(figsize=(6.2 * columns, height * rows + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(blocks) :]:
            ax.set_axis_off()
        if not blocks:
            _say(axes[0], NO_RUNS)
            return figure
        for ax, (title, block) in zip(axes, blocks, strict=False):
            shown = metric or f"test_{block['metric'].iloc[0]}"
            rulesets = block["ruleset"].unique()
            suffix = f" ({rulesets[0]} hyperparameters)" if len(rulesets) == 1 else ""
            ax.set_title(_plain(f"{title}{suffix}"), pad=10)
            ax.set(xlabel=AXIS_LABELS[axis], ylabel=metric_label(shown))
            draw_block(ax, _lines(results, block, shown, axis), percent=shown.endswith("_percent"))
            if axis == "epoch" and ax.get_xlim()[1] > 2:  # else parts of an epoch are the ticks
                ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        note = NOTE + (ON_TIME if axis == "train_seconds" else "")
        figure.supxlabel(textwrap.fill(note, 88 * columns), fontsize=9, color="#444444")
    return figure


def draw_block(ax: Axes, lines: list[Line], *, percent: bool = False) -> Axes:
    """Draw the lines of one subplot on ``ax`` and return it."""
    if all(line.mean.empty and not line.diverged for line in lines):
        _say(ax, "No finished run.")
    limits = _limits(ax, lines, percent=percent)
    for line in lines:
        mean, color = line.mean, line.style.color
        every = max(1, len(mean) // 8)
        ax.plot(mean["x"], mean["mean"], label=line.label, markevery=every, **line.style.plot())
        if mean["std"].notna().any():
            ax.fill_between(mean["x"], mean["low"], mean["high"], color=color, alpha=0.16, lw=0)
        for x, y in line.diverged:
            ax.plot(x, y, color=color, linestyle=line.style.dash, lw=0.8, alpha=0.8)
            end = np.clip(y[-1], *limits)
            ax.plot(x[-1], end, "x", color=color, ms=10, mew=2.5, clip_on=False, zorder=5)
    if ax.dataLim.x1 > 0:  # minus infinity where nothing was drawn
        ax.set_xlim(0, 1.04 * ax.dataLim.x1)
    if lines:
        # Below the axes, where it covers no curve however many methods there are.
        narrow = max(len(line.label) for line in lines) <= 34
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=2 if narrow and len(lines) > 1 else 1,
            fontsize=9.5,
            handlelength=4,
            frameon=False,
        )
    return ax


def _lines(results: Results, block: pd.DataFrame, metric: str, axis: str) -> list[Line]:
    several_rulesets = block["ruleset"].nunique() > 1
    times = Counter(block["optimizer"])
    lines: list[Line] = []
    used: set[Style] = set()
    for _, group in block.iterrows():
        runs = results.runs[results.runs["group_id"] == group["group_id"]]
        by_status = {
            status: results.series(list(part["run_id"]), metric, axis)
            for status, part in runs.groupby("status")
        }
        mean = curve(by_status.get("done", []), to_shortest=axis == "train_seconds")
        most = 0 if mean.empty else int(mean["n"].max())
        counts: Summary = replace(summarize(runs, "final", expected=group["expected"]), n=most)
        name = group["label"] + (f", {group['ruleset']}" if several_rulesets else "")
        variant = "" if times[group["optimizer"]] == 1 else name
        diverged = [
            (x[np.isfinite(y)], y[np.isfinite(y)])
            for x, y in by_status.get("diverged", [])
            if np.isfinite(y).any()
        ]
        style = style_of(group["optimizer"], group["family"], variant)
        while variant and style in used and len(variant) < 200:
            variant += "'"  # another hash: two variants must not look the same here
            style = style_of(group["optimizer"], group["family"], variant)
        used.add(style)
        lines.append(Line(_plain(f"{name} ({counts.note})"), style, mean, diverged))
    return lines


def _limits(ax: Axes, lines: list[Line], *, percent: bool) -> tuple[float, float]:
    """Set scale and limits of y by the means: no interval and no diverged run may flatten them."""
    shown = [line.mean["mean"].to_numpy(dtype=np.float64) for line in lines]
    if not any(values.size for values in shown):
        shown = [y for line in lines for _, y in line.diverged] or [np.array([0.0, 1.0])]
    low, high = (float(extreme(np.concatenate(shown))) for extreme in (np.min, np.max))
    if not percent and low > 0 and high / low > 10:
        ax.set_yscale("log")
        margin = (high / low) ** 0.08
        limits = low / margin, high * margin
    else:
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        limits = low - margin, high + margin
    if percent:
        limits = max(limits[0], 0.0), min(limits[1], 101.0)
    ax.set_ylim(*limits)
    return limits


def _plain(text: str) -> str:
    """Keep matplotlib from reading a name with dollar signs as mathematics."""
    return text.replace("$", r"\$")


def _say(ax: Axes, text: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
