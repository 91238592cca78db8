"""Seconds an epoch by number of GPUs (Table 6); hardware of its own, so there is no verdict.

Published on the left, ours on the right where runs join the row; the verdicts and the commands are
in the table published_vs_reproduced. The authors' time includes the pass over the test set, ours
does not; the table cost has both where a record has them.
"""

from __future__ import annotations

import pandas as pd

from analysis.published.tables import published_table
from analysis.results.load import Results


def build(results: Results) -> pd.DataFrame:
    """Build the grid of models by methods; see ``published_table``."""
    return published_table(results, 6, setting=True)
