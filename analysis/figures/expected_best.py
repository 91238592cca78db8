"""Best validation result that is to be expected of so many tuning trials, method by method.

How much of a method's result is its tuning: a line that is still rising at its end asks for more
trials, and one that starts high needs few (Dodge et al., 2019, arXiv 1909.03004).
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.curves import CLIPPED, Line, draw_block, one_legend
from analysis.plots.emphasis import chosen
from analysis.plots.missing import Missing
from analysis.plots.panels import MOST_PANELS, describe, few, note, panels, round_ticks
from analysis.results.load import Results
from analysis.results.trials import Trials, panels_of, trials_of, without_blown_up
from analysis.statistics.expected_best import expected_best
from analysis.statistics.summary import CURVE_COLUMNS, Floats
from analysis.style import RC, metric_label, style_of

COMMAND = "make tune OPT=adafisher,adamw,kfac,shampoo TASK=digits,tinyshakespeare"
NOTE = (
    "Line: expectation of the best of k trials drawn with replacement from all of the method. "
    "Band: one standard deviation of that best to either side, within the range of the trials. "
    "n: trials with a result, of all; one that diverged, failed or ended at more than ten times "
    "the median of the panel, where low is good, counts as the worst result of the others. The "
    "formula is that of random search over the values that were tried: where half of these lay "
    "around the best of the others (sampler grid), or were proposed (tpe), fewer trials would "
    "have given less than the line. A method of whose trials a pruner stopped some has no line: "
    "what these would have come to is not known."
)


def build(results: Results) -> Figure | Missing:
    """Draw one panel a task and budget of the trials, one line a method."""
    # Without those that were stopped, the rest would be better than what a draw gives.
    whole = [one for one in trials_of(results) if not one.pruned.any()]
    blocks = {
        title: panel
        for title, panel in panels_of(whole).items()
        if any(np.isfinite(one.values).any() for one in panel)
    }
    if not blocks:
        return Missing(COMMAND)
    shown = dict(list(blocks.items())[:MOST_PANELS])
    lines = {title: lines_of(block) for title, block in shown.items()}
    coloured = chosen(
        ({one.name: float(one.mean["mean"].iloc[-1]) for one in lines[title]}, higher)
        for title, block in shown.items()
        for higher in [block[0].higher_is_better]
    )
    with mpl.rc_context(RC):
        figure, axes = panels(len(shown))
        clipped = False
        for ax, (title, block) in zip(axes, shown.items(), strict=True):
            metric = block[0].metric
            describe(ax, title, "trials k", metric_label(metric, block[0].units))
            clipped |= draw_trials(ax, lines[title], coloured, percent=metric.endswith("_percent"))
        text = NOTE + (CLIPPED if clipped else "") + few(list(blocks))
        note(figure, text + one_legend(figure, lines, coloured))
    return figure


def draw_trials(ax: Axes, lines: list[Line], coloured: list[str], *, percent: bool) -> bool:
    """Draw the expected best of each method of one task on ``ax`` (see ``curves.draw_block``)."""
    clipped = draw_block(ax, lines, coloured, percent=percent)
    ax.set_xlim(left=1 - 0.05 * max(line.mean["x"].max() for line in lines))
    round_ticks(ax)
    return clipped


def lines_of(block: list[Trials]) -> list[Line]:
    """Make a line of the expected best of each method of one task."""
    higher = block[0].higher_is_better
    known, worst = _bounded(block)
    lines = []
    for one, values in zip(block, known, strict=True):
        count = int(np.isfinite(values).sum())
        counts = f"n={count}/{values.size}" if count < values.size else f"n={count}"
        made = expected_best(values, higher_is_better=higher, failed_value=worst)
        values = np.where(np.isfinite(values), values, worst)
        band = [
            (made["value"] + sign * made["std"]).clip(values.min(), values.max())
            for sign in (-1, 1)
        ]
        columns = [made["trials"], made["n"], made["value"], made["std"], *band]
        mean = pd.DataFrame(dict(zip(CURVE_COLUMNS, columns, strict=True)))
        style = style_of(one.optimizer, one.family)
        lines.append(Line(one.optimizer, counts, style, mean, []))
    return lines


def _bounded(block: list[Trials]) -> tuple[list[Floats], float]:
    """Take out what blew up, with which a mean says nothing, and find the worst of the rest."""
    found = without_blown_up(block)
    extreme = np.nanmin if block[0].higher_is_better else np.nanmax
    return found, float(extreme(np.concatenate(found)))
