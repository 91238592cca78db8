"""Curves over seeds on the axes of a figure: mean, band, and what did not finish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import (
    RC,
    legend_below,
    legend_height,
    note,
    panels,
    plain,
    round_ticks,
    say,
    spans_decades,
)
from analysis.results.groups import blocks, shown_of
from analysis.results.load import Results
from analysis.statistics.bands import BAND, bootstrap
from analysis.statistics.equality import subtract
from analysis.statistics.summary import Floats, Summary, curve, summarize
from analysis.style import Style, metric_label, style_of

AXIS_LABELS = {
    "epoch": "epoch",
    "step": "step (updates of the parameters)",
    "train_seconds": "training time (s)",
}
COMMAND = "make sweep OPT=adafisher,adam,kfac,shampoo"
NOTE = (
    f"Line: mean over seeds. Band: {BAND}. Thin line ending in a cross: a run that diverged, not "
    "in the mean."
)
ON_TIME = (
    " Seeds are interpolated linearly on a common time grid, up to the shortest run of the method."
)
MOST_LINES = 40  # more cannot be told apart
LEFT_OUT = (
    f" {{count}} lines are left out: a panel has at most {MOST_LINES}, those with most seeds."
)

Series = Mapping[str, tuple[Floats, Floats]]


SPLITS = ("test", "validation")


@dataclass(frozen=True)
class Line:
    """What one method shows in one subplot.

    Attributes:
        label: Text in the legend.
        style: Colour, dash and marker.
        mean: The averaged curve (``summary.CURVE_COLUMNS``); empty where no run is done.
        diverged: ``(x, y)`` of each run that diverged, up to its last finite value.
    """

    label: str
    style: Style
    mean: pd.DataFrame
    diverged: list[tuple[Floats, Floats]]


def draw_curves(results: Results, *, metric: str | None, axis: str) -> Figure | Missing:
    """Draw one subplot a block of comparable runs, one line a method.

    Args:
        results: What to draw.
        metric: Metric of the curves; ``None`` for the test metric of each task.
        axis: ``epoch``, ``step`` or ``train_seconds``.
    """
    if results.runs.empty:
        return Missing(COMMAND)
    groups = shown_of(results.groups)
    runs = {str(group_id): part for group_id, part in results.runs.groupby("group_id")}
    curves: dict[str, Series] = {}
    shown_blocks = [(title, easily_read(block, runs)) for title, block in blocks(groups)]
    with mpl.rc_context(RC):
        longest = max(len(block) for _, block in shown_blocks)
        figure, axes = panels(len(shown_blocks), height=4.3 + legend_height(longest))
        for ax, (title, block) in zip(axes, shown_blocks, strict=True):
            shown = metric or _judged_by(results, block, runs)
            if shown not in curves:
                curves[shown] = results.series_by_run(shown, axis)
            ax.set_title(plain(title_of(title, block)), pad=10)
            ax.set(
                xlabel=AXIS_LABELS[axis], ylabel=plain(metric_label(shown, block["units"].iloc[0]))
            )
            lines = lines_of(block, runs, curves[shown], axis)
            draw_block(ax, lines, percent=shown.endswith("_percent"))
            if axis != "train_seconds":
                round_ticks(ax)
        too_many = len(groups) - sum(len(block) for _, block in shown_blocks)
        left_out = LEFT_OUT.format(count=too_many) if too_many else ""
        note(figure, NOTE + (ON_TIME if axis == "train_seconds" else "") + left_out)
    return figure


def _judged_by(results: Results, block: pd.DataFrame, runs: Mapping[str, pd.DataFrame]) -> str:
    """Name the test metric of a block; that on validation where no run has a whole curve of it."""
    name = block["metric"].iloc[0]
    ids = [run_id for group_id in block["group_id"] for run_id in runs[group_id]["run_id"]]
    columns = [results.curves.get(run_id, {}) for run_id in ids]
    is_there = {split: any(f"{split}_{name}" in of for of in columns) for split in SPLITS}
    return next((f"{split}_{name}" for split in SPLITS if is_there[split]), f"test_{name}")


def title_of(title: str, block: pd.DataFrame) -> str:
    """Title of a panel: the block, and where its hyperparameters are from if that is one place."""
    rulesets = block["ruleset"].unique()
    return f"{title} ({rulesets[0]} hyperparameters)" if len(rulesets) == 1 else title


def easily_read(block: pd.DataFrame, runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Of too many groups keep those that have most runs."""
    counts = block["group_id"].map(lambda group_id: len(runs[group_id]))
    kept = counts.sort_values(ascending=False, kind="stable").index[:MOST_LINES]
    return block.loc[sorted(kept)]


def draw_block(ax: Axes, lines: list[Line], *, percent: bool = False) -> Axes:
    """Draw the lines of one subplot on ``ax`` and return it."""
    if all(line.mean.empty and not line.diverged for line in lines):
        say(ax, "No finished run.")
    limits = _limits(ax, lines, percent=percent)
    opacity = 0.16 if len(lines) <= 8 else 0.1
    for line in lines:
        mean, color = line.mean, line.style.color
        every = max(1, len(mean) // 8)
        ax.plot(mean["x"], mean["mean"], label=line.label, markevery=every, **line.style.plot())
        if mean["std"].notna().any():
            band = mean["low"], mean["high"]
            ax.fill_between(mean["x"], *band, color=color, alpha=opacity, lw=0)
        for x, y in line.diverged:
            ax.plot(x, y, color=color, linestyle=line.style.dash, lw=0.8, alpha=0.8)
            end = np.clip(y[-1], *limits)
            ax.plot(x[-1], end, "x", color=color, ms=10, mew=2.5, clip_on=False, zorder=5)
    if ax.dataLim.x1 > 0:  # minus infinity where nothing was drawn
        ax.set_xlim(0, 1.04 * ax.dataLim.x1)
    if lines:
        legend_below(ax, [line.label for line in lines])
    return ax


def lines_of(
    block: pd.DataFrame, runs: Mapping[str, pd.DataFrame], curves: Series, axis: str
) -> list[Line]:
    """Average each group of a block.

    Args:
        block: Rows of ``group_runs``.
        runs: Each group's rows of the run-level frame.
        curves: Each run's curve (``Results.series_by_run``).
        axis: What the curves are against.
    """
    lines: list[Line] = []
    for (_, group), (name, style) in zip(block.iterrows(), looks(block), strict=True):
        part = runs[group["group_id"]]
        ended = {
            status: [curves[run_id] for run_id in run_ids if run_id in curves]
            for status, run_ids in part.groupby("status")["run_id"]
        }
        mean = curve(ended.get("done", []), to_shortest=axis == "train_seconds", reduce=bootstrap)
        most = 0 if mean.empty else int(mean["n"].max())
        counts: Summary = replace(summarize(part, "final", expected=group["expected"]), n=most)
        diverged = [_up_to_last(*drawn) for drawn in ended.get("diverged", [])]
        diverged = [(x, y) for x, y in diverged if x.size]
        lines.append(Line(plain(f"{name} ({counts.note})"), style, mean, diverged))
    return lines


def _up_to_last(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Cut a curve after its last finite value; one within that is not finite remains as a gap."""
    finite = np.flatnonzero(np.isfinite(y))
    end = finite[-1] + 1 if finite.size else 0
    return x[:end], y[:end]


def looks(block: pd.DataFrame) -> list[tuple[str, Style]]:
    """Name and style of each group of a block, no two of one style where they can differ."""
    several_rulesets = block["ruleset"].nunique() > 1
    times = Counter(block["optimizer"])
    found: list[tuple[str, Style]] = []
    used: set[Style] = set()
    for _, group in block.iterrows():
        name = group["label"] + (f", {group['ruleset']}" if several_rulesets else "")
        variant = "" if times[group["optimizer"]] == 1 else name
        style = style_of(group["optimizer"], group["family"], variant)
        while variant and style in used and len(variant) < 200:
            variant += "'"  # another hash: two variants must not look the same here
            style = style_of(group["optimizer"], group["family"], variant)
        used.add(style)
        found.append((name, style))
    return found


def _limits(ax: Axes, lines: list[Line], *, percent: bool) -> tuple[float, float]:
    """Set scale and limits of y by the means: no interval and no diverged run may flatten them."""
    shown = [line.mean["mean"].to_numpy(dtype=np.float64) for line in lines]
    if not any(values.size for values in shown):
        shown = [y for line in lines for _, y in line.diverged] or [np.array([0.0, 1.0])]
    low, high = (float(extreme(np.concatenate(shown))) for extreme in (np.nanmin, np.nanmax))
    if not percent and spans_decades([low, high]):
        ax.set_yscale("log")
        margin = (high / low) ** 0.08
        limits = low / margin, high * margin
    else:
        margin = 0.08 * float(subtract(high, low)) or 0.05 * abs(high) or 1.0
        limits = low - margin, high + margin
    if percent:
        limits = max(limits[0], 0.0), min(limits[1], 101.0)
    ax.set_ylim(*limits)
    return limits
