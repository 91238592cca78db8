"""A table on the terminal: whole where it fits, else one table a block."""

from __future__ import annotations

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from analysis.render import blocks, cell_text, levels, nothing, shown
from experiments.system.output import plain


def print_table(table: pd.DataFrame, caption: str, console: Console) -> None:
    """Print the table whole; a block at a time where it has but one or the whole is too wide."""
    if table.empty:
        console.print(_text(nothing(table)))
        return
    table = shown(table)
    whole = _drawn(table, "")
    fits = Measurement.get(console, console.options, whole).maximum < console.width
    if fits and table.columns.get_level_values(0).nunique() > 1:
        console.print(whole)
    else:
        for name, part in blocks(table):
            shared = levels(part.columns[0])[1:-1]
            part = part.droplevel(list(range(part.columns.nlevels - 1)), axis="columns")
            # What all rows share need not take a column's width from each of them.
            alike = [key for key in part.index.names[1:] if part.index.unique(key).size == 1]
            parts = [f"{key} {part.index.unique(key)[0]}" for key in alike]
            title = ", ".join(filter(None, [": ".join([name, *shared]), *parts]))
            console.print(_drawn(part.droplevel(alike), title))
    console.print(_text(caption, style="dim"))


def _text(text: str, style: str = "") -> Text:
    # Text, not str: square brackets of a label must not be read as rich's markup.
    return Text(plain(text), style=style)


def _drawn(table: pd.DataFrame, title: str) -> Table:
    drawn = Table(
        title=_text(title, style="bold") if title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in table.index.names:
        drawn.add_column(_text(str(name)), overflow="fold")
    for column in table.columns:
        drawn.add_column(_text("\n".join(levels(column))), justify="right", overflow="fold")
    for key, row in table.iterrows():
        cells = (cell_text(cell, fold=True) for cell in row)
        drawn.add_row(*map(_text, (*levels(key), *cells)))
    return drawn
