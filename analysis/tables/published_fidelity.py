"""What each published row was run with, as far as it is known, and whether it runs so here."""

from __future__ import annotations

import pandas as pd

from analysis.published.fidelity import ASPECTS, aspects, notes
from analysis.published.numbers import read_published, records
from analysis.published.shipped import shipped
from analysis.results.load import Results

NOTE = """\
As published: the paper's text states it, and the first recipe of the row runs it so. As released: \
the released code or its configurations have it. Differs: another value runs here, or none. \
Unknown: neither says. The method is its rule and hyperparameters without decay, which has a \
column of its own."""
"""What the caption goes on with."""

INDEX = ["table", "dataset", "model", "setting", "optimizer"]


def build(results: Results) -> pd.DataFrame:
    """Build the flat table; it needs no runs.

    Returns:
        Index ``INDEX``; columns ``fidelity.ASPECTS`` and ``note``.
    """
    rows = []
    for row in records(read_published()):
        found = aspects(row, shipped())
        texts = {name: found[name].text for name in ASPECTS}
        rows.append(
            {key: row[key] for key in INDEX} | texts | {"note": notes(found, differences=False)}
        )
    return pd.DataFrame(rows).set_index(INDEX).astype(object)
