"""Tables of methods by blocks of comparable runs."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.groups import BLOCK

INDEX = ["optimizer", "ruleset", "trials"]
Row = tuple[str, ...]
Columns = dict[tuple[str, ...], dict[Row, object]]
"""For each column its cells, by the label, the ruleset and the trials of their group."""


def row_of(group: pd.Series) -> Row:
    """The row that a group's cells stand in."""
    return tuple(str(group[key]) for key in ("label", "ruleset", "trials"))


def source_of(group: pd.Series) -> dict[str, object]:
    """Where a group's numbers come from, as cells keep it."""
    return {key: group[key] for key in ("group_id", *BLOCK[1:], "run_ids", "command")}


def method_grid(
    groups: pd.DataFrame,
    cells: Mapping[tuple[str, ...], Mapping[Row, object]],
    *,
    columns: list[str],
    missing: str,
) -> pd.DataFrame:
    """Lay cells out, a row for each method of any block.

    Args:
        groups: Of ``group_runs``.
        cells: For each column its cells.
        columns: Names of the columns' levels.
        missing: What stands where a method has no cell.

    Returns:
        Index ``INDEX``.
    """
    rows = sorted({row_of(group) for _, group in groups.iterrows()})
    return pd.DataFrame(
        [[column.get(row, missing) for column in cells.values()] for row in rows],
        index=pd.MultiIndex.from_tuples(rows, names=INDEX),
        columns=pd.MultiIndex.from_tuples(list(cells), names=columns),
        dtype=object,
    )
