"""Configurations that are not those of a ruleset: what was typed, and the test metric over seeds.

Mean ± sample standard deviation (n), as in the main table. Whoever chooses among them by these
numbers has chosen on the test set: they carry no verdict and stand for no method.
"""

from __future__ import annotations

import pandas as pd

from analysis.render import MISSING
from analysis.render.grid import Columns, method_grid, row_of, source_of
from analysis.results.load import Absent, Results
from analysis.statistics.summary import summarize
from analysis.style import metric_label

COLUMNS = ["task", "metric", "result"]
NOT_RUN = ""
WHY = "No variants: every run has the values of its ruleset."
COMMAND = (
    ".venv/bin/python -m experiments.train -m optimizer=adamw optimizer.lr=1e-4,1e-2 task=digits "
    "seed=0,1,2"
)


def build(results: Results) -> pd.DataFrame:
    """Build the table.

    Returns:
        Index ``grid.INDEX``; columns ``COLUMNS``, two for each block of comparable runs that has a
        variant; cells are ``Summary``.
    """
    groups = results.groups
    groups = groups[~groups["is_row"].astype(bool)]
    members = dict(list(results.runs.groupby("group_id")))
    shown = {title: results.known_of(block) for title, block in groups.groupby("title")}
    cells: Columns = {}
    for _, group in groups.iterrows():
        arrow = "↑" if group["higher_is_better"] else "↓"
        metric = f"{metric_label(group['metric'], group['units'])} {arrow}"
        for result in shown[group["title"]]:
            column = cells.setdefault((group["title"], metric, result), {})
            column[row_of(group)] = summarize(
                members[group["group_id"]],
                result,
                expected=group["expected"],
                source=source_of(group),
            )
    table = method_grid(groups, cells, columns=COLUMNS, missing=NOT_RUN)
    table.attrs[MISSING] = Absent(WHY, COMMAND, does="")
    return table
