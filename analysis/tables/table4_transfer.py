"""CIFAR-10 and CIFAR-100 from ImageNet weights (Table 4): best test accuracy in %.

Published on the left, ours on the right where runs join the row; the verdicts and the commands are
in the table published_vs_reproduced.
"""

from __future__ import annotations

import pandas as pd

from analysis.published.tables import published_table
from analysis.results.load import Results


def build(results: Results) -> pd.DataFrame:
    """Build the grid of models by methods; see ``published_table``."""
    return published_table(results, 4)
