"""The published numbers, and how each metric of theirs is read off our runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.statistics.equivalence import Equivalence, Reference, equivalence

PUBLISHED = Path(__file__).with_name("published.csv")
PUBLISHED_RUNS = {2: 5}
"""Runs behind a number of each published table, where known: Table 2 is the mean of five."""

NAMES = ("table", "dataset", "model", "setting", "optimizer", "metric")
"""What a published row is called by."""


@dataclass(frozen=True)
class Measure:
    """How a published metric is read off a run.

    Attributes:
        result: ``best_test``, ``last`` (of ``metric``) or ``seconds`` (an epoch).
        margin: Largest difference that counts as reproduced, in ``unit``.
        unit: ``percentage points``, or ``%`` for a difference relative to the published number.
        metric: Of the measurements, for ``last``.
    """

    result: str
    margin: float
    unit: str
    metric: str = ""

    def compare(self, values: Sequence[float], row: Mapping[str, Any]) -> Equivalence:
        """Compare our seeds with a published row in ``unit``; relative ones by logarithms."""
        std = None if math.isnan(row["std"]) else float(row["std"])
        n = None if math.isnan(row["n"]) else int(row["n"])
        if self.unit != "%":
            return equivalence(values, Reference(row["mean"], std, n), margin=self.margin)
        logs = [math.log(value) if value > 0 else math.nan for value in values]
        relative = None if std is None else std / row["mean"]
        reference = Reference(math.log(row["mean"]), relative, n)
        made = equivalence(logs, reference, margin=math.log1p(self.margin / 100))
        return replace(
            made,
            difference=_percent(made.difference),
            low=_percent(made.low),
            high=_percent(made.high),
            margin=self.margin,
        )


ACCURACY = Measure("best_test", 0.5, "percentage points")
PERPLEXITY = Measure("last", 3.0, "%", "test_perplexity_paper")
MEASURES = {
    "test_accuracy_percent": ACCURACY,
    "test_top1_accuracy_percent": ACCURACY,
    "test_perplexity": PERPLEXITY,
    "seconds_per_epoch": Measure("seconds", 3.0, "%"),
}


def read_published(path: Path = PUBLISHED) -> pd.DataFrame:
    """Rows of ``published.csv``, with ``n``: the runs behind each, NaN where unknown."""
    rows = pd.read_csv(path)
    rows["n"] = [PUBLISHED_RUNS.get(table, math.nan) for table in rows["table"]]
    return rows


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _percent(log_ratio: float | None) -> float | None:
    return None if log_ratio is None else 100 * math.expm1(log_ratio)
