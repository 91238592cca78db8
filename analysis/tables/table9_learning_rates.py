"""Learning rates: the paper's by family of models (Table 9), and those tuned here by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.published.shipped import shipped
from analysis.render import Cell
from analysis.results.groups import group_runs, rows_of
from analysis.results.load import Results

COLUMNS = ["ruleset", "for"]
NONE = "none"


def build(results: Results) -> pd.DataFrame:
    """Build the grid; the paper's part needs no runs.

    Returns:
        Index ``optimizer``; columns ``COLUMNS``: a family of models, or a task whose runs have
        tuned rates.
    """
    rates = {
        ("paper", family): {name: _cell(rate) for name, rate in of.items()}
        for family, of in shipped().learning_rates.items()
    }
    rates |= {("tuned", task): of for task, of in _tuned(results.runs).items()}
    optimizers = sorted({name for of in rates.values() for name in of})
    cells = [[of.get(name, Cell(NONE)) for of in rates.values()] for name in optimizers]
    columns = pd.MultiIndex.from_tuples(list(rates), names=COLUMNS)
    index = pd.Index(optimizers, name="optimizer")
    return pd.DataFrame(cells, index=index, columns=columns, dtype=object)


def _tuned(runs: pd.DataFrame) -> dict[str, dict[str, Cell]]:
    """Find the rates of the methods' rows by tuning and optimizer, without what was typed."""
    found: dict[str, dict[str, dict[float, None]]] = {}
    rows = rows_of(group_runs(runs))
    for _, row in rows[(rows["ruleset"] == "tuned") & (rows["control"] == "")].iterrows():
        if row["hyperparameters"].get("lr") is not None:
            name = row["task"] + (f", tuned={row['tuned']}" if row["tuned"] else "")
            of = found.setdefault(name, {}).setdefault(row["optimizer"], {})
            of[row["hyperparameters"]["lr"]] = None
    return {
        task: {
            # Files of different times.
            name: Cell(", ".join(f"{rate:g}" for rate in rates), {"lr": next(iter(rates))})
            for name, rates in of.items()
        }
        for task, of in found.items()
    }


def _cell(rate: Mapping[str, Any]) -> Cell:
    return Cell(f"{rate['value']:g}", {"lr": rate["value"], "source": rate["source"]})
