"""What the curvature's shape gives: each method against momentum at its mean step size.

Differences are paired by seed (the same initial weights and batches), with the 95 % Student-t
interval of their mean and the p-value of the paired Student-t test with Holm's correction over the
methods of the task. Differences that are all equal tell no spread, and decide nothing.
"""

from __future__ import annotations

import pandas as pd

from analysis.render import MISSING, cell_text, range_text
from analysis.results.controls import COMMAND, Controlled, controlled
from analysis.results.load import RESULTS, Absent, Results
from analysis.statistics.compare import Comparison, compare_runs, corrected
from analysis.statistics.effort import both, effort_of
from analysis.statistics.summary import summarize

INDEX = ["task", "method", "result"]
COLUMNS = ["tuning", "the method", "its control", "difference", "interval", "n", "p", "outcome"]


def build(results: Results) -> pd.DataFrame:
    """Build the flat table, a row for each result of each control whose method has run."""
    found = list(controlled(results))
    made = {(at, result): one for result in RESULTS for at, one in _compared(found, result).items()}
    rows: dict[tuple[str, str, str], list[object]] = {}
    for at, one in enumerate(found):
        for result in results.known_of(one.pair):
            test = made[at, result]
            cells = [cell_text(summarize(runs, result, expected=test.n)) for runs in one.runs]
            label = str(one.pair["label"].iloc[0])
            rows[one.title, f"{label}, {one.pair['ruleset'].iloc[0]}", result] = [
                both(*(effort_of(runs) for runs in one.runs)),
                *cells,
                test.difference,
                range_text(test.low, test.high),
                test.n,
                test.p,
                test.outcome,
            ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS, dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs[MISSING] = Absent("No control has run yet.", COMMAND, "runs some")
    return table


def _compared(found: list[Controlled], result: str) -> dict[int, Comparison]:
    """Compare each method with its control; those of one task are one family of tests."""
    made: dict[int, Comparison] = {}
    for title in {one.title for one in found}:
        family = [at for at, one in enumerate(found) if one.title == title]
        # Both have the same hyperparameters: the control was tuned as much as its method.
        tests = [compare_runs(*found[at].runs, result=result, allow_unequal=True) for at in family]
        made |= zip(family, corrected(tests), strict=True)
    return made
