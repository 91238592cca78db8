"""One number for a method over several workloads, and a ranking that gaps cannot change.

A workload's *cost* is what its metric leaves to gain: 100 minus an accuracy in percent, and a
perplexity or loss itself. The score is its geometric mean over workloads, each divided by the cost
of one reference method: below 1 is better than the reference. The order of methods is the same
whatever the reference (Fleming and Wallace, 1986), which an arithmetic mean would not give.

Which workloads and seeds belong to the comparison is said beforehand. A method that lacks any of
them has no score and no rank, and the list of what it lacks; the others keep theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.statistics.bootstrap import RESAMPLES, STRATIFIED, interval
from analysis.statistics.equality import subtract
from analysis.statistics.summary import LEVEL, Floats

PERCENT = "_percent"
"""Ending of the metrics that have 100 as their best value, where higher is better."""

STATISTIC = "geometric mean over workloads of the mean cost relative to the reference"
Seeds = Mapping[int, float]


@dataclass(frozen=True)
class WorkloadScore:
    """The aggregate score of one method; lower is better.

    Attributes:
        method: Whose it is.
        value: The score; ``None`` if anything is missing.
        low: Lower end of its interval, stratified over workloads; ``None`` where n < 2.
        high: Its upper end.
        n: Runs that were asked for, of all workloads.
        workloads: Workloads that were asked for.
        missing: What the method lacks, as ``digits: n=2/3``; empty if nothing.
        rank: 1 for the lowest score of the complete methods; ``None`` if incomplete.
        reference: The method that costs are divided by.
        level: Confidence level of the interval.
        statistic: What ``value`` is.
        method_of_interval: How the interval was made.
    """

    method: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    workloads: int
    missing: tuple[str, ...]
    reference: str
    rank: int | None = None
    level: float = LEVEL
    statistic: str = STATISTIC
    method_of_interval: str = STRATIFIED

    @property
    def complete(self) -> bool:
        """Whether every workload has every seed."""
        return not self.missing


def cost(value: float, metric: str, *, higher_is_better: bool) -> float:
    """Tell what a metric leaves to gain; exactly 0 of 100 %, however that was summed up.

    Raises:
        ValueError: If ``has_cost`` says that it cannot be told.
    """
    if not has_cost(metric, higher_is_better=higher_is_better):
        raise ValueError(f"Invalid metric: {metric}. Must end in {PERCENT}, or be better if lower.")
    return float(subtract(100.0, value)) if higher_is_better else value


def has_cost(metric: str, *, higher_is_better: bool) -> bool:
    """Tell whether a metric says what it leaves to gain."""
    return not higher_is_better or metric.endswith(PERCENT)


def improvement_percent(
    result: float, reference: float, *, metric: str, higher_is_better: bool
) -> float:
    """Relative improvement on a reference, in percent of the reference; NaN where that is 0.

    ``100 (e_ref - e) / e_ref``, in which e is the error ``100 - result`` of a metric in percent
    that is to be high, and the result itself of one that is to be low; of any other metric
    ``100 (result - reference) / |reference|``.
    """
    gain = float(subtract(reference, result))
    if higher_is_better:
        gain = -gain
        reference = (
            cost(reference, metric, higher_is_better=True)
            if metric.endswith(PERCENT)
            else reference
        )
    return 100 * gain / abs(reference) if reference else float("nan")


def workload_scores(
    costs: Mapping[str, Mapping[str, Seeds]],
    *,
    reference: str,
    workloads: Mapping[str, Sequence[int]],
    generator: np.random.Generator,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> list[WorkloadScore]:
    """Score and rank methods over the workloads and seeds that were agreed on.

    Args:
        costs: Of each method, workload and seed; what is not among ``workloads`` does not count.
        reference: One of the methods.
        workloads: All that a score is over, each with all of its seeds.
        generator: Source of the resamples, drawn within each workload.
        level: Confidence level.
        resamples: How many.

    Returns:
        Complete methods by rank (those of equal scores share one), then the others by name. If the
        reference is incomplete, so are all.
    """
    lacking = {name: _missing(costs.get(name, {}), workloads) for name in costs}
    runs = sum(map(len, workloads.values()))
    of_reference = lacking.get(reference, ("no run",))
    scores = []
    for name in sorted(costs):
        missing = lacking[name] or tuple(f"{reference}, {what}" for what in of_reference)
        made = WorkloadScore(
            name, None, None, None, runs, len(workloads), missing, reference, level=level
        )
        if made.complete and runs:
            own, base = (
                [
                    np.array([costs[which][task][seed] for seed in workloads[task]])
                    for task in workloads
                ]
                for which in (name, reference)
            )
            value = float(_score(*own, *base))
            low, high = (1.0, 1.0) if name == reference else (None, None)
            # A resample of nothing but zeros has no ratio.
            if name != reference and all((sample > 0).all() for sample in base):
                low, high = interval(
                    [*own, *base], _score, generator=generator, level=level, resamples=resamples
                )
            made = (
                replace(made, value=value, low=low, high=high)
                if np.isfinite(value)
                else replace(made, missing=(f"{reference}: a mean cost of 0",))
            )
        scores.append(made)
    complete = [made for made in scores if made.value is not None]
    values = np.array([made.value for made in complete], dtype=np.float64)
    ranks = 1 + (subtract(values[:, None], values) > 0).sum(axis=1)
    ranked = [replace(made, rank=int(rank)) for made, rank in zip(complete, ranks, strict=True)]
    ranked.sort(key=lambda made: (made.rank, made.method))
    return [*ranked, *(made for made in scores if made.value is None)]


def relative_costs(
    costs: Mapping[str, Mapping[str, Seeds]], *, reference: str, workloads: Sequence[str]
) -> dict[str, list[Floats]]:
    """Costs of all runs divided by the reference's mean cost: scores for profiles and aggregates.

    Args:
        costs: Of each method, workload and seed.
        reference: One of the methods.
        workloads: All that are wanted, in this order.

    Returns:
        For each method an array ``[runs]`` a workload; 1 is as good as the reference, lower is
        better. Empty where the method has no run, or the reference no cost to divide by.
    """
    base = [
        float(np.mean(list(costs.get(reference, {}).get(task, {}).values() or [np.nan])))
        for task in workloads
    ]
    return {
        name: [
            np.array(list(of_method.get(task, {}).values()), dtype=np.float64) / mean
            if mean > 0
            else np.empty(0)
            for task, mean in zip(workloads, base, strict=True)
        ]
        for name, of_method in costs.items()
    }


def _score(*samples: Floats, axis: int = -1) -> Floats:
    """Score of the first half of the samples relative to the second, a sample a workload."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = [np.log(np.mean(sample, axis=axis)) for sample in samples]
        half = len(logs) // 2
        return np.asarray(np.exp(np.mean(logs[:half], axis=0) - np.mean(logs[half:], axis=0)))


def _missing(
    of_method: Mapping[str, Seeds], workloads: Mapping[str, Sequence[int]]
) -> tuple[str, ...]:
    found = []
    for task, seeds in workloads.items():
        have = sum(np.isfinite(of_method.get(task, {}).get(seed, np.nan)) for seed in seeds)
        if have < len(seeds):
            found.append(f"{task}: n={have}/{len(seeds)}")
    return tuple(found)
