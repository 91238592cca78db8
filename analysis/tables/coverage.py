"""What has run: the seeds that are done, of those that any method of the same task has."""

from __future__ import annotations

import pandas as pd

from analysis.aggregate import summarize
from analysis.grid import Columns, method_grid, row_of, source_of
from analysis.groups import group_runs
from analysis.load import Results
from analysis.render import Cell
from analysis.statistics.effort import LEGEND

COLUMNS = ["task", "seeds"]
NOTE = LEGEND
NONE = "none"


def build(results: Results) -> pd.DataFrame:
    """Build the grid.

    Returns:
        Index ``grid.INDEX``; columns ``COLUMNS``, one for each block of comparable runs.
    """
    groups = group_runs(results.runs)
    members = dict(list(results.runs.groupby("group_id")))
    cells: Columns = {}
    for _, group in groups.iterrows():
        summary = summarize(members[group["group_id"]], "final", expected=group["expected"])
        source = source_of(group)
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
        column[row_of(group)] = Cell(words, values, source)
    return method_grid(groups, cells, columns=COLUMNS, missing=NONE)
