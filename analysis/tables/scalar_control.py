"""What the curvature's shape gives: each method against momentum at its mean step size.

Differences are paired by seed (the same initial weights and batches), with the 95 % Student-t
interval of their mean and the p-value of the paired Student-t test; no correction over rows.
"""

from __future__ import annotations

import pandas as pd

from analysis.aggregate import summarize
from analysis.contest import TEST
from analysis.controls import COMMAND, controlled
from analysis.load import RESULTS, Results
from analysis.render import MISSING, cell_text, range_text
from analysis.statistics.compare import compare_runs
from analysis.statistics.effort import both, effort_of

INDEX = ["task", "method", "result"]
COLUMNS = ["tuning", "the method", "its control", "difference", "interval", "n", "p", "outcome"]


def build(results: Results) -> pd.DataFrame:
    """Build the flat table, two rows for each control whose method has run."""
    rows: dict[tuple[str, str, str], list[object]] = {}
    for one in controlled(results):
        for result in RESULTS:
            # Both have the same hyperparameters: the control was tuned as much as its method.
            made = compare_runs(*one.runs, result=result, test=TEST, allow_unequal=True)
            cells = [cell_text(summarize(runs, result, expected=made.n)) for runs in one.runs]
            label = str(one.pair["label"].iloc[0])
            rows[one.title, f"{label}, {one.pair['ruleset'].iloc[0]}", result] = [
                both(*(effort_of(runs) for runs in one.runs)),
                *cells,
                made.difference,
                range_text(made.low, made.high),
                made.n,
                made.p,
                made.outcome,
            ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS, dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs[MISSING] = f"No control has run yet. `{COMMAND}` runs some."
    return table
