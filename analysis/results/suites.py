"""Workloads, and which of them a number over several may be taken over.

A *workload* is a block of comparable runs in which a reference method has a result and another
method was started. A *suite* is a set of workloads that are alike: of one reference, mostly of the
same methods, and of one kind of budget. So a folder with a few methods on CIFAR-10 and all of them
on digits has two, and in neither is a method called incomplete for what was never meant to be
compared; and a task that was run at equal time and at equal length does not count twice. Both look
only at what was started, never at how it ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.results.load import Absent, Results
from analysis.results.methods import Method, final_means, methods_of, reference_of
from analysis.statistics.effort import effort_of
from analysis.statistics.summary import summarize
from analysis.statistics.timing import timed_apart

ALIKE = 0.5
"""Share of the methods of two workloads that both must have, to be of one suite."""

SUITE_RULE = (
    "Workload: a block of runs of one task, model, setting and budget, in which the reference has "
    "a result and another method was started; its seeds are those that the reference was started "
    "with. Workloads with one reference and one kind of budget (time, length, a target), of whose "
    "methods at least half are in both, are taken together."
)

TIMED = ("train_seconds", "match_seconds", "calibration", "by_optimizer")
"""Keys of a budget that gives each method a time, or what it does in one."""

NOTHING = Absent(
    "No method has run beside AdamW, Adam or SGD yet.",
    "make sweep OPT=adamw,adafisher TASK=digits,tinyshakespeare",
    "runs two",
)


@dataclass(frozen=True)
class Workload:
    """A block of comparable runs with the method that the others are measured by.

    Attributes:
        title: Of the block.
        methods: By name.
        reference: One of them (``methods.reference_of``).
    """

    title: str
    methods: dict[str, Method]
    reference: Method

    @property
    def metric(self) -> str:
        """Name of the metric, without its split."""
        return self.reference.metric

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return self.reference.higher_is_better

    @property
    def units(self) -> dict[str, str]:
        """What loss and metrics are counted in, by name."""
        return self.reference.units

    @property
    def kind_of_budget(self) -> str:
        """What all methods have in common: ``time``, ``length``, or a ``target``."""
        budget = (self.reference.runs["protocol"].iloc[0] or {}).get("budget", {})
        if "target" in budget:
            return "target"
        return "time" if any(key in budget for key in TIMED) else "length"

    @property
    def seeds(self) -> list[int]:
        """The seeds that the reference was started with, ascending."""
        return sorted({int(seed) for seed in self.reference.runs["seed"]})


@dataclass(frozen=True)
class Target:
    """What the methods of a workload are timed to.

    Attributes:
        metric: What is judged, with its split: on validation where there is a validation split, as
            a moment that is chosen on test says nothing of the test split; else on test.
        value: The mean of ``metric`` over the finished runs of the reference, each at the epoch
            that its final result is from.
    """

    metric: str
    value: float


@dataclass(frozen=True)
class Suite:
    """Workloads that a number over several is taken over.

    Attributes:
        workloads: At least one, by title.
    """

    workloads: list[Workload]

    @property
    def reference(self) -> str:
        """Name of the reference, the same in all workloads."""
        return self.workloads[0].reference.name

    @property
    def title(self) -> str:
        """The titles of the workloads."""
        return "; ".join(workload.title for workload in self.workloads)

    @property
    def methods(self) -> list[str]:
        """Names of the methods of any workload, sorted."""
        return sorted({name for workload in self.workloads for name in workload.methods})


def workloads(results: Results) -> list[Workload]:
    """List the workloads by title."""
    found = []
    for title, methods in sorted(methods_of(results).items()):
        reference = reference_of(methods)
        if len(methods) > 1 and reference is not None and final_means([reference]):
            found.append(Workload(title, {method.name: method for method in methods}, reference))
    return found


def target_of(workload: Workload, results: Results) -> Target:
    """Say what others are timed to in a workload: where its reference ends."""
    on_validation, reference = f"validation_{workload.metric}", workload.reference
    columns = [results.curves.get(run_id, {}) for run_id in reference.done["run_id"]]
    values = [of[on_validation] for of in columns if on_validation in of]
    finite = [of[np.isfinite(of)] for of in values]
    # The epoch is the one that is best on validation.
    ends = [(max if workload.higher_is_better else min)(of) for of in finite if of.size]
    if ends:
        return Target(on_validation, float(np.mean(ends)))
    return Target(f"test_{workload.metric}", final_means([reference])[reference.name])


def suites(results: Results) -> list[Suite]:
    """Put the workloads that are alike together."""
    found: list[list[Workload]] = []
    for workload in workloads(results):
        near = [suite for suite in found if any(_alike(workload, other) for other in suite)]
        found = [suite for suite in found if suite not in near]
        found.append([one for suite in near for one in suite] + [workload])
    return [
        Suite(sorted(suite, key=lambda one: one.title))
        for suite in sorted(found, key=lambda suite: min(one.title for one in suite))
    ]


def largest(results: Results) -> tuple[list[Workload], str]:
    """Choose the suite of most workloads for a figure that has room for one.

    Returns:
        Its workloads, none where there is no suite, and what is to be said of the others.
    """
    found = suites(results)
    if not found:
        return [], ""
    shown = max(found, key=lambda suite: len(suite.workloads))  # of equals the first by title
    others = sum(len(suite.workloads) for suite in found) - len(shown.workloads)
    plural = "s" if others > 1 else ""
    said = f" Of the suite with most workloads; {others} other{plural} left out." if others else ""
    return shown.workloads, said


def lacks(workload: Workload, method: str) -> str:
    """Say what a method lacks of the seeds of a workload, and why; empty where it has all of them.

    Example: ``digits: n=1/3, diverged 2/3``.
    """
    title, seeds = workload.title, workload.seeds
    if method not in workload.methods:
        return f"{title}: not run"
    runs = workload.methods[method].runs
    runs = runs[runs["seed"].isin(seeds)]
    if is_doubled(runs):
        return f"{title}: a seed is there twice"
    made = summarize(runs, "final", expected=len(seeds))
    return "" if made.n == len(seeds) else f"{title}: {made.note}"


def timed(workload: Workload, method: str) -> str:
    """Say where the equal time of a method was measured otherwise than the reference's.

    Example: ``digits: equal time was measured with threads 4 against 1``; empty where it was not.
    """
    if method not in workload.methods:
        return ""
    apart = timed_apart(workload.methods[method].runs, workload.reference.runs)
    return f"{workload.title}: {apart}" if apart else ""


def remarks(part: Sequence[Workload], method: str) -> str:
    """Say all that stands beside a number of a method over workloads: ``lacks``, then ``timed``."""
    found = [of(workload, method) for of in (lacks, timed) for workload in part]
    return "; ".join(filter(None, found))


def trials(part: Sequence[Workload], method: str) -> str:
    """Give the tuning behind a method and its reference, in trials; both where they differ.

    Example: ``8``, or ``8 against 16``.
    """
    there = [workload for workload in part if method in workload.methods]
    ours, theirs = (
        effort_of(pd.concat([one.methods[name].runs for one in there])).count
        for name in (method, part[0].reference.name)
    )
    return ours if ours == theirs else f"{ours} against {theirs}"


def is_doubled(runs: pd.DataFrame) -> bool:
    """Tell whether a seed is there twice, as in a folder that holds runs of two codes."""
    return bool(runs.loc[runs["status"] == "done", "seed"].duplicated().any())


def _alike(one: Workload, other: Workload) -> bool:
    if (one.reference.name, one.kind_of_budget) != (other.reference.name, other.kind_of_budget):
        return False
    both, either = one.methods.keys() & other.methods.keys(), one.methods.keys() | other.methods
    return len(both) >= ALIKE * len(either)
