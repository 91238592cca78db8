"""The best method of each block of runs, and whether the seeds carry that it is the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.groups import group_runs
from analysis.load import RESULTS, Results
from analysis.statistics.compare import BETTER, Comparison, compare_runs, corrected

TEST = "student"
"""Exact sign flips cannot reach 5 % with fewer than six seeds; most comparisons have fewer."""


@dataclass(frozen=True)
class Contest:
    """The best of a block against each of the others.

    Attributes:
        title: Of the block.
        result: ``final`` or ``best_test``.
        best: Label of the best method by its mean, and its ruleset.
        group_id: Its group.
        against: The comparison with each other method, corrected over the block.
    """

    title: str
    result: str
    best: str
    group_id: str
    against: Mapping[str, Comparison]

    @property
    def is_carried(self) -> bool:
        """Whether the best is significantly better than every other."""
        return bool(self.against) and all(made.outcome == BETTER for made in self.against.values())


def contests(results: Results) -> list[Contest]:
    """Compare within every block that has at least two methods with a finished run."""
    groups = group_runs(results.runs)
    members = dict(list(results.runs.groupby("group_id")))
    found = []
    for title, block in groups.groupby("title", sort=False):
        names = {row["group_id"]: _name(row, block) for _, row in block.iterrows()}
        for result in RESULTS:
            means = {
                key: float(pd.to_numeric(runs[result]).mean())
                for key in names
                for runs in [members[key][members[key]["status"] == "done"]]
                if runs[result].notna().any() and not runs["seed"].duplicated().any()
            }
            if len(means) < 2:
                continue
            pick = max if bool(block["higher_is_better"].iloc[0]) else min
            best = pick(means, key=lambda key: means[key])
            others = [key for key in means if key != best]
            made = corrected(
                [
                    compare_runs(members[best], members[key], result=result, test=TEST)
                    for key in others
                ]
            )
            against = {names[key]: one for key, one in zip(others, made, strict=True)}
            found.append(Contest(str(title), result, names[best], str(best), against))
    return found


def _name(group: pd.Series, block: pd.DataFrame) -> str:
    label = str(group["label"])
    return label if block["ruleset"].nunique() == 1 else f"{label}, {group['ruleset']}"
