"""A published table with ours beside it: models by methods, each cell both numbers."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pandas as pd

from analysis.published.verdict import beside, verdicts
from analysis.render import NONE_OF_RUNS, Cell, value_text
from analysis.results.load import Absent, Results, once
from analysis.statistics.summary import Summary

ROWS = ["dataset", "model"]
COLUMNS = ["numbers", "optimizer"]
HEADING = "published / reproduced"
NEITHER = ""


def published_table(results: Results, number: int, *, setting: bool = False) -> pd.DataFrame:
    """Lay out one table of the paper.

    Args:
        results: All runs.
        number: Of the table.
        setting: Whether its rows differ in their setting too.

    Returns:
        Index ``ROWS`` (and ``setting``), columns ``COLUMNS``: the published methods, then the rules
        that go by AdaFisher's name without being the published one. Cells are ``Cell``.
    """
    judged, others = (frame[frame["table"] == number] for frame in _compared(results))
    keys = [*ROWS, "setting"] if setting else ROWS
    cells: dict[tuple[Hashable, ...], dict[str, Cell]] = {}
    for row in judged.to_dict("records"):
        cells.setdefault(tuple(row[key] for key in keys), {})[row["optimizer"]] = _judged(row)
    for row in others.to_dict("records"):
        cells.setdefault(tuple(row[key] for key in keys), {})[row["rule"]] = _beside(row)
    methods = list(dict.fromkeys([*judged["optimizer"], *others["rule"]]))
    table = [[of.get(method, Cell(NEITHER)) for method in methods] for of in cells.values()]
    columns = pd.MultiIndex.from_tuples([(HEADING, method) for method in methods], names=COLUMNS)
    index = pd.MultiIndex.from_tuples(list(cells), names=keys)
    made = pd.DataFrame(table, index=index, columns=columns, dtype=object)
    if not any(judged["run_ids"]) and others.empty:
        command = next(filter(None, judged["command"]), "")
        made.attrs[NONE_OF_RUNS] = Absent("No run stands beside it.", command, "runs a first row")
    return made


@once
def _compared(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge every row once for all tables."""
    return verdicts(results), beside(results)


def published_text(row: dict[Any, Any]) -> str:
    """Write the published number, as ``95.02 ± 0.11``."""
    mean, std = row["published_mean"], row["published_std"]
    return f"{mean:.2f}" + ("" if math.isnan(std) else f" ± {std:.2f}")


def ours_text(row: dict[Any, Any]) -> str:
    """Write our number over seeds; empty where there is none."""
    if math.isnan(row["mean"]):
        return ""
    std = None if math.isnan(row["std"]) else row["std"]
    summary = Summary(n=int(row["n"]), mean=row["mean"], std=std)
    return f"{value_text(summary)} (n={summary.n})"


def _judged(row: dict[Any, Any]) -> Cell:
    ours = ours_text(row) or str(row["outcome"])
    numbers = ("published_mean", "published_std", "mean", "std", "low", "high", "n")
    values = {key: row[key] for key in (*numbers, "difference", "unit", "verdict")}
    source = {key: row[key] for key in ("run_ids", "command")}
    return Cell(f"{published_text(row)} / {ours}", values, source)


def _beside(row: dict[Any, Any]) -> Cell:
    values = {key: row[key] for key in ("mean", "std", "low", "high", "n", "protocol")}
    return Cell(f"none / {ours_text(row)}", values, {"run_ids": row["run_ids"]})
