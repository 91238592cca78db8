"""How often a run of a method is better than a run of the reference, by ``final``.

``better in``: share of all pairs of a run of each (ties count half; 50 % is no difference), a mean
over the workloads in the rows of several. It says how often, not by how much. A run that diverged
is worse than any that is done. Interval: 95 % percentile bootstrap, the runs of each method
resampled within each workload (2,000 resamples); of few runs it is too narrow, and
where its ends would be equal there is none, as no width would be certainty. ``p``: exact
permutation test that the runs are dealt to the two methods by chance (of more than 2,000 deals so
many are drawn), with Holm's correction over the methods of the same workloads; above 5 %, with one
run, or where no two runs of one method differ, or equal time was measured on unlike machines or
threads, the outcome is inconclusive.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.render import CSV_ONLY, MISSING
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH, Method
from analysis.results.suites import (
    NOTHING,
    SUITE_RULE,
    Workload,
    is_doubled,
    remarks,
    suites,
    timed,
    trials,
)
from analysis.statistics.compare import INCONCLUSIVE
from analysis.statistics.improvement import permutation_p, probability_of_improvement
from analysis.statistics.paired import holm
from analysis.statistics.summary import LEVEL, Floats

RESAMPLES = 2000  # every pair of runs is compared in each
INDEX = ["workloads", "against", "method"]
SHOWN = ["trials", "better in", "interval", "p", "n", "against n", "outcome", "incomplete"]
IN_FULL = ["value", "low", "high", "level", "interval method", "p uncorrected"]
MORE, LESS = "more often better", "more often worse"
NOTE = f"n: runs of the method, against n: of the reference. {SUITE_RULE} {ONE_EACH}"

Samples = tuple[Floats, Floats]


def build(results: Results) -> pd.DataFrame:
    """Build the flat table: of each suite its workloads, then all of them together."""
    rows: dict[tuple[str, str, str], list[object]] = {}
    for suite in suites(results):
        alone = [[workload] for workload in suite.workloads]
        for part in [*alone, suite.workloads] if len(alone) > 1 else alone:
            title = "; ".join(workload.title for workload in part)
            if len(part) > 1:
                title = f"all {len(part)}: {title}"
            names = [
                name
                for name in suite.methods
                if name != suite.reference and any(name in one.methods for one in part)
            ]
            for name, row in zip(names, _rows(part, names), strict=True):
                rows[title, suite.reference, name] = row
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*SHOWN, *IN_FULL], dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs |= {MISSING: NOTHING, CSV_ONLY: IN_FULL}
    return table


def _rows(part: Sequence[Workload], names: Sequence[str]) -> list[list[object]]:
    compared = [[_samples(workload, name) for workload in part] for name in names]
    tested = [_test(part, samples) if _several(samples) else None for samples in compared]
    adjusted = holm(tested, tests=sum(map(_several, compared)))
    return [
        [trials(part, name), *_row(part, name, samples, corrected), p]
        for name, samples, corrected, p in zip(names, compared, adjusted, tested, strict=True)
    ]


def _several(samples: Sequence[Samples]) -> bool:
    """Tell whether each method has two runs at least in each workload."""
    return min(sample.size for pair in samples for sample in pair) > 1


def _test(part: Sequence[Workload], samples: Sequence[Samples]) -> float | None:
    ours, theirs = zip(*samples, strict=True)
    return permutation_p(
        ours,
        theirs,
        higher_is_better=[workload.higher_is_better for workload in part],
        generator=np.random.default_rng(0),
        resamples=RESAMPLES,
    )


def _row(
    part: Sequence[Workload], name: str, samples: Sequence[Samples], p: float | None
) -> list[object]:
    ours, theirs = zip(*samples, strict=True)
    apart = any(timed(workload, name) for workload in part)
    made = probability_of_improvement(
        ours,
        theirs,
        higher_is_better=[workload.higher_is_better for workload in part],
        generator=np.random.default_rng(0),
        resamples=RESAMPLES,
    )
    return [
        "" if made.value is None else f"{100 * made.value:.0f} %",
        "" if made.low is None else f"{100 * made.low:.0f} to {100 * (made.high or 0):.0f} %",
        p,
        sum(own.size for own in ours),
        sum(base.size for base in theirs),
        "" if made.value is None else _outcome(made.value, None if apart else p),
        remarks(part, name),
        *(made.value, made.low, made.high, made.level, made.method),
    ]


def _outcome(value: float, p: float | None) -> str:
    if p is None or p > 1 - LEVEL:
        return INCONCLUSIVE
    return MORE if value > 0.5 else LESS


def _samples(workload: Workload, name: str) -> Samples:
    """Results of the method's and the reference's runs; only their order has a meaning."""
    methods = [workload.methods.get(name), workload.reference]
    own, base = (_results(method) for method in methods)
    known = np.concatenate([own[np.isfinite(own)], base[np.isfinite(base)]])
    worst = known.min() - 1 if workload.higher_is_better else known.max() + 1
    return np.where(np.isnan(own), worst, own), np.where(np.isnan(base), worst, base)


def _results(method: Method | None) -> Floats:
    """Gather the final results of the runs that ended, NaN for those that diverged."""
    if method is None or is_doubled(method.done):
        return np.empty(0)
    diverged = int((method.runs["status"] == "diverged").sum())
    return np.concatenate([method.finals, np.full(diverged, np.nan)])
