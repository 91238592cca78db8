"""What has run: the seeds that are done, of those that any method of the same task has.

Where a method left more than ``REMARKABLE_PERCENT`` of the weights without its preconditioner, as
K-FAC does with layers beyond its limit, the share stands beside them.
"""

from __future__ import annotations

import pandas as pd

from analysis.render import Cell
from analysis.render.grid import Columns, method_grid, row_of, source_of
from analysis.results.load import Results
from analysis.statistics.effort import LEGEND
from analysis.statistics.summary import summarize

COLUMNS = ["task", "seeds"]
NOTE = LEGEND
NONE = "none"
REMARKABLE_PERCENT = 1.0


def build(results: Results) -> pd.DataFrame:
    """Build the grid.

    Returns:
        Index ``grid.INDEX``; columns ``COLUMNS``, one for each block of comparable runs.
    """
    groups = results.groups
    members = dict(list(results.runs.groupby("group_id")))
    cells: Columns = {}
    for _, group in groups.iterrows():
        summary = summarize(members[group["group_id"]], "final", expected=group["expected"])
        source = source_of(group)
        ended = summary.note.partition(", ")[2] if summary.n else summary.note
        words = f"{summary.n}/{group['expected']}" + (f", {ended}" if ended else "")
        shares = pd.to_numeric(members[group["group_id"]]["left_alone_percent"])
        left_alone = None if shares.isna().all() else float(shares.max())
        if left_alone is not None and left_alone > REMARKABLE_PERCENT:
            words += f", {left_alone:.0f} % of the weights left alone"
        values = {
            "done": summary.n,
            "expected_seeds": group["expected"],
            "diverged": summary.diverged,
            "failed": summary.failed,
            "out_of_memory": summary.out_of_memory,
            "incomplete": summary.incomplete,
            "left_alone_percent": left_alone,
        }
        column = cells.setdefault((group["title"], "done/expected"), {})
        column[row_of(group)] = Cell(words, values, source)
    return method_grid(groups, cells, columns=COLUMNS, missing=NONE)
