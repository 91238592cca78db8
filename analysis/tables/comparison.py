"""Is the best method of each task better than the others? By paired differences over seeds.

The best by its mean against every other method: mean difference over the seeds that both have, with
the 95 % Student-t interval of these two alone, and the p-value of their paired Student t, corrected
for the choice of the best: it is the largest of the task if the best is ahead of every other, or by
Holm's correction over all pairs of methods where that is less. One seed decides nothing, nor do
seeds that all differ by the same, nor hyperparameters that were tuned with unequal effort, nor
equal time that was measured on unlike machines or threads. Seeds in all: what the test of the two
alone needs to find such a difference in four of five cases; where it has found it, what it needs
with the correction. They are to be looked at once: who adds seeds and looks again calls equal
methods different more often, and make versus is the way to look by stages.
"""

from __future__ import annotations

import pandas as pd

from analysis.render import MISSING, range_text
from analysis.results.leaders import leader_comparisons
from analysis.results.load import Absent, Results
from analysis.statistics.compare import INCONCLUSIVE
from analysis.statistics.effort import LEGEND, both

INDEX = ["task", "result", "best", "against"]
COLUMNS = ["tuning", "difference", "interval", "n", "p", "outcome", "why"]
NOTE = LEGEND


def build(results: Results) -> pd.DataFrame:
    """Build the flat table of every contest (see ``leaders.contests``)."""
    rows: dict[tuple[str, str, str, str], list[object]] = {}
    for contest in leader_comparisons(results):
        leader = contest.names[str(contest.outcome.leader)]
        effort = contest.efforts[str(contest.outcome.leader)]
        for key, made in contest.outcome.against.items():
            seeds = f" ({made.seeds})" if made.outcome == INCONCLUSIVE and made.seeds else ""
            rows[contest.title, contest.result, leader, contest.names[key]] = [
                both(effort, contest.efforts[key]),
                made.difference,
                range_text(made.low, made.high),
                made.n,
                made.p,
                f"{made.outcome}{seeds}",
                made.reason,
            ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS, dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs[MISSING] = Absent(
        "No two methods have run on one task yet.", "make sweep", "runs four"
    )
    return table
