"""Test metric by optimizer and task: mean ± sample standard deviation over seeds (n).

``final`` is taken at the epoch that is best on validation (at the last epoch where there is no
validation split); ``best_test`` is the best epoch on the test set itself. Bold: better than every
other method of its column, each by a paired Student t over seeds at 5 %, which holds for the best
of many without a correction; equal seeds, and differences that are all equal, decide nothing.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd

from analysis.render import Cell
from analysis.render.grid import Columns, method_grid, row_of, source_of
from analysis.results.groups import rows_of, without_row
from analysis.results.leaders import leader_comparisons
from analysis.results.load import Results
from analysis.statistics.effort import LEGEND
from analysis.statistics.summary import summarize
from analysis.style import metric_label

COLUMNS = ["task", "metric", "result"]
NOTE = LEGEND
NOT_RUN = "not run"
VARIANTS_ONLY = "variants only"
VERSIONS = "{} versions"  # of one method: nothing tells which counts


def build(results: Results) -> pd.DataFrame:
    """Build the table.

    Returns:
        Index ``grid.INDEX``; columns ``COLUMNS``, two for each block of comparable runs; cells are
        ``Summary``, or ``NOT_RUN`` where a method has no run in that block, or ``VARIANTS_ONLY``
        where it has none as its ruleset has it (see the table of variants).
    """
    every = results.groups
    groups = rows_of(every)
    cells: Columns = {}
    members = dict(list(results.runs.groupby("group_id")))
    shown = {title: results.known_of(block) for title, block in every.groupby("title")}
    carried = {
        (contest.outcome.leader, contest.result)
        for contest in leader_comparisons(results)
        if contest.outcome.significant
    }
    for _, group in groups.iterrows():
        metric = _metric(group)
        source = source_of(group)
        source["hyperparameters"] = json.dumps(group["hyperparameters"], sort_keys=True)
        for result in shown[group["title"]]:
            column = cells.setdefault((group["title"], metric, result), {})
            summary = summarize(
                members[group["group_id"]], result, expected=group["expected"], source=source
            )
            strong = (group["group_id"], result) in carried
            column[row_of(group)] = replace(summary, strong=strong)
    for _, group in without_row(every).iterrows():
        metric = _metric(group)
        for result in shown[group["title"]]:
            column = cells.setdefault((group["title"], metric, result), {})
            text = VARIANTS_ONLY if group["versions"] < 2 else VERSIONS.format(group["versions"])
            column[row_of(group)] = Cell(text, source=source_of(group))
    return method_grid(
        pd.concat([groups, without_row(every)]), cells, columns=COLUMNS, missing=NOT_RUN
    )


def _metric(group: pd.Series) -> str:
    arrow = "↑" if group["higher_is_better"] else "↓"
    return f"{metric_label(group['metric'], group['units'])} {arrow}"
