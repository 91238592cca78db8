"""Every published number, ours beside it, and a verdict by one rule."""

from __future__ import annotations

import pandas as pd

from analysis.published.fidelity import aspects, notes
from analysis.published.numbers import records
from analysis.published.shipped import shipped
from analysis.published.tables import ours_text, published_text
from analysis.published.verdict import COLUMNS, RULE, verdicts
from analysis.render import CSV_ONLY
from analysis.render.cells import Kept
from analysis.results.load import Results

NOTE = f"""{RULE} As run: what is known of the row's own runs and is not, or not all, what the \
first recipe here runs; the table published_fidelity has every row's method, model, weights, \
batch, loss scale and decay."""
"""What the caption goes on with."""

INDEX = ["table", "dataset", "model", "setting", "optimizer", "metric"]
COMMANDS = "commands"
"""Key of ``DataFrame.attrs``: ``Kept`` commands of each row, also where its verdict has it."""
SHOWN = ["published", "reproduced", "difference_text", "verdict", "command", "as_run"]


def build(results: Results) -> pd.DataFrame:
    """Build the flat table.

    Returns:
        Index ``INDEX``; columns ``SHOWN``, and in the CSV alone all others of ``verdict.COLUMNS``.
    """
    made = verdicts(results)
    rows = made.to_dict("records")
    made["published"] = [published_text(row) for row in rows]
    made["reproduced"] = [ours_text(row) for row in rows]
    made["difference_text"] = [
        f"{row['difference']:+.2f} {row['unit']}" if row["difference"] == row["difference"] else ""
        for row in rows
    ]
    commands = list(made["command"])
    # A command that stands in the verdict need not stand beside it.
    made["command"] = [
        "" if row["command"] and row["command"] in row["verdict"] else row["command"]
        for row in rows
    ]
    made["as_run"] = [notes(aspects(row, shipped())) for row in records(made)]
    rest = [name for name in COLUMNS if name not in (*INDEX, *SHOWN)]
    table = made.set_index(INDEX)[[*SHOWN, *rest]].astype(object)
    table.attrs |= {CSV_ONLY: rest, COMMANDS: Kept(commands)}
    return table.rename(columns={"difference_text": "ours minus published", "as_run": "as run"})
