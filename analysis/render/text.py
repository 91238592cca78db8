"""A table as CSV and as Markdown. Whatever comes from a record is escaped."""

from __future__ import annotations

import re

import pandas as pd
from markupsafe import escape

from analysis.render.cells import (
    Cell,
    cell_text,
    commands,
    is_flat,
    is_strong,
    levels,
    nothing,
    pages,
    shown,
)
from analysis.statistics.summary import Summary


def to_csv(table: pd.DataFrame) -> str:
    """Write every number in full precision: a line a cell of a grid, a line a row of a flat table.

    A cell's line ends with the runs behind it and the command that made them.
    """
    if table.empty:
        return str(pd.DataFrame({"note": [nothing(table)]}).to_csv(index=False))
    rows: list[dict[str, object]] = [
        dict(zip(map(str, table.index.names), levels(key), strict=True)) for key in table.index
    ]
    if is_flat(table):
        for place, (_, row) in zip(rows, table.iterrows(), strict=True):
            for name, cell in row.items():
                place[str(name)] = cell_text(cell) if isinstance(cell, Summary | Cell) else cell
    else:
        rows = [
            place
            | dict(zip(map(str, table.columns.names), levels(column), strict=True))
            | _numbers(cell)
            for place, (_, row) in zip(rows, table.iterrows(), strict=True)
            for column, cell in row.items()
        ]
    # As objects, so that a cell without counts does not turn the others into decimals.
    return str(pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n"))


def to_markdown(table: pd.DataFrame, caption: str) -> str:
    """Write GitHub tables, one for all blocks where they fit side by side, then the commands."""
    table = shown(table)
    parts = [_markdown(caption)]
    for part in pages(table):
        heads = ["<br>".join(map(_markdown, levels(column))) for column in part.columns]
        names = [_markdown(str(name)) for name in part.index.names]
        aligned = ["---" if is_flat(part) else "---:"] * len(heads)
        lines = [names + heads, ["---"] * len(names) + aligned]
        for key, row in part.iterrows():
            lines.append([*map(_markdown, levels(key)), *map(_cell, row)])
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if table.empty:
        parts.append(nothing(table))
    listed = [
        f"- {_markdown('; '.join(places))}: `{command.replace('`', '')}`"
        for command, places in commands(table).items()
    ]
    if listed:
        head = "<details><summary>The commands behind the numbers</summary>"
        parts += [head, "\n".join(listed), "</details>"]
    return "\n\n".join(parts) + "\n"


def _cell(cell: object) -> str:
    text = _markdown(cell_text(cell))
    return f"**{text}**" if text and is_strong(cell) else text


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\`*\[\]|])", r"\\\1", str(escape(" ".join(text.split()))))
    return escaped.replace("&#39;", "'").replace("&#34;", '"')


def _numbers(cell: object) -> dict[str, object]:
    if isinstance(cell, Cell):
        return {**cell.values, "note": cell.text, **cell.source}
    if not isinstance(cell, Summary):
        return {"statistic": "", "note": str(cell), "n": 0}
    return {
        "statistic": "mean",
        "mean": cell.mean,
        "std": cell.std,
        "n": cell.n,
        "ci_low": cell.low,
        "ci_high": cell.high,
        "ci_level": cell.level,
        "ci_method": "student-t over seeds",
        "best": cell.strong,
        "expected_seeds": cell.expected,
        "diverged": cell.diverged,
        "failed": cell.failed,
        "out_of_memory": cell.out_of_memory,
        "incomplete": cell.incomplete,
        **({"collapsed": cell.collapsed} if cell.collapsed else {}),
        "note": cell.note,
        **cell.source,
    }
