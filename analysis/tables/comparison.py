"""Is the best method of each task better than the others? By paired differences over seeds.

The best by its mean against every other method: mean difference over the seeds that both have, with
its 95 % Student-t interval, and the p-value of the paired Student t with Holm's correction over the
task. One seed decides nothing, nor do hyperparameters that were tuned with unequal effort.
"""

from __future__ import annotations

import pandas as pd

from analysis.contest import contests
from analysis.load import Results
from analysis.render import MISSING, range_text
from analysis.statistics.compare import INCONCLUSIVE
from analysis.statistics.effort import LEGEND, both

INDEX = ["task", "result", "best", "against"]
COLUMNS = ["tuning", "difference", "interval", "n", "p", "outcome", "why"]
NOTE = LEGEND


def build(results: Results) -> pd.DataFrame:
    """Build the flat table of every contest (see ``contest.contests``)."""
    rows: dict[tuple[str, str, str, str], list[object]] = {}
    for contest in contests(results):
        leader = contest.names[str(contest.outcome.leader)]
        effort = contest.efforts[str(contest.outcome.leader)]
        for key, made in contest.outcome.against.items():
            undecided = made.outcome == INCONCLUSIVE and made.more_seeds
            more = f" ({made.more_seeds} more seeds)" if undecided else ""
            rows[contest.title, contest.result, leader, contest.names[key]] = [
                both(effort, contest.efforts[key]),
                made.difference,
                range_text(made.low, made.high),
                made.n,
                made.p,
                f"{made.outcome}{more}",
                made.reason,
            ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS, dtype=object)
    table.index = pd.MultiIndex.from_tuples(list(rows), names=INDEX)
    table.attrs[MISSING] = "No two methods have run on one task yet. `make sweep` runs four."
    return table
