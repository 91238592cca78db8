"""What has run: the seeds that are done, of those that any method of the same task has."""

from __future__ import annotations

import pandas as pd

from analysis.aggregate import summarize
from analysis.groups import BLOCK, group_runs
from analysis.load import Results
from analysis.render import Cell

INDEX = ["optimizer", "ruleset"]
COLUMNS = ["task", "seeds"]
NONE = "none"


def build(results: Results) -> pd.DataFrame:
    """Build the grid.

    Returns:
        Index ``INDEX``; columns ``COLUMNS``, one for each block of comparable runs.
    """
    groups = group_runs(results.runs)
    members = dict(list(results.runs.groupby("group_id")))
    rows = list(dict.fromkeys(sorted(zip(groups["label"], groups["ruleset"], strict=True))))
    cells: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    for _, group in groups.iterrows():
        summary = summarize(members[group["group_id"]], "final", expected=group["expected"])
        source = {key: group[key] for key in ("group_id", *BLOCK[1:], "run_ids", "command")}
        ended = summary.note.partition(", ")[2] if summary.n else summary.note
        words = f"{summary.n}/{group['expected']}" + (f", {ended}" if ended else "")
        values = {
            "done": summary.n,
            "expected_seeds": group["expected"],
            "diverged": summary.diverged,
            "failed": summary.failed,
            "out_of_memory": summary.out_of_memory,
            "incomplete": summary.incomplete,
        }
        column = cells.setdefault((group["title"], "done/expected"), {})
        column[group["label"], group["ruleset"]] = Cell(words, values, source)
    table = [[column.get(row, NONE) for column in cells.values()] for row in rows]
    return pd.DataFrame(
        table,
        index=pd.MultiIndex.from_tuples(rows, names=INDEX),
        columns=pd.MultiIndex.from_tuples(list(cells), names=COLUMNS),
        dtype=object,
    )
