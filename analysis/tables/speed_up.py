"""How much sooner than a reference a method reaches what the reference ends with.

``2.00×``: in half the steps, or half the training time (which leaves out evaluation). Times
are those of the machines that the runs ran on, which may differ, or have been shared. Target, as in
the figure performance_profile: the mean over the reference's runs of their validation metric at the
epoch of their final result (without a validation split: of the final result itself, on test);
reached at the first evaluation whose metric on that split is at least as good. The number is the
median over the reference's runs divided by that over the method's (the later of two middle ones),
with its 95 % interval (percentile bootstrap over the runs of each, 9,999 resamples); inconclusive
for one run of either, and where all runs of each get there at one evaluation, as these tell no
spread. Where half of the runs never get there, their last evaluations make it a bound: ``at least``
for a late reference, ``at most`` for a late method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.render import CSV_ONLY, MISSING, number, range_text
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH
from analysis.results.suites import NOTHING, Target, Workload, remarks, target_of, trials, workloads
from analysis.statistics.compare import INCONCLUSIVE
from analysis.statistics.speedup import AT_MOST, AT_ONCE, EXACT, SpeedUp, reaches, speed_up
from analysis.statistics.summary import Floats
from analysis.style import metric_label

AXES = {"step": "in steps", "train_seconds": "in training time"}
Curves = Mapping[str, tuple[Floats, Floats]]
INDEX = ["task", "against", "method"]
REACHED = ["target", "reached by reference", "reached by method"]
TIMES = [text for name in AXES.values() for text in (name, f"interval {name}")]
SHOWN = ["trials", *REACHED, *TIMES, "incomplete"]
IN_FULL = [f"{name} {what}" for name in AXES.values() for what in ("bound", "value", "low", "high")]
WITHOUT = {AT_ONCE: "there from the start", AT_MOST: "the reference alone gets there"}
"""What is said of a bound without a value; of any other that neither gets there."""
FURTHER = ["level", "statistic", "interval method"]
NOTE = (
    "Reached by: how many of the runs, of all that were started; one that diverged counts up to "
    f"there. Incomplete: what the method lacks of the seeds of the reference. {ONE_EACH}"
)


def build(results: Results) -> pd.DataFrame:
    """Build the flat table, a row for each method of each workload but the reference."""
    found = workloads(results)
    targets = {one.title: target_of(one, results) for one in found}
    curves = {
        (metric, axis): results.series_by_run(metric, axis)
        for metric in {target.metric for target in targets.values()}
        for axis in AXES
    }
    rows: dict[tuple[str, str, str], list[object]] = {}
    for one in found:
        for name in one.methods:
            if name != one.reference.name:
                target = targets[one.title]
                made = [_speed_up(one, name, target, curves[target.metric, axis]) for axis in AXES]
                rows[one.title, one.reference.name, name] = [
                    trials([one], name),
                    *_row(target, one.units, made, remarks([one], name)),
                ]
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=[*SHOWN, *IN_FULL, *FURTHER], dtype=object
    )
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs |= {MISSING: NOTHING, CSV_ONLY: [*IN_FULL, *FURTHER]}
    return table


def _speed_up(workload: Workload, name: str, target: Target, curves: Curves) -> SpeedUp:
    own, base = (
        reaches(
            method.runs["run_id"],
            curves,
            target=target.value,
            higher_is_better=workload.higher_is_better,
        )
        for method in (workload.methods[name], workload.reference)
    )
    return speed_up(own, base, generator=np.random.default_rng(0))


def _row(
    target: Target, units: Mapping[str, str], made: list[SpeedUp], incomplete: str
) -> list[object]:
    first = made[0]
    metric, opened, unit = metric_label(target.metric, units).partition(" (")
    return [
        f"{metric} {number(target.value)}{opened and f' {unit[:-1]}'}",
        f"{first.baseline_reached}/{first.baseline_n}",
        f"{first.reached}/{first.n}",
        *(text for one in made for text in (said(one), interval_said(one))),
        incomplete,
        *(value for one in made for value in (one.bound, one.value, one.low, one.high)),
        *(first.level, first.statistic, first.method),
    ]


def said(made: SpeedUp) -> str:
    """Say the ratio or its bound: ``at least 1.30×``."""
    if made.value is None:
        return WITHOUT.get(made.bound, "neither gets there") if made.n else ""
    return (
        f"{number(made.value)}×" if made.bound == EXACT else f"{made.bound} {number(made.value)}×"
    )


def interval_said(made: SpeedUp) -> str:
    """Say the interval: ``1.10 to 1.30``, ``1.10 or more``; ``inconclusive`` without spread."""
    if made.low is None or made.high is None:
        undecided = made.bound == EXACT or min(made.n, made.baseline_n) < 2
        return INCONCLUSIVE if undecided else ""
    if math.isinf(made.high):
        return f"{number(made.low)} or more" if made.low else "open on both sides"
    return range_text(made.low, made.high) if made.low else f"up to {number(made.high)}"
