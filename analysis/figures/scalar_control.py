"""What the curvature's shape gives: each method beside momentum at its mean step size.

Left both curves, right their difference at the same seed, initial weights and batches.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.curves import draw_block, lines_of
from analysis.plots.missing import Missing
from analysis.plots.panels import RC, note, panels, plain, round_ticks, say
from analysis.results.controls import COMMAND, Controlled, controlled
from analysis.results.load import Results
from analysis.statistics.bands import BAND, bootstrap
from analysis.statistics.summary import Floats, curve
from analysis.style import metric_label


def build(results: Results) -> Figure | Missing:
    """Draw two subplots for each control whose method has run."""
    found = list(controlled(results))
    if not found:
        return Missing(COMMAND)
    with mpl.rc_context(RC):
        figure, axes = panels(2 * len(found), height=4.5)
        for position, one in enumerate(found):
            _draw(one, results, *axes[2 * position : 2 * position + 2])
        note(figure, f"Line: mean over seeds. Band: {BAND}.")
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


def _draw(one: Controlled, results: Results, left: Axes, right: Axes) -> None:
    metric = f"test_{one.metric}"
    curves = results.series_by_run(metric, "epoch")
    runs = dict(zip(one.pair["group_id"], one.runs, strict=True))
    lines = lines_of(one.pair, runs, curves, "epoch")
    name = plain(str(one.pair["label"].iloc[0]))
    left.set_title(f"{plain(one.title)}: {name}", pad=10)
    left.set(xlabel="epoch", ylabel=plain(metric_label(metric, one.units)))
    draw_block(left, lines, percent=metric.endswith("_percent"))
    series = differences(one, results, metric)
    right.set_title("method minus control", pad=10)
    right.set(xlabel="epoch", ylabel=plain(f"difference in {metric_label(metric, one.units)}"))
    mean = curve(series, reduce=bootstrap)
    if mean.empty:
        say(right, "No seed of which both are done.")
        return
    style = lines[0].style
    right.axhline(0, color="#888888", lw=1)
    right.plot(mean["x"], mean["mean"], **style.plot(), label=f"{name} (n={len(series)})")
    right.fill_between(mean["x"], mean["low"], mean["high"], color=style.color, alpha=0.16, lw=0)
    for ax in (left, right):
        round_ticks(ax)
