"""By how much each method differs from the reference on each workload, paired by seed.

Difference: mean over the seeds that both have of the method's final test metric less the
reference's, with the 95 % Student-t interval. ``p``: paired Student t, both sides; ``p over
workloads``: by Holm's correction over the workloads of the method, as for a question about one
method that was asked before the runs. There is no correction over methods: who reads the best of
many off this table needs one (see the comparison).
"""

from __future__ import annotations

import pandas as pd

from analysis.render import CSV_ONLY, MISSING, range_text
from analysis.results.load import Results
from analysis.results.methods import ONE_EACH
from analysis.results.suites import (
    NOTHING,
    SUITE_RULE,
    Suite,
    Workload,
    is_doubled,
    remarks,
    suites,
    trials,
)
from analysis.statistics.compare import by_seed
from analysis.statistics.paired import Pairs, holm, pairs_of, student
from analysis.statistics.summary import LEVEL, moments
from analysis.style import metric_label

INDEX = ["method", "against", "workload"]
SHOWN = ["trials", "metric", "difference", "interval", "n", "p", "p over workloads", "incomplete"]
IN_FULL = ["low", "high", "level", "differences"]
NOTE = f"A metric with ↑ is to be high, one with ↓ low. {SUITE_RULE} {ONE_EACH}"


def build(results: Results) -> pd.DataFrame:
    """Build the flat table: of each suite its methods, and of each method its workloads."""
    rows: dict[tuple[str, str, str], list[object]] = {}
    for suite in suites(results):
        for name in suite.methods:
            if name != suite.reference:
                rows |= _rows(suite, name)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*SHOWN, *IN_FULL], dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs |= {MISSING: NOTHING, CSV_ONLY: IN_FULL}
    return table


def _rows(suite: Suite, name: str) -> dict[tuple[str, str, str], list[object]]:
    shared = [workload for workload in suite.workloads if name in workload.methods]
    paired = [_pairs(workload, name) for workload in shared]
    tested = [student(pairs) if len(pairs.seeds) > 1 else None for pairs in paired]
    corrected_p = holm(tested, tests=len(shared))  # what cannot be tested was asked all the same
    return {
        (name, suite.reference, workload.title): [
            trials([workload], name),
            _metric(workload),
            *_row(pairs, p, corrected, remarks([workload], name)),
        ]
        for workload, pairs, p, corrected in zip(shared, paired, tested, corrected_p, strict=True)
    }


def _row(pairs: Pairs, p: float | None, corrected: float | None, gone: str) -> list[object]:
    count = len(pairs.seeds)
    if not count:
        return [None, "", 0, None, None, gone, None, None, None, ""]
    _, mean, _, low, high = (float(number) for number in moments(pairs.differences, level=LEVEL))
    ends = (low, high) if count > 1 and pairs.spread else (None, None)
    each = "; ".join(
        f"{seed}: {difference:.6g}"
        for seed, difference in zip(pairs.seeds, pairs.differences, strict=True)
    )
    return [mean, range_text(*ends), count, p, corrected, gone, *ends, LEVEL, each]


def _metric(workload: Workload) -> str:
    arrow = "↑" if workload.higher_is_better else "↓"
    return f"{metric_label(workload.metric, workload.units)} {arrow}"


def _pairs(workload: Workload, name: str) -> Pairs:
    ours, theirs = workload.methods[name].runs, workload.reference.runs
    if is_doubled(ours) or is_doubled(theirs):
        return pairs_of({}, {})
    return pairs_of(by_seed(ours, "final"), by_seed(theirs, "final"))
