"""Performance profiles: in what share of the tasks a method is within a factor of the fastest."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.aggregate import Floats
from analysis.load import Results
from analysis.methods import ONE_EACH, Method, final_means, methods_of, reference_of
from analysis.missing import missing_figure
from analysis.panels import RC, legend_below, legend_height, note, panels, plain
from analysis.profiles import cost_to_target, performance_profile

COMMAND = "make sweep OPT=adafisher,adamw,kfac,shampoo TASK=digits,tinyshakespeare"
AXES = {"train_seconds": "training time", "step": "steps"}
NOTE = (
    "Workload: one task, model, setting and budget. Its target is the mean final test metric of "
    "{reference}. Cost of a method: the median over its seeds of {axes} until the test metric is "
    "at least as good as the target for the first time; none if half of the seeds never get there. "
    "Of {count} workloads, those count for a method in which it was run (in brackets where not "
    "all). Lines are shifted a little, so that none hides another."
)
SHIFT_PERCENT = 0.35
MOST = 32.0  # times the fastest; what takes longer is as good as not there


def build(results: Results) -> Figure:
    """Draw one panel a measure of cost, one line a method."""
    blocks = {title: methods for title, methods in methods_of(results).items() if _usable(methods)}
    if not blocks:
        return missing_figure(COMMAND)
    names = sorted({method.name for methods in blocks.values() for method in methods})
    references = sorted({_reference(methods).name for methods in blocks.values()})
    with mpl.rc_context(RC):
        figure, axes = panels(len(AXES), height=4.3 + legend_height(len(names)))
        for ax, axis in zip(axes, AXES, strict=True):
            draw_profile(ax, blocks, names, costs_of(results, blocks, names, axis))
            ax.set_xlabel(f"{AXES[axis]} to the target, as a multiple of the fastest method's")
        both = " or ".join(AXES.values())
        text = NOTE.format(reference=" or ".join(references), axes=both, count=len(blocks))
        note(figure, plain(f"{text} {ONE_EACH}"))
    return figure


def costs_of(
    results: Results, blocks: dict[str, list[Method]], names: list[str], axis: str
) -> Floats:
    """Cost to the target of each method in each workload, ``[methods, workloads]``."""
    costs = np.full((len(names), len(blocks)), np.nan)
    curves = {
        metric: results.series_by_run(metric, axis)
        for metric in {f"test_{methods[0].runs['metric'].iloc[0]}" for methods in blocks.values()}
    }
    for column, methods in enumerate(blocks.values()):
        first = methods[0].runs.iloc[0]
        target = final_means(methods)[_reference(methods).name]
        for method in methods:
            found = curves[f"test_{first['metric']}"]
            costs[names.index(method.name), column] = cost_to_target(
                [found[run_id] for run_id in method.runs["run_id"] if run_id in found],
                target,
                runs=len(method.runs),
                higher_is_better=bool(first["higher_is_better"]),
            )
    return costs


def draw_profile(
    ax: Axes, blocks: dict[str, list[Method]], names: list[str], costs: Floats
) -> Axes:
    """Draw the share of workloads against the factor on ``ax`` and return it."""
    least = np.where(np.isfinite(costs), costs, np.inf).min(axis=0)
    with np.errstate(invalid="ignore"):
        ratios = costs / least
    steps = ratios[np.isfinite(ratios) & (ratios <= MOST)]
    factors = np.unique(np.concatenate([[1.0], steps, [max(2.0, 1.1 * steps.max(initial=1.0))]]))
    styles = {method.name: method.style for methods in blocks.values() for method in methods}
    labels = []
    shares = 100 * performance_profile(costs, factors)
    for index, (name, share, cost) in enumerate(zip(names, shares, costs, strict=True)):
        run_in = int((~np.isnan(cost)).sum())
        labels.append(plain(name if run_in == len(blocks) else f"{name} ({run_in})"))
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


def _usable(methods: list[Method]) -> bool:
    reference = reference_of(methods)
    return len(methods) > 1 and reference is not None and reference.name in final_means(methods)


def _reference(methods: list[Method]) -> Method:
    reference = reference_of(methods)
    assert reference is not None  # else the block is not usable
    return reference
