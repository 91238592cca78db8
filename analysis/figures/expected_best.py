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

from analysis.plots.curves import Line, draw_block
from analysis.plots.missing import Missing
from analysis.plots.panels import RC, legend_height, note, panels, plain, round_ticks
from analysis.results.load import Results
from analysis.results.trials import Trials, trials_of
from analysis.statistics.expected_best import expected_best
from analysis.statistics.summary import CURVE_COLUMNS, Floats
from analysis.style import metric_label, style_of

COMMAND = "make tune OPT=adafisher,adamw,kfac,shampoo TASK=digits,tinyshakespeare"
BLOWN_UP = 10.0  # times the median of the panel, for a metric that is to be low
NOTE = (
    "Line: expectation of the best of k trials drawn with replacement from all of the method. "
    "Band: one standard deviation of that best to either side, within the range of the trials. "
    "n: trials with a result, of all; one that diverged, failed or ended at more than ten times "
    "the median of the panel, where low is good, counts as the worst result of the others. The "
    "formula is that of random search over the values that were tried: where half of these lay "
    "around the best of the others (sampler grid), or were proposed (tpe), fewer trials would "
    "have given less than the line."
)


def build(results: Results) -> Figure | Missing:
    """Draw one panel a task and budget of the trials, one line a method."""
    found = trials_of(results)
    blocks = {title: [one for one in found if one.title == title] for title in _titles(found)}
    if not blocks:
        return Missing(COMMAND)
    with mpl.rc_context(RC):
        longest = max(map(len, blocks.values()))
        figure, axes = panels(len(blocks), height=4.3 + legend_height(longest))
        for ax, (title, block) in zip(axes, blocks.items(), strict=True):
            ax.set_title(plain(title), pad=10)
            draw_trials(ax, block)
        note(figure, NOTE)
    return figure


def draw_trials(ax: Axes, block: list[Trials]) -> Axes:
    """Draw the expected best of each method of one task on ``ax`` and return it."""
    metric, higher = block[0].metric, block[0].higher_is_better
    known, worst = _bounded(block)
    lines = []
    for one, values in zip(block, known, strict=True):
        count = int(np.isfinite(values).sum())
        label = f"{count}/{values.size}" if count < values.size else str(count)
        made = expected_best(values, higher_is_better=higher, failed_value=worst)
        values = np.where(np.isfinite(values), values, worst)
        band = [
            (made["value"] + sign * made["std"]).clip(values.min(), values.max())
            for sign in (-1, 1)
        ]
        columns = [made["trials"], made["n"], made["value"], made["std"], *band]
        mean = pd.DataFrame(dict(zip(CURVE_COLUMNS, columns, strict=True)))
        style = style_of(one.optimizer, one.family)
        lines.append(Line(plain(f"{one.optimizer} (n={label})"), style, mean, []))
    draw_block(ax, lines, percent=metric.endswith("_percent"))
    ax.set(xlabel="trials k", ylabel=plain(metric_label(metric, block[0].units)))
    ax.set_xlim(left=1 - 0.05 * max(len(one.values) for one in block))
    round_ticks(ax)
    return ax


def _bounded(block: list[Trials]) -> tuple[list[Floats], float]:
    """Take out what blew up, with which a mean says nothing, and find the worst of the rest."""
    found = [np.where(np.isfinite(one.values), one.values, np.nan) for one in block]
    median = float(np.nanmedian(np.concatenate(found)))
    if not block[0].higher_is_better and median > 0:
        most = BLOWN_UP * median
        found = [np.where(values > most, np.nan, values) for values in found]
    extreme = np.nanmin if block[0].higher_is_better else np.nanmax
    return found, float(extreme(np.concatenate(found)))


def _titles(found: list[Trials]) -> list[str]:
    """Name the panels in which some trial has a result."""
    return list(dict.fromkeys(one.title for one in found if np.isfinite(one.values).any()))
