"""Relative improvement of the final test metric on AdamW (else Adam, else SGD) over all tasks."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.missing import Missing
from analysis.plots.panels import describe, legend, note, number, plain, short_names
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, final_means, left_out
from analysis.results.suites import Workload, largest
from analysis.statistics.scores import improvement_percent
from analysis.style import LEAST_LINE, MOST_HEIGHT, PAPER, RC, SOFT, TEXT_WIDTH, Style

COMMAND = "make sweep OPT=adafisher,adamw,kfac,shampoo TASK=digits,tinyshakespeare"
NOTE = (
    "Point: one workload (task, model, setting and budget), mean over seeds. Thick line: median "
    "over workloads. Box, from three workloads: quartiles; thin line: from the least to the most. "
    "Improvement on {reference}: by how many percent of its own the error (100 minus "
    "accuracy) or perplexity is lower. Left of the dashed line the method is worse. A method that "
    "lacks workloads stands below those that have all, with how many it has: medians over other "
    "workloads rank nobody."
)
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
BOX_FROM = 3  # workloads
LETTERS = 40  # of a method's name at the left
DECADES_FROM = 300.0  # percent: a method so far off would press all others together
LINEAR_PERCENT = 10.0  # then the axis is linear up to here, and logarithmic beyond


def build(results: Results) -> Figure | Missing:
    """Draw one row a method, best median on top; those that lack workloads below."""
    chosen, others = largest(results)
    found, styles, references = improvements(chosen)
    if not found:
        return Missing(COMMAND)
    workloads = sorted({title for values in found.values() for title in values})
    with mpl.rc_context(RC):
        height = min(0.45 + 0.16 * len(found), MOST_HEIGHT)
        figure = Figure(figsize=(TEXT_WIDTH, height), layout="constrained")
        draw_improvements(figure.subplots(), found, styles, workloads)
        legend(figure, {title: _handle(mark) for mark, title in enumerate(workloads)})
        lacking = left_out(method for one in chosen for method in one.methods.values())
        text = NOTE.format(reference=" or ".join(references))
        note(figure, f"{text}{lacking} {ONE_EACH}{others}")
    return figure


def improvements(
    workloads: list[Workload],
) -> tuple[dict[str, dict[str, float]], dict[str, Style], list[str]]:
    """Relative improvement of each method in each workload, in percent; the reference has none.

    Returns:
        By method and workload; each method's style; the names of the references.
    """
    found: dict[str, dict[str, float]] = {}
    styles: dict[str, Style] = {}
    references: set[str] = set()
    for workload in workloads:
        means, reference = final_means(list(workload.methods.values())), workload.reference
        for name, method in workload.methods.items():
            if method is reference or name not in means:
                continue
            value = improvement_percent(
                means[name],
                means[reference.name],
                metric=workload.metric,
                higher_is_better=workload.higher_is_better,
            )
            if np.isfinite(value):
                found.setdefault(name, {})[workload.title] = value
                styles[name] = method.style
                references.add(reference.name)
    return found, styles, sorted(references)


def draw_improvements(
    ax: Axes, found: dict[str, dict[str, float]], styles: dict[str, Style], workloads: list[str]
) -> Axes:
    """Draw the boxes and points on ``ax`` and return it."""
    lacking = {name: len(of) < len(workloads) for name, of in found.items()}
    medians = {name: float(np.median(list(of.values()))) for name, of in found.items()}
    names = sorted(found, key=lambda name: (lacking[name], -medians[name], name))
    for row, name in enumerate(names):
        values, color = list(found[name].values()), styles[name].color
        if len(values) >= BOX_FROM:
            first, third = np.quantile(values, [0.25, 0.75])
            ax.hlines(row, min(values), max(values), color=color, lw=0.9)
            ax.barh(row, third - first, left=first, height=0.6, fc=PAPER, ec=color, lw=0.9)
        ax.vlines(medians[name], row - 0.3, row + 0.3, color=color, lw=1.8)
    for mark, title in enumerate(workloads):
        rows = [row for row, name in enumerate(names) if title in found[name]]
        ax.scatter(
            [found[names[row]][title] for row in rows],
            rows,
            c=[styles[names[row]].color for row in rows],
            marker=MARKS[mark % len(MARKS)],
            s=14,
            zorder=3,
        )
    ax.axvline(0, color=SOFT, lw=LEAST_LINE, ls="--")
    if max(abs(value) for values in found.values() for value in values.values()) > DECADES_FROM:
        ax.set_xscale("symlog", linthresh=LINEAR_PERCENT)
        ax.xaxis.set_major_formatter(lambda value, _: number(value))
    short = short_names(names, LETTERS)
    some = {name: f" ({len(found[name])} of {len(workloads)})" * lacking[name] for name in names}
    ax.set_yticks(range(len(names)), [plain(short[name] + some[name]) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    describe(ax, x="relative improvement (%)")
    return ax


def _handle(mark: int) -> Line2D:
    """Draw a workload in the legend: its marker, in the colour of no method."""
    return Line2D([], [], marker=MARKS[mark % len(MARKS)], color=SOFT, linestyle="")
