"""Epochs of each method: AdaFisher's Table 8, with the source of each number.

The published budgets gave every method the training time of AdaFisher's epochs on the authors'
machine, with the passes over the test set in it; ``budget=match_seconds`` gives every method the
same time of training alone, on yours.
"""

from __future__ import annotations

import pandas as pd

from analysis.published.shipped import shipped
from analysis.results.load import Results


def build(results: Results) -> pd.DataFrame:
    """Build the flat table; it needs no runs.

    Returns:
        Index ``optimizer``; for each family its epochs and their source.
    """
    del results
    families = shipped().epochs
    optimizers = sorted({name for family in families.values() for name in family})
    columns: dict[str, list[object]] = {}
    for family, epochs in families.items():
        columns[f"{family} epochs"] = [
            epochs[name]["value"] if name in epochs else "" for name in optimizers
        ]
        columns[f"{family} source"] = [
            epochs[name]["source"] if name in epochs else "" for name in optimizers
        ]
    index = pd.Index(optimizers, name="optimizer")
    return pd.DataFrame(columns, index=index, dtype=object)
