"""Performance profiles: in what share of the tasks a method is within a factor of the fastest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plots.emphasis import GREY, chosen, rule
from analysis.plots.figure_data import name_of
from analysis.plots.missing import Missing
from analysis.plots.panels import HEIGHTS, describe, legend, note, panels, plain, short_names
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, final_means
from analysis.results.suites import Workload, largest, target_of
from analysis.statistics.profiles import performance_profile
from analysis.statistics.speedup import median_reach, reaches
from analysis.statistics.summary import Floats
from analysis.style import FAINT, RC, SOFT, Style

COMMAND = "make sweep OPT=adafisher,adamw,kfac,shampoo TASK=digits,tinyshakespeare"
AXES = {"train_seconds": "training time", "step": "steps"}
NOTE = (
    "Workload: one task, model, setting and budget. Its target is the mean over the runs of "
    "{reference} of the validation metric at the epoch of their final result (without a validation "
    "split: of the final result itself, on test). Cost of a method: the median over its seeds of "
    "{axes} until the metric on that split is at least as good as the target for the first time; "
    "none if half of the seeds never get there. Times are those of the machines that the runs ran "
    "on, which may differ, or have been shared. {how}"
)
PROFILE = (
    "Of {count} workloads, those count for a method in which it was run (in brackets where not "
    "all)."
)
PLACES = (
    "Each workload (there are but {count}) is a mark: its cost as a multiple of the fastest "
    "method's. At the right edge, hollow: more than {most:g} times, or never."
)
FEW = 4  # workloads, up to which a share of them says less than the marks
MOST = 32.0  # times the fastest; what takes longer is as good as not there
MARKS = ("o", "s", "^", "D")
ROW = 0.13  # inches a method
LETTERS = 20  # of its name at the left


def build(results: Results) -> Figure | Missing:
    """Draw one panel a measure of cost, one line or row a method."""
    found, others = largest(results)
    if not found:
        return Missing(COMMAND)
    names = sorted({name for workload in found for name in workload.methods})
    styles = {name: method.style for one in found for name, method in one.methods.items()}
    references = sorted({workload.reference.name for workload in found})
    few = len(found) <= FEW
    with mpl.rc_context(RC):
        height = 0.45 + ROW * len(names) if few else HEIGHTS[2]
        figure, axes = panels(len(AXES), columns=len(AXES), height=height)
        labels = "to the target, as a multiple of the fastest method's"
        for ax, axis in zip(axes, AXES, strict=True):
            costs = costs_of(results, found, names, axis)
            describe(ax, x=f"{AXES[axis]} {labels}")
            if few:
                draw_places(ax, names, styles, costs)
            else:
                draw_profile(ax, names, styles, costs, coloured_of(found))
        if few:
            axes[1].tick_params(labelleft=False)
            marks = dict(zip((one.title for one in found), MARKS, strict=False))
            legend(figure, {title: _mark(mark) for title, mark in marks.items()})
            how = PLACES.format(count=len(found), most=MOST)
        else:
            shown = {str(line.get_label()): line for line in axes[0].lines}
            entries = {
                name_of(one): line for one, line in shown.items() if line.get_color() != FAINT
            }
            if len(entries) < len(shown):
                entries[f"{len(shown) - len(entries)} others"] = Line2D([], [], **GREY)
            legend(figure, entries)
            how = PROFILE.format(count=len(found)) + rule(names, coloured_of(found))
        both = " or ".join(AXES.values())
        text = NOTE.format(reference=" or ".join(references), axes=both, how=how)
        note(figure, f"{text} {ONE_EACH}{others}")
    return figure


def coloured_of(found: list[Workload]) -> list[str]:
    """Choose the methods that are in colour where not all can be."""
    return chosen(
        (
            {name: means.get(name, np.nan) for name in one.methods},
            one.higher_is_better,
        )
        for one in found
        for means in [final_means(list(one.methods.values()))]
    )


def costs_of(results: Results, found: list[Workload], names: list[str], axis: str) -> Floats:
    """Cost to the target of each method in each workload, ``[methods, workloads]``."""
    costs = np.full((len(names), len(found)), np.nan)
    targets = [target_of(workload, results) for workload in found]
    metrics = {target.metric for target in targets}
    curves = {metric: results.series_by_run(metric, axis) for metric in metrics}
    for column, (workload, target) in enumerate(zip(found, targets, strict=True)):
        for name, method in workload.methods.items():
            median = median_reach(
                reaches(
                    method.runs["run_id"],
                    curves[target.metric],
                    target=target.value,
                    higher_is_better=workload.higher_is_better,
                )
            )
            # Who is there before the first step has no cost that others are a multiple of.
            if median is not None and (median.amount or not median.reached):
                costs[names.index(name), column] = median.amount if median.reached else np.inf
    return costs


def draw_profile(
    ax: Axes,
    names: list[str],
    styles: Mapping[str, Style],
    costs: Floats,
    coloured: Collection[str],
) -> Axes:
    """Draw the share of workloads against the factor on ``ax`` and return it."""
    ratios = ratios_of(costs)
    steps = ratios[np.isfinite(ratios) & (ratios <= MOST)]
    factors = np.unique(np.concatenate([[1.0], steps, [max(2.0, 1.1 * steps.max(initial=1.0))]]))
    shares = 100 * performance_profile(costs, factors)
    for name, share, cost in zip(names, shares, costs, strict=True):
        run_in = int((~np.isnan(cost)).sum())
        shown = plain(name if run_in == costs.shape[1] else f"{name} ({run_in})")
        rises = np.flatnonzero(np.diff(share, prepend=0.0) > 0).tolist()
        look = styles[name].plot() | {"markevery": rises} if name in coloured else GREY
        ax.plot(factors, share, label=shown, clip_on=False, **look | {"drawstyle": "steps-post"})
    _multiples(ax, factors[-1])
    describe(ax, y="share of workloads (%)")
    ax.set_ylim(0, 100)
    return ax


def draw_places(ax: Axes, names: list[str], styles: Mapping[str, Style], costs: Floats) -> Axes:
    """Draw one row a method and one mark a workload on ``ax`` and return it."""
    ratios = ratios_of(costs)
    steps = ratios[np.isfinite(ratios) & (ratios <= MOST)]
    edge = 1.25 * max(2.0, steps.max(initial=1.0))
    for row, (name, ratio) in enumerate(zip(names, ratios, strict=True)):
        color = styles[name].color
        for place, mark in zip(ratio, MARKS, strict=False):
            if np.isnan(place):
                continue
            far = not place <= MOST
            look: dict[str, Any] = {"color": color, "mfc": "none" if far else color, "mew": 0.8}
            shown = plain(name)
            ax.plot(min(place, edge), row, mark, clip_on=False, label=shown, **look)
    ax.set_yticks(range(len(names)), [plain(name) for name in short_names(names, LETTERS).values()])
    ax.set_ylim(len(names) - 0.4, -0.6)
    _multiples(ax, edge)
    return ax


def ratios_of(costs: Floats) -> Floats:
    """Each cost over the least of its workload, ``[methods, workloads]``."""
    least = np.where(np.isfinite(costs), costs, np.inf).min(axis=0)
    with np.errstate(invalid="ignore"):
        ratios: Floats = np.where(np.isinf(costs), np.inf, costs / least)
    return ratios


def _multiples(ax: Axes, most: float) -> None:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    ax.set_xlim(1, most)


def _mark(mark: str) -> Line2D:
    """Draw a workload in the legend, in the colour of no method."""
    return Line2D([], [], marker=mark, color=SOFT, linestyle="")
