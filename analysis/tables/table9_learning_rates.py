"""Learning rates: the paper's by family of models (Table 9), and those tuned here by task."""

from __future__ import annotations

import pandas as pd

from analysis import conf
from analysis.load import Results
from analysis.render import Cell

COLUMNS = ["ruleset", "for"]
NONE = "none"


def build(results: Results) -> pd.DataFrame:
    """Build the grid; it needs no runs.

    Returns:
        Index ``optimizer``; columns ``COLUMNS``: a family of models, or a task.
    """
    del results
    rates = {
        (ruleset, place): of
        for ruleset in ("paper", "tuned")
        for place, of in conf.learning_rates(ruleset).items()
    }
    optimizers = sorted({name for of in rates.values() for name in of})
    cells = [[_cell(of.get(name)) for of in rates.values()] for name in optimizers]
    columns = pd.MultiIndex.from_tuples(list(rates), names=COLUMNS)
    index = pd.Index(optimizers, name="optimizer")
    return pd.DataFrame(cells, index=index, columns=columns, dtype=object)


def _cell(rate: conf.Sourced | None) -> Cell:
    if rate is None:
        return Cell(NONE)
    return Cell(f"{rate.value:g}", {"lr": rate.value, "source": rate.source})
