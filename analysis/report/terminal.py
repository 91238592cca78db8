"""What a report shows, from data: one that is unchanged shows the same without making it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from experiments.records.kinds import TEXT, list_of, mapping
from experiments.system.output import plain, say

_PART = mapping(
    {
        "title": TEXT.needed,
        "names": list_of(TEXT).needed,
        "columns": list_of(TEXT).needed,
        "rows": list_of(list_of(TEXT)).needed,
    }
)
TABLE = mapping(
    {
        "nothing": TEXT.needed,
        "caption": TEXT.needed,
        "whole": list_of(_PART).needed,
        "parts": list_of(_PART).needed,
    }
)
"""A table: what stands in its place where it is empty, else its caption, the table in one piece
where it has several blocks, and each block."""

SHOWN = mapping(
    {
        "warnings": list_of(TEXT).needed,
        "tables": list_of(TABLE).needed,
        "lines": list_of(TEXT).needed,
    }
)
"""All that a report shows: lines on standard error; tables, and the lines below them."""


def show(shown: Mapping[str, Any]) -> None:
    """Show what a report has to say, but its warnings.

    Raises:
        OSError: If standard output does not take it.
    """
    console = Console(highlight=False)
    for table in shown["tables"]:
        show_table(table, console)
    say(*shown["lines"])


def show_table(table: Mapping[str, Any], console: Console) -> None:
    """Print a table whole; a block at a time where it has but one or the whole is too wide."""
    if table["nothing"]:
        console.print(_text(table["nothing"]))
        return
    for part in table["whole"]:
        drawn = _drawn(part)
        if Measurement.get(console, console.options, drawn).maximum < console.width:
            console.print(drawn)
            break
    else:
        for number, part in enumerate(table["parts"]):
            if number:
                console.print()
            # Not as the table's own title, which would wrap at the table's width.
            if part["title"]:
                console.print(_text(part["title"], style="bold"))
            console.print(_drawn(part))
    console.print(_text(table["caption"], style="dim"))


def _text(text: str, style: str = "") -> Text:
    # Text, not str: square brackets of a label must not be read as rich's markup.
    return Text(plain(text), style=style)


def _drawn(part: Mapping[str, Any]) -> Table:
    drawn = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for name in part["names"]:
        drawn.add_column(_text(name), overflow="fold")
    for column in part["columns"]:
        drawn.add_column(_text(column), justify="right", overflow="fold")
    for row in part["rows"]:
        drawn.add_row(*map(_text, row))
    return drawn
