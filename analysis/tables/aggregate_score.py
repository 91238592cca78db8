"""One number a method over several workloads, relative to a reference; lower is better.

``score``: geometric mean over the workloads of the method's mean cost divided by the reference's
(cost: the error, 100 minus accuracy, or the perplexity, of ``final``; means over seeds); 0.90 is a
cost 10 % lower. ``IQM``: interquartile mean over all runs of their cost divided by the reference's
mean. Intervals: 95 % percentile bootstrap, stratified over workloads (9,999 resamples; for ``IQM``
the reference's mean is taken as known); of few seeds they are too narrow, and where no two runs
differ there is none. Equal scores share a rank. ``n``: runs of the method. A method that lacks a
run has neither score nor rank.
"""

from __future__ import annotations

import numpy as np
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
    lacks,
    suites,
    timed,
    trials,
)
from analysis.statistics.bootstrap import stratified
from analysis.statistics.estimates import Estimate
from analysis.statistics.scores import (
    WorkloadScore,
    cost,
    has_cost,
    relative_costs,
    workload_scores,
)

INDEX = ["workloads", "against", "method"]
SHOWN = ["trials", "rank", "score", "interval", "IQM", "IQM interval", "n", "incomplete"]
IN_FULL = ["low", "high", "IQM low", "IQM high", "level", "statistic", "interval method"]
NOTE = f"{SUITE_RULE} {ONE_EACH}"


def build(results: Results) -> pd.DataFrame:
    """Build the flat table, a row for each method of each suite, the complete ones by rank."""
    rows: dict[tuple[str, str, str], list[object]] = {}
    for suite in suites(results):
        scored = [
            one
            for one in suite.workloads
            if has_cost(one.metric, higher_is_better=one.higher_is_better)
        ]
        if scored:
            rows |= _rows(Suite(scored))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*SHOWN, *IN_FULL], dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs |= {MISSING: NOTHING, CSV_ONLY: IN_FULL}
    return table


def _rows(suite: Suite) -> dict[tuple[str, str, str], list[object]]:
    costs = {
        name: {one.title: _costs(one, name) for one in suite.workloads} for name in suite.methods
    }
    titles = [one.title for one in suite.workloads]
    relative = relative_costs(costs, reference=suite.reference, workloads=titles)
    scores = workload_scores(
        costs,
        reference=suite.reference,
        workloads={one.title: one.seeds for one in suite.workloads},
        generator=np.random.default_rng(0),
    )
    rows = {}
    for made in scores:
        incomplete = [text for one in suite.workloads if (text := lacks(one, made.method))]
        if not incomplete and not made.complete:
            incomplete = [f"the reference lacks {', '.join(made.missing)}"]
        incomplete += [text for one in suite.workloads if (text := timed(one, made.method))]
        pooled = Estimate("", 0, None)
        if made.complete:
            pooled = stratified(relative[made.method], generator=np.random.default_rng(0))
        have = sum(map(len, costs[made.method].values()))
        rows[suite.title, suite.reference, made.method] = [
            trials(suite.workloads, made.method),
            *_row(made, pooled, have, incomplete),
        ]
    return rows


def _row(made: WorkloadScore, pooled: Estimate, have: int, incomplete: list[str]) -> list[object]:
    is_reference = made.method == made.reference
    return [
        made.rank,
        made.value,
        "reference" if is_reference else range_text(made.low, made.high),
        pooled.value,
        range_text(pooled.low, pooled.high),
        str(have) if made.complete else f"{have}/{made.n}",
        "; ".join(incomplete),
        *(made.low, made.high, pooled.low, pooled.high),
        *(made.level, made.statistic, made.method_of_interval),
    ]


def _costs(workload: Workload, name: str) -> dict[int, float]:
    """Costs of a method's finished runs with the workload's seeds; none where one is ambiguous."""
    method = workload.methods.get(name)
    if method is None or is_doubled(method.done):
        return {}
    done = method.done[method.done["seed"].isin(workload.seeds)]
    finals = pd.to_numeric(done["final"])
    return {
        int(seed): cost(value, workload.metric, higher_is_better=workload.higher_is_better)
        for seed, value in zip(done["seed"], finals, strict=True)
        if np.isfinite(value)
    }
