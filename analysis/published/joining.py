"""Which runs may count for which published row, and what keeps the others from it.

A run stands *near* a row if its names are the published ones, or begin with them (``cifar10_jpeg``,
``adafisher_v3``). It *joins* the row only if its record and the shipped configuration both say
``published_as`` with the names of the row, so that neither a note changed on the command line nor a
file changed since can make it join alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from analysis.published.shipped import KINDS, Shipped

Key = tuple[str, str, str, str]
"""Published names of task, model and optimizer, and the setting."""

WORDS = {"task": "data", "model": "model", "optimizer": "optimizer"}
ROW_COLUMNS = {"task": "dataset", "model": "model", "optimizer": "optimizer"}


@dataclass(frozen=True)
class Candidate:
    """A run that stands near a published row.

    Attributes:
        index: Its place among the runs.
        key: The row's names.
        differs: What keeps it from joining, as ``data: cifar10_jpeg``; empty if it joins.
        other_rule: Whether the optimizer is not the published one, as the seed's rule.
    """

    index: int
    key: Key
    differs: tuple[str, ...]
    other_rule: bool

    @property
    def other_rule_alone(self) -> bool:
        """Whether nothing else keeps it from joining."""
        return self.other_rule and len(self.differs) == 1


def near_runs(
    runs: Sequence[Mapping[str, Any]], rows: pd.DataFrame, shipped: Shipped
) -> list[Candidate]:
    """All runs that stand near a row of ``published.csv``.

    Args:
        runs: Rows of the run-level frame.
        rows: Of ``read_published``.
        shipped: Of ``shipped.shipped``.
    """
    names = {kind: frozenset(rows[column]) for kind, column in ROW_COLUMNS.items()}

    @cache
    def nearest(kind: str, name: str) -> tuple[str | None, str | None]:
        said = shipped.published_as[kind].get(name)
        alike = [p for p in names[kind] if name == p or name.startswith(f"{p}_")]
        return said, said or max(alike, key=len, default=None)

    found = []
    for index, run in enumerate(runs):
        recorded = run["published_as"] if isinstance(run["published_as"], dict) else {}
        key, differs = [], {}
        for kind in KINDS:
            said, stem = nearest(kind, run[kind])
            key.append(stem)
            if said is None or recorded.get(kind) != said:
                text = said is not None and kind == "task" and run["tokenization"]
                word, what = ("tokenisation", text) if text else (WORDS[kind], run[kind])
                differs[kind] = f"{word}: {what}"
        if None not in key:
            found.append(
                Candidate(
                    index,
                    (str(key[0]), str(key[1]), str(key[2]), str(run["setting"])),
                    tuple(differs.values()),
                    "optimizer" in differs,
                )
            )
    return found


def by_key(near: Iterable[Candidate]) -> dict[Key, list[Candidate]]:
    """Group by the row that they stand near."""
    grouped: dict[Key, list[Candidate]] = {}
    for one in near:
        grouped.setdefault(one.key, []).append(one)
    return grouped
