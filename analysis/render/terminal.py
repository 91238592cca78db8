"""A table for the terminal, as data: whole where it fits, else one table a block."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.render import blocks, cell_text, levels, nothing, shown
from analysis.render.cells import with_own_trials, without_alike


def terminal_table(table: pd.DataFrame, caption: str) -> dict[str, Any]:
    """Turn a table into texts; see ``report.terminal.TABLE``."""
    if table.empty:
        return {"nothing": nothing(table), "caption": "", "whole": [], "parts": []}
    table = shown(table)
    several = table.columns.get_level_values(0).nunique() > 1
    parts = []
    for name, part in blocks(table):
        shared = levels(part.columns[0])[1:-1]
        part = part.droplevel(list(range(part.columns.nlevels - 1)), axis="columns")
        # What all rows share need not take a column's width from each of them.
        part, alike = without_alike(with_own_trials(part, name))
        title = ", ".join(filter(None, [": ".join([name, *shared]), *alike]))
        parts.append(_texts(part, title))
    whole = [_texts(table, "")] if several else []
    return {"nothing": "", "caption": caption, "whole": whole, "parts": parts}


def _texts(table: pd.DataFrame, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "names": [str(name) for name in table.index.names],
        "columns": ["\n".join(levels(column)) for column in table.columns],
        "rows": [
            [*levels(key), *(cell_text(cell, fold=True) for cell in row)]
            for key, row in table.iterrows()
        ],
    }
