"""Every published number, ours beside it, and a verdict by one rule."""

from __future__ import annotations

import pandas as pd

from analysis.load import Results
from analysis.published_tables import ours_text, published_text
from analysis.render import CSV_ONLY
from analysis.verdict import COLUMNS, RULE, verdicts

NOTE = RULE
"""What the caption goes on with."""

INDEX = ["table", "dataset", "model", "setting", "optimizer", "metric"]
SHOWN = ["published", "reproduced", "difference_text", "verdict", "command"]


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
    # A command that stands in the verdict need not stand beside it.
    made["command"] = [
        "" if row["command"] and row["command"] in row["verdict"] else row["command"]
        for row in rows
    ]
    rest = [name for name in COLUMNS if name not in (*INDEX, *SHOWN)]
    table = made.set_index(INDEX)[[*SHOWN, *rest]].astype(object)
    table.attrs[CSV_ONLY] = rest
    return table.rename(columns={"difference_text": "ours minus published"})
