"""Tables of methods by blocks of comparable runs."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from analysis.render.cells import TRIALS, Kept
from analysis.results.groups import BLOCK, rows_of
from analysis.statistics.effort import over_blocks

INDEX = ["optimizer", "ruleset", TRIALS]
ROW = ["label", "ruleset"]
Row = tuple[str, ...]
Columns = dict[tuple[str, ...], dict[Row, object]]
"""For each column its cells, by the label and the ruleset of their group."""


def row_of(group: pd.Series) -> Row:
    """Make the row that a group's cells stand in."""
    return tuple(str(group[key]) for key in ROW)


def source_of(group: pd.Series) -> dict[str, object]:
    """Tell where a group's numbers come from, as cells keep it."""
    return {key: group[key] for key in ("group_id", *BLOCK[1:], "run_ids", "command")}


def method_grid(
    groups: pd.DataFrame,
    cells: Mapping[tuple[str, ...], Mapping[Row, object]],
    *,
    columns: list[str],
    missing: str,
) -> pd.DataFrame:
    """Lay cells out, a row for each method of any block, with the trials behind all of its cells.

    Args:
        groups: Of ``group_runs``.
        cells: For each column its cells.
        columns: Names of the columns' levels.
        missing: What stands where a method has no cell.

    Returns:
        Index ``INDEX``.
    """
    rows = {tuple(map(str, row)): _trials(alike) for row, alike in groups.groupby(ROW, sort=True)}
    table = pd.DataFrame(
        [[column.get(row, missing) for column in cells.values()] for row in rows],
        index=pd.MultiIndex.from_tuples([(*row, text) for row, text in rows.items()], names=INDEX),
        columns=pd.MultiIndex.from_tuples(list(cells), names=columns),
        dtype=object,
    )
    table.attrs[TRIALS] = Kept(
        {
            str(title): {tuple(map(str, row)): _trials(alike) for row, alike in block.groupby(ROW)}
            for title, block in groups.groupby("title")
        }
    )
    return table


def _trials(alike: pd.DataFrame) -> str:
    """Give the trials of a method in its blocks; of variants only where it has no row in any."""
    counted = rows_of(alike)
    counted = alike if counted.empty else counted
    return over_blocks(dict(zip(counted["title"], counted["effort"], strict=True)))
