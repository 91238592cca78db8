"""The best method of each block of runs, and whether the seeds carry that it is the best."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.results.groups import rows_of
from analysis.results.load import RESULTS, Results, once
from analysis.results.suites import is_doubled
from analysis.statistics.effort import Effort, effort_of
from analysis.statistics.leader import Best, best


@dataclass(frozen=True)
class LeaderComparison:
    """The best of a block against each of the others.

    Attributes:
        title: Of the block.
        result: ``final`` or ``best_test``.
        names: Label of each group, by its id.
        efforts: The tuning behind each.
        outcome: Of ``leader.best``, by group ids.
    """

    title: str
    result: str
    names: dict[str, str]
    efforts: dict[str, Effort]
    outcome: Best


@once
def leader_comparisons(results: Results) -> list[LeaderComparison]:
    """Compare the rows of the methods within every block in which some run has a result."""
    groups = rows_of(results.groups)
    members = dict(list(results.runs.groupby("group_id")))
    found = []
    for title, block in groups.groupby("title", sort=False):
        names = {
            str(row["group_id"]): _name(row, block)
            for _, row in block.iterrows()
            if not is_doubled(members[row["group_id"]])
        }
        efforts = {key: effort_of(members[key]) for key in names}
        for result in RESULTS:
            made = best({key: members[key] for key in names}, result=result)
            if made.leader is not None:
                found.append(LeaderComparison(str(title), result, names, efforts, made))
    return found


def _name(group: pd.Series, block: pd.DataFrame) -> str:
    label = str(group["label"])
    return label if block["ruleset"].nunique() == 1 else f"{label}, {group['ruleset']}"
