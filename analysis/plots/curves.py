"""Curves over seeds on the axes of a figure: mean, band, and what did not finish."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.emphasis import GREY, chosen, rule
from analysis.plots.missing import Missing
from analysis.plots.panels import (
    CUT,
    MOST_LETTERS,
    MOST_PANELS,
    describe,
    few,
    legend,
    logarithmic,
    note,
    panels,
    plain,
    round_ticks,
    say,
    short_names,
    spans_decades,
    spread_ticks,
)
from analysis.results.groups import blocks, shown_of
from analysis.results.load import Results
from analysis.statistics.bands import BAND, bootstrap
from analysis.statistics.equality import subtract
from analysis.statistics.summary import Floats, Summary, curve, summarize
from analysis.style import LEAST_LINE, RC, Style, metric_label, style_of

AXIS_LABELS = {
    "epoch": "epoch",
    "step": "step (updates of the parameters)",
    "train_seconds": "training time (s)",
}
COMMAND = "make sweep OPT=adafisher,adam,kfac,shampoo"
NOTE = (
    "Line: mean over seeds. It is over all n of them at each point, and so ends with the shortest "
    f"run. Band: {BAND}."
)
DIVERGED = " Thin line ending in a cross: a run that diverged, not in the mean."
ON_TIME = " Seeds are interpolated linearly on a common time grid."
NOT_DONE, APART = "No finished run.", "No point that all seeds of a method have."
SETTLED = (0.15, 0.3, 0.5)  # of the run; what comes before may lie outside of the axis
SQUEEZED = 0.4  # of the whole axis; if what comes later spans less, that alone is the axis
CLIPPED = (
    f" Where the lines in colour would span less than {SQUEEZED:.0%} of it, the vertical axis "
    f"leaves out the first {', '.join(f'{share:.0%}' for share in SETTLED[:-1])} or "
    f"{SETTLED[-1]:.0%} of the runs."
)
MOST_LINES = 40  # of a panel; more are one grey
LEFT_OUT = (
    f" {{count}} lines are left out: a panel has at most {MOST_LINES}, those with most seeds."
)

Series = Mapping[str, tuple[Floats, Floats]]


SPLITS = ("test", "validation")


@dataclass(frozen=True)
class Line:
    """What one method shows in one subplot.

    Attributes:
        name: The method.
        counts: Of its seeds, and what became of them.
        style: Colour, dash and marker.
        mean: The averaged curve (``summary.CURVE_COLUMNS``); empty where no run is done.
        diverged: ``(x, y)`` of each run that diverged, up to its last finite value.
        seeds: Runs that are done and have a curve; ``mean`` is empty too where they share no point.
    """

    name: str
    counts: str
    style: Style
    mean: pd.DataFrame
    diverged: list[tuple[Floats, Floats]]
    seeds: int = 0

    @property
    def label(self) -> str:
        """Name and counts."""
        return f"{self.name} ({self.counts})"


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
    all_blocks = list(blocks(groups))
    shown = [(title, easily_read(block, runs)) for title, block in all_blocks[:MOST_PANELS]]
    styles = looks(block for _, block in shown)
    with mpl.rc_context(RC):
        figure, axes = panels(len(shown))
        coloured = chosen(_finals(block, runs) for _, block in shown)
        drawn: dict[str, list[Line]] = {}
        clipped = False
        for ax, (title, block) in zip(axes, shown, strict=True):
            of = metric or judged_by(results, block, runs)
            if of not in curves:
                curves[of] = results.series_by_run(of, axis)
            units = block["units"].iloc[0]
            describe(ax, title_of(title, block), AXIS_LABELS[axis], metric_label(of, units))
            drawn[title] = lines_of(block, runs, curves[of], axis, styles)
            clipped |= draw_block(ax, drawn[title], coloured, percent=of.endswith("_percent"))
            if axis != "train_seconds":
                round_ticks(ax)
        diverged = any(line.diverged for lines in drawn.values() for line in lines)
        text = NOTE + (DIVERGED if diverged else "")
        text += (ON_TIME if axis == "train_seconds" else "") + (CLIPPED if clipped else "")
        whole = sum(len(block) for _, block in all_blocks[:MOST_PANELS])
        if too_many := whole - sum(map(len, drawn.values())):
            text += LEFT_OUT.format(count=too_many)
        note(figure, text + few(all_blocks) + one_legend(figure, drawn, coloured))
    return figure


def judged_by(results: Results, block: pd.DataFrame, runs: Mapping[str, pd.DataFrame]) -> str:
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


def draw_block(
    ax: Axes, lines: list[Line], coloured: Collection[str], *, percent: bool = False
) -> bool:
    """Draw the lines of one subplot on ``ax``, and tell whether its axis leaves out a part."""
    if all(line.mean.empty and not line.diverged for line in lines):
        say(ax, APART if any(line.seeds for line in lines) else NOT_DONE)
    clipped, limits = _limits(ax, [one for one in lines if one.name in coloured], percent=percent)
    for line in lines:
        mean, shown = line.mean, line.name in coloured
        look = line.style.plot() if shown else GREY
        every = max(1, len(mean) // 6)
        ax.plot(mean["x"], mean["mean"], label=plain(line.label), markevery=every, **look)
        if shown and mean["std"].notna().any():
            band = mean["low"], mean["high"]
            ax.fill_between(mean["x"], *band, color=look["color"], alpha=0.14, lw=0)
        for x, y in line.diverged:
            thin = {"color": look["color"], "lw": LEAST_LINE}
            ax.plot(x, y, linestyle=line.style.dash, **thin)
            end = np.clip(y[-1], *limits)
            ax.plot(x[-1], end, "x", ms=5, mew=1.2, clip_on=False, zorder=5, color=look["color"])
    if ax.dataLim.x1 > 0:  # minus infinity where nothing was drawn
        ax.set_xlim(0, 1.04 * ax.dataLim.x1)
    return clipped


def one_legend(
    figure: Figure, drawn: Mapping[str, Sequence[Line]], coloured: Collection[str]
) -> str:
    """Put the legend of all panels below them, and give what does not fit in it for the note.

    Args:
        figure: Of ``panels``.
        drawn: The lines of each panel, by its title.
        coloured: Names of the methods that are in colour.
    """
    lines = [(title, line) for title, part in drawn.items() for line in part]
    names = short_names((line.name for _, line in lines), MOST_LETTERS)
    entries: dict[str, Line2D] = {}
    apart = []
    for name, short in names.items():
        of = [(title, line) for title, line in lines if line.name == name]
        usual = _most(of if name in coloured else lines)
        if name in coloured:
            entries[f"{short} ({usual})"] = Line2D([], [], **of[0][1].style.plot())
        apart += [f"{name}, {title}: {line.counts}" for title, line in of if line.counts != usual]
    grey = len(names) - len([name for name in names if name in coloured])
    if grey:
        entries[f"{grey} others"] = Line2D([], [], **GREY)
    legend(figure, entries)
    text = rule(names, coloured)
    if apart:
        text += f" Other counts: {'; '.join(apart)}."
    return f"{text} {CUT}" if any(name != short for name, short in names.items()) else text


def _most(lines: Sequence[tuple[str, Line]]) -> str:
    """Give the counts that most lines have."""
    return Counter(line.counts for _, line in lines).most_common(1)[0][0]


def _finals(block: pd.DataFrame, runs: Mapping[str, pd.DataFrame]) -> tuple[dict[str, float], bool]:
    """Mean final result of each row of a block, by its name, and whether larger is better."""
    means = {}
    for (_, group), name in zip(block.iterrows(), names_of(block), strict=True):
        part = runs[group["group_id"]]
        means[name] = float(part.loc[part["status"] == "done", "final"].astype(float).mean())
    return means, bool(block["higher_is_better"].iloc[0])


def lines_of(
    block: pd.DataFrame,
    runs: Mapping[str, pd.DataFrame],
    curves: Series,
    axis: str,
    styles: Mapping[str, Style],
) -> list[Line]:
    """Average each group of a block.

    Args:
        block: Rows of ``group_runs``.
        runs: Each group's rows of the run-level frame.
        curves: Each run's curve (``Results.series_by_run``).
        axis: What the curves are against.
        styles: Of ``looks``.
    """
    lines: list[Line] = []
    for (_, group), name in zip(block.iterrows(), names_of(block), strict=True):
        part = runs[group["group_id"]]
        ended = {
            status: [curves[run_id] for run_id in run_ids if run_id in curves]
            for status, run_ids in part.groupby("status")["run_id"]
        }
        done = ended.get("done", [])
        mean = curve(done, to_shortest=axis == "train_seconds", reduce=bootstrap)
        most = 0 if mean.empty else int(mean["n"].max())
        counts: Summary = replace(summarize(part, "final", expected=group["expected"]), n=most)
        diverged = [_up_to_last(*drawn) for drawn in ended.get("diverged", [])]
        diverged = [(x, y) for x, y in diverged if x.size]
        lines.append(Line(name, counts.note, styles[name], mean, diverged, len(done)))
    return lines


def _up_to_last(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Cut a curve after its last finite value; one within that is not finite remains as a gap."""
    finite = np.flatnonzero(np.isfinite(y))
    end = finite[-1] + 1 if finite.size else 0
    return x[:end], y[:end]


def names_of(block: pd.DataFrame) -> list[str]:
    """Name each group of a block."""
    several_rulesets = block["ruleset"].nunique() > 1
    return [
        group["label"] + (f", {group['ruleset']}" if several_rulesets else "")
        for _, group in block.iterrows()
    ]


def looks(blocks_of: Iterable[pd.DataFrame]) -> dict[str, Style]:
    """Style of each name in the blocks of a figure, no two of one method alike if possible."""
    named = {
        name: group
        for block in blocks_of
        for name, (_, group) in zip(names_of(block), block.iterrows(), strict=True)
    }
    times = Counter(group["optimizer"] for group in named.values())
    found: dict[str, Style] = {}
    for name, group in named.items():
        variant = "" if times[group["optimizer"]] == 1 or name == group["optimizer"] else name
        style = style_of(group["optimizer"], group["family"], variant)
        while variant and style in found.values() and len(variant) < len(name) + 100:
            variant += "'"  # another hash: two variants must not look the same here
            style = style_of(group["optimizer"], group["family"], variant)
        found[name] = style
    return found


def _limits(ax: Axes, lines: list[Line], *, percent: bool) -> tuple[bool, tuple[float, float]]:
    """Set scale and limits of y by the means: no interval and no diverged run may flatten them.

    Returns:
        Whether the beginning of the runs is left out, and the limits.
    """
    shown = [
        (line.mean["x"].to_numpy(np.float64), line.mean["mean"].to_numpy(np.float64))
        for line in lines
        if not line.mean.empty
    ]
    if not shown:
        nothing = (np.zeros(2), np.array([0.0, 1.0]))
        shown = [each for line in lines for each in line.diverged] or [nothing]
    x, y = (np.concatenate(part) for part in zip(*shown, strict=True))
    low, high = float(np.nanmin(y)), float(np.nanmax(y))
    if not percent and spans_decades([low, high]):
        logarithmic(ax.yaxis)
        margin = (high / low) ** 0.08
        limits = low / margin, high * margin
        ax.set_ylim(*limits)
        spread_ticks(ax.yaxis)
        return False, limits
    clipped = False
    for share in SETTLED if len(np.unique(x)) > 3 else ():
        late = y[x >= x.min() + share * (x.max() - x.min())]
        later = float(np.nanmin(late)), float(np.nanmax(late))
        span, spread = (float(subtract(top, least)) for least, top in ((low, high), later))
        if 0 < spread < SQUEEZED * span:
            (low, high), clipped = later, True
    margin = 0.08 * float(subtract(high, low)) or 0.05 * abs(high) or 1.0
    limits = low - margin, high + margin
    if percent:
        limits = max(limits[0], 0.0), min(limits[1], max(100.0, high))
    ax.set_ylim(*limits)
    return clipped, limits
