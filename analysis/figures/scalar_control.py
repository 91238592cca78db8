"""What the curvature's shape gives: each method beside momentum at its mean step size.

Left both curves, right their difference at the same seed, initial weights and batches.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.curves import (
    APART,
    NOTE,
    Line,
    draw_block,
    judged_by,
    lines_of,
    looks,
    one_legend,
)
from analysis.plots.missing import Missing
from analysis.plots.panels import MOST_PANELS, describe, few, note, panels, plain, round_ticks, say
from analysis.results.controls import COMMAND, Controlled, controlled
from analysis.results.load import Results
from analysis.statistics.bands import bootstrap
from analysis.statistics.summary import Floats, curve
from analysis.style import LEAST_LINE, RC, SOFT, Style, metric_label


def build(results: Results) -> Figure | Missing:
    """Draw two subplots for each control whose method has run."""
    found = list(controlled(results))
    if not found:
        return Missing(COMMAND)
    shown = found[: MOST_PANELS // 2]
    styles = looks(one.pair for one in shown)
    with mpl.rc_context(RC):
        figure, axes = panels(2 * len(shown), columns=2 if len(shown) < 3 else 4)
        drawn = {}
        for position, one in enumerate(shown):
            pair = axes[2 * position : 2 * position + 2]
            drawn[f"{one.title} {position}"] = _draw(one, results, styles, *pair)
        coloured = [line.name for lines in drawn.values() for line in lines]
        text = f"{NOTE}{one_legend(figure, drawn, coloured)}"
        note(figure, text + few([*found, *found]))
    return figure


def differences(one: Controlled, results: Results, metric: str) -> list[tuple[Floats, Floats]]:
    """Each common seed's curve of the method minus its control's, at the epochs that both have."""
    own, control = (
        {
            run["seed"]: series
            for _, run in runs[runs["status"] == "done"].iterrows()
            for series in results.series([run["run_id"]], metric, "epoch")
        }
        for runs in one.runs
    )
    found = []
    for seed in sorted(set(own) & set(control)):
        (x, y), (other_x, other_y) = own[seed], control[seed]
        common, here, there = np.intersect1d(x, other_x, return_indices=True)
        found.append((common, y[here] - other_y[there]))
    return found


def _draw(
    one: Controlled, results: Results, styles: Mapping[str, Style], left: Axes, right: Axes
) -> list[Line]:
    runs = dict(zip(one.pair["group_id"], one.runs, strict=True))
    metric = judged_by(results, one.pair, runs)
    curves = results.series_by_run(metric, "epoch")
    lines = lines_of(one.pair, runs, curves, "epoch", styles)
    of = metric_label(metric, one.units)
    describe(left, f"{one.title}: {lines[0].name}", "epoch", of)
    draw_block(left, lines, [line.name for line in lines], percent=metric.endswith("_percent"))
    series = differences(one, results, metric)
    mean = curve(series, reduce=bootstrap)
    n = 0 if mean.empty else int(mean["n"].max())
    # The legend has the n of each method alone: of their common seeds there may be fewer.
    describe(right, f"method minus control (n={n})", "epoch", f"difference in {of}")
    if mean.empty:
        say(right, APART if series else "No seed of which both are done.")
        return lines
    style, name = lines[0].style, plain(f"{lines[0].name} (n={n})")
    right.axhline(0, color=SOFT, lw=LEAST_LINE)
    right.plot(mean["x"], mean["mean"], **style.plot(), label=name)
    right.fill_between(mean["x"], mean["low"], mean["high"], color=style.color, alpha=0.14, lw=0)
    for ax in (left, right):
        round_ticks(ax)
    return lines
