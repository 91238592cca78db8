"""Performance profiles: in what share of the tasks a method is within a factor of the fastest."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plots.missing import Missing
from analysis.plots.panels import RC, legend_below, legend_height, note, panels, plain
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH
from analysis.results.suites import Workload, target_of, workloads
from analysis.statistics.profiles import performance_profile
from analysis.statistics.speedup import median_reach, reaches
from analysis.statistics.summary import Floats

COMMAND = "make sweep OPT=adafisher,adamw,kfac,shampoo TASK=digits,tinyshakespeare"
AXES = {"train_seconds": "training time", "step": "steps"}
NOTE = (
    "Workload: one task, model, setting and budget. Its target is the mean over the runs of "
    "{reference} of the validation metric at the epoch of their final result (without a validation "
    "split: of the final result itself, on test). Cost of a method: the median over its seeds of "
    "{axes} until the metric on that split is at least as good as the target for the first time; "
    "none if half of the seeds never get there. "
    "Of {count} workloads, those count for a method in which it was run (in brackets where not "
    "all). Lines are shifted a little, so that none hides another."
)
SHIFT_PERCENT = 0.35
MOST = 32.0  # times the fastest; what takes longer is as good as not there


def build(results: Results) -> Figure | Missing:
    """Draw one panel a measure of cost, one line a method."""
    found = workloads(results)
    if not found:
        return Missing(COMMAND)
    names = sorted({name for workload in found for name in workload.methods})
    references = sorted({workload.reference.name for workload in found})
    with mpl.rc_context(RC):
        figure, axes = panels(len(AXES), height=4.3 + legend_height(len(names)))
        for ax, axis in zip(axes, AXES, strict=True):
            draw_profile(ax, found, names, costs_of(results, found, names, axis))
            ax.set_xlabel(f"{AXES[axis]} to the target, as a multiple of the fastest method's")
        both = " or ".join(AXES.values())
        text = NOTE.format(reference=" or ".join(references), axes=both, count=len(found))
        note(figure, plain(f"{text} {ONE_EACH}"))
    return figure


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


def draw_profile(ax: Axes, found: list[Workload], names: list[str], costs: Floats) -> Axes:
    """Draw the share of workloads against the factor on ``ax`` and return it."""
    least = np.where(np.isfinite(costs), costs, np.inf).min(axis=0)
    with np.errstate(invalid="ignore"):
        ratios = costs / least
    steps = ratios[np.isfinite(ratios) & (ratios <= MOST)]
    factors = np.unique(np.concatenate([[1.0], steps, [max(2.0, 1.1 * steps.max(initial=1.0))]]))
    styles = {name: method.style for one in found for name, method in one.methods.items()}
    labels = []
    shares = 100 * performance_profile(costs, factors)
    for index, (name, share, cost) in enumerate(zip(names, shares, costs, strict=True)):
        run_in = int((~np.isnan(cost)).sum())
        labels.append(plain(name if run_in == len(found) else f"{name} ({run_in})"))
        rises = np.flatnonzero(np.diff(share, prepend=0.0) > 0).tolist()
        look = styles[name].plot() | {"drawstyle": "steps-post", "markevery": rises}
        shift = SHIFT_PERCENT * (index - (len(names) - 1) / 2)
        ax.plot(factors, share + shift, label=labels[-1], clip_on=False, **look)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    ax.set_xlim(1, factors[-1])
    ax.set(ylabel="share of workloads (%)", ylim=(-4, 104))
    legend_below(ax, labels)
    return ax
